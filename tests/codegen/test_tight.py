"""LR/SC sequences with nothing but registers in between: found alike by decoder and translator, exact without marks."""

from __future__ import annotations

import ctypes
import random

import pytest

from mpemu.codegen.marks import RESERVED
from mpemu.codegen.tight import MAX_BETWEEN, tight_distance_on
from mpemu.isa.registry import INSNS
from mpemu.layout import PAGE
from mpemu.unit import OPTIMISED, QUICK
from tests.codegen.lab import A0, A1, A2, A3, A4, A5, T0, Lab, asm
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab

CODE = RAM + 0x1000
WORD = RAM + 0x4_0000
OTHER_VALUE = 0x1_0000_0005
SEEDS = range(300)

LR = asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0)
SC = asm("sc.d", rd=A3, rs2=A2, rs1=A1, aq=0, rl=0)
LR_W = asm("lr.w", rd=A0, rs1=A1, aq=0, rl=0)
SC_W = asm("sc.w", rd=A3, rs2=A2, rs1=A1, aq=0, rl=0)
ADD = asm("addi", rd=A2, rs1=A0, imm=1)
SHORT = (0x0605).to_bytes(2, "little")  # c.addi a2, 1
LOAD = asm("ld", rd=A4, rs1=A1, imm=8)
RETRY = asm("bne", rs1=A3, rs2=0, imm=-12)


def branch(imm: int) -> bytes:
    return asm("bne", rs1=A5, rs2=0, imm=imm)


SEQUENCES: dict[str, tuple[list[bytes], int]] = {
    "nothing between": ([LR, SC], 1),
    "read, modify, write": ([LR, ADD, SC, RETRY], 2),
    "words": ([LR_W, ADD, SC_W], 2),
    "short instructions": ([LR, SHORT, ADD, SHORT, SC], 4),
    "compare and swap": ([LR, branch(12), SC, RETRY], 2),
    "compare, modify, write": ([LR, branch(20), ADD, SC], 3),
    "waits until the word is 0": ([LR, branch(-4), ADD, SC], 3),
    "wait on reservation": ([LR, branch(8), asm("wrs.nto")], 2),
    "as many as there may be": ([LR, *[ADD] * MAX_BETWEEN, SC], MAX_BETWEEN + 1),
    "more": ([LR, *[ADD] * (MAX_BETWEEN + 1), SC], 0),
    "a load": ([LR, LOAD, SC], 0),
    "a store": ([LR, asm("sd", rs2=A2, rs1=A1, imm=8), SC], 0),
    "a CSR": ([LR, asm("csrrs", rd=A4, csr=0xC01, rs1=0), SC], 0),
    "a fence": ([LR, asm("fence", pred=3, succ=3, fm=0, rd=0, rs1=0), SC], 0),
    "floating point": ([LR, asm("fadd.d", fd=0, fs1=0, fs2=0, rm=7), SC], 0),
    "another LR": ([LR, LR, SC], 0),
    "another width": ([LR, ADD, SC_W], 0),
    "another register": ([LR, ADD, asm("sc.d", rd=A3, rs2=A2, rs1=A4, aq=0, rl=0)], 0),
    "room for an access and a jump on the branch's other side": ([LR, branch(40), ADD, ADD, SC], 0),
    "the same behind the first of two branches": ([LR, branch(40), ADD, branch(40), SC], 0),
    "a branch over an instruction": ([LR, branch(8), ADD, SC], 0),
    "a branch into an instruction": ([LR, branch(6), ADD, SC], 0),
    "a branch into the LR": ([LR, branch(-2), SC], 0),
    "never an SC": ([LR, ADD, bytes(4)], 0),
}


class Finder(Lab):
    """Looks at a page of code in both ways."""

    def __init__(self) -> None:
        super().__init__()
        self._page = ctypes.create_string_buffer(PAGE)

    def distance(self, page: bytes, at: int) -> int:
        ctypes.memmove(self._page, page, PAGE)
        native = self.routine("tight_distance", ctypes.addressof(self._page), at).result
        assert native == tight_distance_on(page, at, self.isa)
        return native


def page_with(code: bytes, at: int) -> bytes:
    return (bytes(at) + code + bytes(PAGE))[:PAGE]


