"""Regions that reach memory by a window (codegen/window.py), or by sites that became one where there is paging: what
closes it, and who may not come through it.

Each test lets a translated loop work through an open window, changes what the window stands for, and lets the loop run
again. With the window left open it would go on as before.
"""

from __future__ import annotations

from typing import Any

import pytest

from mpemu.isa.privileged import MPP_SHIFT, MPRV, Cause, Mode
from mpemu.layout import POINTS_PER_EXIT, POINTS_PER_SAMPLE, REGIME, REGION_EXITS
from tests.codegen.lab import A0, A1, A2, A3, A4, RWX, SV39, A, R, V, W, asm, pte
from tests.codegen.native_hart import RAM
from tests.codegen.pmp import ALL_ADDRESSES, EVERYTHING, NOTHING, READS
from tests.codegen.reserving import FAILED, SUCCEEDED
from tests.codegen.translated import TranslatedLab, lab_fixture

PAGE, MEGAPAGE = 4096, 1 << 21
AT = PAGE
"""Where the data is in a megapage."""
ROOT, MIDDLE = RAM + 0x1_0000, RAM + 0x1_1000
LOOP, LR, SC, SFENCE_ALL, SFENCE_PAGE, SINVAL, SATP, PMP, STRIDES = (RAM + 0x2_0000 + 0x100 * n for n in range(9))
DATA, ELSEWHERE = RAM + 0x3_0000, RAM + 0x5_0000
HERE, THERE = RAM + MEGAPAGE, RAM + 3 * MEGAPAGE
"""Megapages, with one behind each."""
START = 0x4000_0000
"""Where the one or the other is mapped; RAM is mapped 1:1 besides."""
MAPPED = START + AT
TURNS = 5
QUANTUM = 1000


class Windows(TranslatedLab):
    def __init__(self) -> None:
        super().__init__(harts=2, size=5 * MEGAPAGE)
        # a1 times: a0 += (a2), (a2 + 8) = a3
        self.place(LOOP, asm("ld", rd=A4, rs1=A2, imm=0), asm("add", rd=A0, rs1=A0, rs2=A4),
                   asm("sd", rs1=A2, rs2=A3, imm=8), asm("addi", rd=A1, rs1=A1, imm=-1),
                   asm("bne", rs1=A1, rs2=0, imm=-16))  # fmt: skip
        self.place(LR, asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0))
        self.place(SC, asm("sc.d", rd=A0, rs2=A2, rs1=A1, aq=0, rl=0))
        self.place(SFENCE_ALL, asm("sfence.vma", rs1=0, rs2=0))
        self.place(SFENCE_PAGE, asm("sfence.vma", rs1=A1, rs2=0))
        self.place(SINVAL, asm("sinval.vma", rs1=A1, rs2=0))
        self.place(SATP, asm("csrrw", rd=0, csr=0x180, rs1=A1))
        self.place(PMP, asm("csrrw", rd=0, csr=0x3B0, rs1=A1), asm("csrrw", rd=0, csr=0x3A0, rs1=A2))
        self.store(ROOT + 8 * 2, pte(RAM & -(1 << 30), RWX))
        self.store(ROOT + 8 * 1, pte(MIDDLE, V))
        for address, value in ((HERE, 1), (THERE, 100), (HERE + MEGAPAGE, 2), (THERE + MEGAPAGE, 200)):
            self.store(address + AT, value)
        self.store(DATA, 1)

    def map(self, *pages: int, flags: int = RWX) -> None:
        """These megapages, one behind the other, at START."""
        for index, page in enumerate(pages):
            self.store(MIDDLE + 8 * index, pte(page, flags))

    def loop(self, va: int, priv: int = Mode.M, cause: int = Cause.BREAKPOINT, a3: int = 0, hart: int = 0) -> Any:
        more = {"x10": 0, "x11": TURNS, "x12": va, "x13": a3}
        return self.done(LOOP, hart=hart, priv=priv, cause=cause, quantum=QUANTUM, **more)

    def sum(self, va: int, priv: int = Mode.M) -> int:
        return int(self.loop(va, priv).x[A0])

    def hot(self, va: int, priv: int = Mode.M) -> None:
        """Run the loop, have a region of it, for a window if there is no paging, and see that one is open for it."""
        self.loop(va, priv)
        assert self.translate(LOOP) == 1 and self.units[-1].kind.windowed == (not self.hart().satp)
        for _ in range(2):
            self.loop(va, priv)
        self.works_by_its_window(va)

    def refused(self) -> int:
        """How often a region was entered that does not fit: its window is not there."""
        return int(self.hart().region_exits[REGION_EXITS.index("unfit")])

    def window(self) -> Any:
        """Of the regime in which the hart has last run the loop."""
        regime, _ = self._where(self.record(LOOP), LOOP, 0)
        return REGIME.ctype.from_address(regime)

    def works_by_its_window(self, va: int) -> None:
        found = self.window()
        inside = (va - found.window_low) % (1 << 64)
        assert inside < found.window_reads and inside < found.window_writes