@pytest.mark.parametrize(("code", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_what_is_tight(code: list[bytes], expected: int) -> None:
    assert Finder().distance(page_with(b"".join(code), 64), 64) == expected


def test_a_sequence_ends_with_its_page() -> None:
    finder = Finder()
    assert finder.distance(page_with(LR + ADD + SC, PAGE - 12), PAGE - 12) == 2
    assert finder.distance(page_with(LR + ADD + SC, PAGE - 10), PAGE - 10) == 0


def test_decoder_and_translator_agree() -> None:
    finder = Finder()
    between = [ADD, SHORT, *(asm(name, rd=A4, rs1=A0, rs2=A2) for name in ("add", "mul", "sh1add", "min"))]
    found = set()
    for seed in SEEDS:
        rng = random.Random(seed)
        pieces = [rng.choice((LR, LR_W))]
        for _ in range(rng.choice((1, 2, 4, 16))):
            kind = rng.random()
            if kind < 0.7:
                pieces.append(rng.choice(between))
            elif kind < 0.9:
                pieces.append(branch(2 * rng.randrange(-20, 20)))
            else:
                insn = INSNS[rng.choice(sorted(INSNS))]
                pieces.append((insn.pattern.match | rng.getrandbits(32) & ~insn.pattern.mask).to_bytes(4, "little"))
        at = 2 * rng.randrange(PAGE // 2 - 2)
        found.add(finder.distance(page_with(b"".join([*pieces, rng.choice((SC, SC_W))]), at), at))
    assert len(found) > 3, "too few of them were tight"


# -- what they do
class Harts(Lab):
    """``run_all``: the code at CODE on a hart, up to its EBREAK."""

    def __init__(self) -> None:
        super().__init__(2)

    def marked(self) -> int:
        return ctypes.c_uint32.from_address(self.memory.machine.page_marks + 4 * ((WORD - RAM) // PAGE)).value

    def prepare_marked_page(self) -> None:
        """Hart 1 executes a sequence that needs a mark."""
        self.place(CODE + PAGE, LR, LOAD, SC)
        self.done(CODE + PAGE, hart=1, x11=WORD)
        self.done(CODE + PAGE, hart=1, x11=WORD, x12=0)
        assert self.marked() == RESERVED


@pytest.fixture
def harts() -> Harts:
    return Harts()


def test_it_works_at_once_and_marks_nothing(harts: Harts) -> None:
    harts.place(CODE, LR, ADD, SC)
    for value in range(4):
        hart = harts.done(CODE, x11=WORD)
        assert (hart.x[A0], hart.x[A3], harts.load(WORD)) == (value, 0, value + 1)
    assert harts.marked() == 0


def test_words_leave_their_neighbours_alone(harts: Harts) -> None:
    harts.store(WORD, 0xFFFF_FFFF_8000_0000)
    harts.place(CODE, LR_W, ADD, SC_W)
    for _ in range(2):
        assert harts.done(CODE, x11=WORD).x[A3] == 0
    assert harts.load(WORD) == 0xFFFF_FFFF_8000_0002
    assert harts.hart().x[A0] == 0xFFFF_FFFF_8000_0001


def test_on_a_marked_page_other_reservations_end(harts: Harts) -> None:
    harts.prepare_marked_page()
    harts.place(CODE, LR, ADD, SC)
    harts.place(CODE + 0x100, LR)
    harts.place(CODE + 0x200, SC)
    for _ in range(2):  # with and without a TLB that knows
        harts.done(CODE + 0x100, hart=1, x11=WORD)
        assert harts.done(CODE, x11=WORD).x[A3] == 0
        assert harts.done(CODE + 0x200, hart=1, x11=WORD, x12=OTHER_VALUE).x[A3] == 1
    assert harts.load(WORD) == 2


def test_the_sc_of_another_path_fails(harts: Harts) -> None:
    """The counts differ, though the value is the one that the LR returned."""
    harts.place(CODE, LR, branch(8), SC, ADD, ADD, SC)
    hart = harts.done(CODE, x11=WORD, x15=1, x12=OTHER_VALUE)
    assert hart.x[A3] == 1 and harts.load(WORD) == 0


def test_a_loop_whose_sc_is_on_another_path_gets_on(harts: Harts) -> None:
    """An SC that is not where the LR expects it: from then on versions decide."""
    harts.place(CODE, LR, branch(8), SC, ADD, ADD, SC, asm("bne", rs1=A3, rs2=0, imm=-24))
    for value in range(1, 40):
        hart = harts.done(CODE, quantum=1000, x11=WORD, x15=1)
        assert hart.x[A3] == 0 and harts.load(WORD) == value


def test_an_sc_without_its_lr_fails(harts: Harts) -> None:
    harts.place(CODE, LR, SC, SC, asm("addi", rd=T0, rs1=A3, imm=0))
    assert harts.done(CODE, x11=WORD, x12=1).x[T0] == 1
    harts.place(CODE + 0x100, SC)
    assert harts.done(CODE + 0x100, x11=WORD, x12=2).x[A3] == 1
    assert harts.load(WORD) == 1


def test_a_reservation_does_not_outlive_the_next_lr(harts: Harts) -> None:
    """First one by versions, then a tight one elsewhere: only the latter counts."""
    lr, sc = asm("lr.d", rd=A0, rs1=A5, aq=0, rl=0), asm("sc.d", rd=A3, rs2=A2, rs1=A5, aq=0, rl=0)
    harts.prepare_marked_page()
    for between in (lr + sc, lr + branch(8) + sc):  # the latter is left before its SC
        harts.place(CODE, LR, LOAD, between, SC)
        hart = harts.done(CODE, x11=WORD, x15=WORD + 64, x12=OTHER_VALUE)
        assert hart.x[A3] == 1 and harts.load(WORD) == 0


def test_a_trap_in_between_makes_it_fail(harts: Harts) -> None:
    """The SC's page may not be written: what the handler executes counts."""
    harts.place(CODE, LR, ADD, SC)
    hart = harts.hart()
    hart.pmpcfg_0 = 0x9D  # locked, read and execute only, all memory
    harts.done(CODE, x11=WORD, cause=7)
    hart.pmpcfg_0 = 0x1F
    harts.routine("flush_tlb")
    assert harts.done(CODE + 8, x11=WORD, x12=OTHER_VALUE).x[A3] == 1
    assert harts.load(WORD) == 0
    assert hart.tight_distrust == 0, "it did not take another path"


def test_an_interrupt_in_between_makes_it_fail(harts: Harts) -> None:
    """Taken where the next page begins, so the LR belongs to a sequence that it did not look at to its end."""
    harts.place(CODE, LR)
    harts.place(CODE + 0x200, SC)
    hart = harts.done(CODE, x11=WORD)
    hart.tight_due, hart.tight_word = hart.instret + 1, harts.memory.ram_address + WORD - RAM + 1
    hart.mstatus, hart.mie, hart.mip = 8, 2, 2
    harts.run(CODE + 0x200, x11=WORD)
    assert hart.interrupts == 1
    hart.mip = 0
    assert harts.done(CODE + 0x200, x11=WORD, x12=OTHER_VALUE).x[A3] == 1
    assert hart.tight_distrust == 0 and harts.load(WORD) == 0


@pytest.mark.parametrize("width", ["w", "d"])
def test_a_wait_ends_when_the_value_changes(harts: Harts, width: str) -> None:
    harts.place(CODE, asm(f"lr.{width}", rd=A0, rs1=A1, aq=0, rl=0), ADD, asm("wrs.sto"), asm("jal", rd=0, imm=0))
    harts.run(CODE, x11=WORD)
    assert harts.routine("reservation_lasts").result == 1
    harts.store(WORD + 8, 1)
    assert harts.routine("reservation_lasts").result == 1
    harts.store(WORD + (4 if width == "d" else 0), 1, 4)
    assert harts.routine("reservation_lasts").result == 0
    assert harts.marked() == 0


def test_a_trap_ends_a_wait(harts: Harts) -> None:
    harts.place(CODE, LR, ADD, asm("wrs.sto"))
    harts.done(CODE, x11=WORD)
    assert harts.routine("reservation_lasts").result == 0


# -- translated
@pytest.mark.parametrize("tier", (QUICK, OPTIMISED), ids=("quick", "optimised"))
def test_a_region_whose_lr_begins_no_tight_sequence(tier: int) -> None:
    """The SC is on the next page. The first LRs mark the page; none is taken for the beginning of a tight one."""
    lab = TranslatedLab()
    lab.begin_with(tier)
    turns = 20
    head = CODE + PAGE - 28
    loop = [*[asm("addi", rd=A4, rs1=A4, imm=1)] * 5, LR, ADD, SC, asm("bne", rs1=A3, rs2=0, imm=-12)]
    back = asm("addi", rd=T0, rs1=T0, imm=-1) + asm("bne", rs1=T0, rs2=0, imm=-4 * len(loop) - 4)
    lab.place(head, *loop, back)
    assert lab.translate(head) == 1
    hart = lab.done(head, quantum=1000, x11=WORD, x5=turns)
    assert lab.load(WORD) == turns
    assert hart.tight_distrust == 0
    assert lab.translated([head]) == {head}
    lab.close()


@pytest.mark.parametrize("heads", [(0,), (8,), (0, 8)], ids=["from the LR", "from the SC", "both"])
def test_interpreter_and_regions_share_a_sequence(heads: tuple[int, ...]) -> None:
    """Whoever executes the LR and whoever executes the SC: it works, and marks nothing."""
    lab = TranslatedLab()
    turns = 50
    loop = [LR, ADD, SC, RETRY, asm("addi", rd=T0, rs1=T0, imm=-1), asm("bne", rs1=T0, rs2=0, imm=-20)]
    lab.place(CODE, *loop)
    assert lab.translate(*(CODE + head for head in heads)) == len(heads)
    hart = lab.done(CODE, quantum=1000, x11=WORD, x5=turns)
    assert lab.load(WORD) == turns
    assert hart.pages_marked == 0
    assert lab.translated([CODE + head for head in heads]) == {CODE + head for head in heads}
    lab.close()