lab = lab_fixture(Windows)


# -- stores to a page that another hart has marked for LR/SC
def test_a_store_by_a_window_that_was_open_ends_a_reservation(lab: Windows) -> None:
    """Marking the page asks the other hart to drop it."""
    lab.hot(DATA)
    lab.done(LR, hart=1, x11=DATA + 8)
    lab.loop(DATA, a3=7)
    assert lab.done(SC, hart=1, x11=DATA + 8, x12=9).x[A0] == FAILED
    assert lab.load(DATA + 8) == 7
    lab.done(LR, hart=1, x11=DATA + 8)
    assert lab.done(SC, hart=1, x11=DATA + 8, x12=9).x[A0] == SUCCEEDED


def test_no_window_for_stores_is_opened_behind_a_mark(lab: Windows) -> None:
    """Not even by a store to another page. The region, which stores, is refused in every turn: it is interpreted."""
    lab.hot(DATA)
    lab.done(LR, hart=1, x11=DATA + 8)
    for address in (ELSEWHERE, DATA):
        before = lab.refused()
        assert lab.loop(address, a3=7).x[A1] == 0 and lab.load(address + 8) == 7
        assert lab.refused() - before == TURNS and lab.translated([LOOP]) == {LOOP}
    assert lab.window().window_writes == 0 and lab.window().window_reads > 0
    assert lab.done(SC, hart=1, x11=DATA + 8, x12=9).x[A0] == FAILED


# -- mappings
@pytest.mark.parametrize("fence", [SFENCE_ALL, SFENCE_PAGE, SINVAL], ids=["all", "page", "sinval"])
def test_a_superpage_is_mapped_elsewhere(lab: Windows, fence: int) -> None:
    lab.map(HERE)
    lab.hart().satp = SV39 | ROOT >> 12
    lab.hot(MAPPED, Mode.S)
    for page, value in ((THERE, 100), (HERE, 1)) * 2:
        lab.map(page)
        lab.done(fence, priv=Mode.S, x11=START + 5 * PAGE)  # the whole superpage is meant
        assert lab.loop(MAPPED, Mode.S, a3=value + 1).x[A0] == value * TURNS
        assert lab.load(page + AT + 8) == value + 1
        lab.works_by_its_window(MAPPED)


def test_of_two_superpages_that_continue_each_other_one_goes_elsewhere(lab: Windows) -> None:
    """They are one window; a fence for an address in the second one is enough."""
    lab.map(HERE, HERE + MEGAPAGE)
    lab.hart().satp = SV39 | ROOT >> 12
    lab.hot(MAPPED, Mode.S)
    assert lab.sum(MAPPED + MEGAPAGE, Mode.S) == 2 * TURNS
    lab.works_by_its_window(MAPPED + MEGAPAGE)
    lab.works_by_its_window(MAPPED)
    lab.map(HERE, THERE)
    lab.done(SFENCE_PAGE, priv=Mode.S, x11=MAPPED + MEGAPAGE + PAGE)
    for _ in range(2):
        assert lab.sum(MAPPED + MEGAPAGE, Mode.S) == 100 * TURNS
        assert lab.sum(MAPPED, Mode.S) == TURNS


def test_a_superpage_becomes_read_only_and_goes(lab: Windows) -> None:
    lab.map(HERE)
    lab.hart().satp = SV39 | ROOT >> 12
    lab.hot(MAPPED, Mode.S)
    lab.map(HERE, flags=V | R | A)
    lab.done(SFENCE_ALL, priv=Mode.S)
    for _ in range(2):
        found = lab.loop(MAPPED, Mode.S, Cause.STORE_PAGE)
        assert (found.mepc, found.mtval, found.x[A0], found.x[A1]) == (LOOP + 8, MAPPED + 8, 1, TURNS)
    lab.map(HERE, flags=W)
    lab.done(SFENCE_ALL, priv=Mode.S)
    for _ in range(2):
        assert lab.loop(MAPPED, Mode.S, Cause.LOAD_PAGE).mtval == MAPPED


def test_satp_is_written(lab: Windows) -> None:
    """Another address space, and none: what was mapped 1:1 is there again, what was not is gone."""
    lab.map(HERE)
    lab.hart().satp = SV39 | ROOT >> 12
    lab.hot(MAPPED, Mode.S)
    other_root, other_middle = ROOT + 8 * PAGE, MIDDLE + 8 * PAGE
    lab.store(other_root + 8 * 2, pte(RAM & -(1 << 30), RWX))
    lab.store(other_root + 8 * 1, pte(other_middle, V))
    lab.store(other_middle, pte(THERE, RWX))
    for root, value in ((other_root, 100), (ROOT, 1)) * 2:
        lab.done(SATP, priv=Mode.S, x11=SV39 | root >> 12)
        assert lab.sum(MAPPED, Mode.S) == value * TURNS
        lab.works_by_its_window(MAPPED)
    lab.done(SATP, priv=Mode.S, x11=0)
    assert lab.loop(MAPPED, Mode.S, Cause.LOAD_ACCESS).mtval == MAPPED
    assert lab.sum(HERE + AT, Mode.S) == TURNS


def test_the_same_code_without_a_window(lab: Windows) -> None:
    """In another regime, by small pages: the region is not entered, and replaced by one that looks at the TLB."""
    lab.hot(DATA)
    leaf, va = MIDDLE + PAGE, START + MEGAPAGE
    lab.store(MIDDLE + 8, pte(leaf, V))
    lab.store(leaf, pte(DATA, RWX))
    lab.hart().satp = SV39 | ROOT >> 12
    enough = POINTS_PER_SAMPLE // POINTS_PER_EXIT
    for _ in range(enough):
        assert lab.sum(va, Mode.S) == TURNS
        lab.serve()
    assert lab.refused() >= enough
    assert [unit.kind.windowed for unit in lab.units if unit.code] == [True, False]
    before = lab.refused()
    assert lab.sum(va, Mode.S) == lab.sum(DATA) == TURNS
    assert lab.refused() == before and lab.translated([LOOP]) == {LOOP}


# -- physical memory protection
@pytest.mark.parametrize(
    ("priv", "locked", "mprv"),
    [(Mode.S, 0, False), (Mode.M, 0x80, False), (Mode.M, 0, True)],
    ids=["S", "M, locked", "M with MPRV"],
)
def test_pmp_takes_a_part_of_ram_away(lab: Windows, priv: int, locked: int, mprv: bool) -> None:
    """Without paging the window is all of RAM. With a page of it forbidden there is none for what that forbids."""
    hart = lab.hart()
    hart.pmpaddr_1 = ALL_ADDRESSES

    def mode() -> None:
        hart.mstatus = MPRV | Mode.S << MPP_SHIFT if mprv else 0  # a trap has changed it

    mode()
    lab.hot(DATA, priv)
    napot = DATA >> 2 | PAGE // 8 - 1
    for rights, cause in ((READS, Cause.STORE_ACCESS), (NOTHING, Cause.LOAD_ACCESS)):
        lab.done(PMP, x11=napot, x12=rights | EVERYTHING << 8)
        if locked:  # the lock would keep this test from going on
            hart.pmpcfg_0 |= locked
        for _ in range(2):
            mode()
            lab.loop(ELSEWHERE, priv)
            mode()
            found = lab.loop(DATA, priv, cause)
            assert (found.mepc, found.mtval) == ((LOOP, DATA) if rights == NOTHING else (LOOP + 8, DATA + 8))
        hart.pmpcfg_0 &= ~0x80
        lab.done(PMP, x11=napot, x12=EVERYTHING | EVERYTHING << 8)
        mode()
        assert lab.sum(DATA, priv) == TURNS


@pytest.mark.parametrize("step", [8, -8])
def test_a_pointer_that_goes_on_where_addresses_end(lab: Windows, step: int) -> None:
    """A superpage is the last thing there is, or the first; behind it comes the other end, where nothing is."""
    code, middle, index = LOOP + 0x40, MIDDLE + PAGE, 511 if step > 0 else 0
    lab.place(code, asm("ld", rd=A4, rs1=A2, imm=0), asm("addi", rd=A2, rs1=A2, imm=step),
              asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-12))  # fmt: skip
    lab.store(ROOT + 8 * index, pte(middle, V))
    lab.store(middle + 8 * index, pte(HERE, RWX))
    lab.hart().satp = SV39 | ROOT >> 12
    words = 40
    start, end = (-8 * words, 0) if step > 0 else (8 * words - 8, -8 % (1 << 64))
    for turn in range(4):
        found = lab.done(code, priv=Mode.S, cause=Cause.LOAD_PAGE, quantum=QUANTUM, x11=100, x12=start)
        assert (found.mepc, found.mtval, found.x[A1], found.x[A2]) == (code, end, 100 - words, end)
        if turn == 1:
            assert lab.translate(code) == 1


# -- pages that are not what the window says
def strides(lab: Windows, va: int, step: int = 0, turns: int = TURNS) -> int:
    """The sum of the words at ``va``, ``va`` + ``step``, ..., read by one instruction in S-mode."""
    found = lab.done(STRIDES, priv=Mode.S, quantum=QUANTUM, x10=0, x11=turns, x12=va % (1 << 64), x13=step)
    return int(found.x[A0])


@pytest.fixture
def reader(lab: Windows) -> Windows:
    """With paging, and a region for :func:`strides`."""
    lab.place(STRIDES, asm("ld", rd=A4, rs1=A2, imm=0), asm("add", rd=A0, rs1=A0, rs2=A4),
              asm("add", rd=A2, rs1=A2, rs2=A3), asm("addi", rd=A1, rs1=A1, imm=-1),
              asm("bne", rs1=A1, rs2=0, imm=-16))  # fmt: skip
    lab.hart().satp = SV39 | ROOT >> 12
    strides(lab, DATA)
    assert lab.translate(STRIDES) == 1
    lab.done(SFENCE_ALL, priv=Mode.S)  # no window
    return lab


def test_a_small_page_in_front_of_the_last_superpage(reader: Windows) -> None:
    """What continues it for the guest lies elsewhere in RAM."""
    middle, leaf = MIDDLE + PAGE, MIDDLE + 2 * PAGE
    for table, index, flags in (
        (ROOT, 511, pte(middle, V)),
        (middle, 511, pte(HERE, RWX)),
        (middle, 510, pte(leaf, V)),
    ):
        reader.store(table + 8 * index, flags)
    reader.store(leaf + 8 * 511, pte(DATA, RWX))
    for address, value in ((DATA + PAGE - 8, 1), (DATA + PAGE, 1000), (HERE, 20)):
        reader.store(address, value)
    for _ in range(2):
        reader.done(SFENCE_ALL, priv=Mode.S)
        assert [strides(reader, -MEGAPAGE - 8, 8, 2) for _ in range(4)] == [21] * 4


@pytest.mark.parametrize("small", [False, True], ids=["a superpage", "small pages"])
def test_a_mapping_that_is_changed_without_a_fence(reader: Windows, small: bool) -> None:
    """An access may go by the old one, or by the new one; another page's are none of the two."""
    leaf, aside = MIDDLE + PAGE, MIDDLE + 2 * PAGE
    reader.map(HERE, HERE + MEGAPAGE)
    reader.store(MIDDLE + 8 * 2, pte(aside, V))
    reader.store(aside, pte(DATA, RWX))
    page = START + MEGAPAGE + 7 * PAGE
    for address, value in ((HERE, 1), (HERE + 7 * PAGE, 10), (HERE + MEGAPAGE + 7 * PAGE, 100), (RAM + 7 * PAGE, 200)):
        reader.store(address, value)
    assert [strides(reader, START) for _ in range(2)] == [TURNS] * 2
    strides(reader, START + MEGAPAGE)
    strides(reader, START + 2 * MEGAPAGE)  # the site is there, and the page of the TLB not known
    reader.store(MIDDLE + 8, pte(leaf, V) if small else pte(RAM, RWX))
    reader.store(leaf + 8 * 7, pte(RAM + 7 * PAGE, RWX))
    assert strides(reader, page) in (100 * TURNS, 200 * TURNS)
    assert [strides(reader, START + 7 * PAGE) for _ in range(2)] == [10 * TURNS] * 2
