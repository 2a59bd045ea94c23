"""Regions that reach memory by sites (codegen/sites.py): how far a site goes, and what ends it.

A translated loop in S-mode works through its sites on small pages; then what they stand for changes, and the loop runs
again. A site that stayed would let it go on as before. (Accesses around the ends of pages, read-only and missing ones:
test_translated_bases.py. Superpages: test_windows.py.)
"""

from __future__ import annotations

from typing import Any

import pytest

from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import REGIME, SITES
from tests.codegen.lab import A0, A1, A2, A3, A4, A, D, R, V, W, asm, pte
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import CODE, MIDDLE, PAGE, QUANTUM, ROOT, SFENCE, SMALL, TURNS, Program, loop
from tests.codegen.paged_program import LEAF as LEAF_TABLE
from tests.codegen.pmp import ALL_ADDRESSES, EVERYTHING, NOTHING, READS
from tests.codegen.reserving import FAILED
from tests.codegen.translated import lab_fixture

LR, SC, SATP, PMP, SINVAL, FENCED = (RAM + 0x5000 + 0x40 * n for n in range(6))
RW = V | R | W | A | D
FIRST = 6
"""Page of the program that the data begin at."""
DATA = SMALL + FIRST * PAGE
FRAMES = RAM + 0x8_0000
OTHER = RAM + 0x9_0000


class Sites(Program):
    def __init__(self) -> None:
        super().__init__()
        # a1 times: a0 += (a2), (a2 + 8) = a3
        self.place(CODE, loop(asm("ld", rd=A4, rs1=A2, imm=0) + asm("add", rd=A0, rs1=A0, rs2=A4)
                              + asm("sd", rs1=A2, rs2=A3, imm=8)), asm("ebreak"))  # fmt: skip
        self.place(LR, asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0))
        self.place(SC, asm("sc.d", rd=A0, rs2=A2, rs1=A1, aq=0, rl=0))
        self.place(SATP, asm("csrrw", rd=0, csr=0x180, rs1=A1))
        self.place(SINVAL, asm("sinval.vma", rs1=A1, rs2=0))
        self.place(FENCED, asm("sfence.vma", rs1=0, rs2=0))
        self.place(PMP, asm("csrrw", rd=0, csr=0x3B0, rs1=A1), asm("csrrw", rd=0, csr=0x3A0, rs1=A2))
        for n in range(6):
            self.map(FIRST + n, FRAMES + n * PAGE, RW)
            self.store(FRAMES + n * PAGE, 1)
            self.store(OTHER + n * PAGE, 100)
        self.hot(distances=(0,))
        assert not self.units[-1].kind.windowed

    def run_at(self, va: int, cause: int = Cause.BREAKPOINT, a3: int = 0) -> Any:
        return self.done(SMALL, priv=Mode.S, cause=cause, quantum=QUANTUM, x10=0, x11=TURNS, x12=va, x13=a3)

    def sum(self, page: int = 0, cause: int = Cause.BREAKPOINT, **x: int) -> Any:
        """Of page FIRST + ``page`` of the data."""
        return self.run_at(DATA + page * PAGE, cause).x[A0]

    def sites(self) -> set[tuple[int, int]]:
        """(guest address of the first page, number of pages) of all."""
        regime, _ = self._where(self.record(CODE), SMALL, 0)
        found = REGIME.ctype.from_address(regime)
        return {
            (low, -(-size // PAGE))
            for low, size in zip(found.site_low[:SITES], found.site_bytes[:SITES], strict=True)
            if size
        }


lab = lab_fixture(Sites)


# -- how far it goes
def test_it_grows_by_neighbours_that_go_on_in_memory(lab: Sites) -> None:
    for page, found in ((2, (2, 1)), (3, (2, 2)), (1, (1, 3)), (2, (1, 3)), (5, (5, 1)), (4, (4, 2))):
        for _ in range(2):  # for the first time the TLB has to find the page
            assert lab.sum(page) == TURNS
        assert lab.sites() == {(DATA + found[0] * PAGE, found[1])}


def test_it_does_not_grow_by_neighbours_that_are_elsewhere_in_memory(lab: Sites) -> None:
    lab.map(FIRST + 1, OTHER, RW)
    lab.map(FIRST + 2, FRAMES + PAGE, RW)  # behind page 0 in memory
    lab.done(FENCED, priv=Mode.S)
    for page, value in ((0, 1), (1, 100), (2, 1), (0, 1)):
        for _ in range(2):
            assert lab.sum(page) == value * TURNS
        assert lab.sites() == {(DATA + page * PAGE, 1)}


def test_an_access_across_its_end(lab: Sites) -> None:
    """The next page lies elsewhere in RAM."""
    lab.map(FIRST + 1, OTHER, RW)
    lab.done(FENCED, priv=Mode.S)
    value = 0x1122_3344_5566_7788
    for distance in range(1, 8):
        lab.memory.write(FRAMES + PAGE - distance, value.to_bytes(8, "little")[:distance])
        lab.memory.write(OTHER, value.to_bytes(8, "little")[distance:])
        for _ in range(3):
            lab.sum()
        assert lab.sites() == {(DATA, 1)}
        lab.run_at(DATA + PAGE - distance, a3=distance)
        assert lab.run_at(DATA + PAGE - distance).x[A4] == value
        lab.run_at(DATA + PAGE - distance - 8, a3=~value)  # the store is the one that crosses
        assert lab.memory.read(FRAMES + PAGE - distance, distance) + lab.memory.read(OTHER, 8 - distance) == (
            ~value % (1 << 64)
        ).to_bytes(8, "little")


def test_what_is_gone_does_not_grow(lab: Sites) -> None:
    for _ in range(2):
        lab.sum(1)
    lab.map(FIRST + 1, OTHER, RW)
    lab.done(SFENCE, priv=Mode.S, x11=DATA + PAGE)
    for _ in range(2):
        lab.sum(0)
    lab.memory.write(OTHER, bytes([5] * 8))
    lab.memory.write(FRAMES + PAGE - 4, bytes([4] * 4))
    assert lab.run_at(DATA + PAGE - 4).x[A4] == 0x0505_0505_0404_0404


def test_reads_and_writes_have_sites_of_their_own(lab: Sites) -> None:
    lab.map(FIRST, FRAMES, V | R | A)
    lab.done(FENCED, priv=Mode.S)
    for _ in range(3):
        found = lab.run_at(DATA, Cause.STORE_PAGE)
        assert (found.mepc, found.mtval, found.x[A1]) == (SMALL + 8, DATA + 8, TURNS)


# -- what ends it
@pytest.mark.parametrize("fence", [FENCED, SFENCE, SINVAL, SMALL + PAGE], ids=["all", "page", "sinval", "small"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_of_its_pages_goes_elsewhere(lab: Sites, fence: int, at: int) -> None:
    lab.place(CODE + PAGE, asm("sfence.vma", rs1=A1, rs2=0), asm("ebreak"))
    for frame, value in ((OTHER, 100), (FRAMES + at * PAGE, 1)) * 2:
        for page in (1, 0, 2) * 2:
            lab.sum(page)
        lab.map(FIRST + at, frame, RW)
        lab.done(fence, priv=Mode.S, x11=DATA + at * PAGE + 0x123)
        for page in (0, 1, 2) * 2:
            lab.run_at(DATA + page * PAGE, a3=value + page)
            assert lab.sum(page) == (value if page == at else 1) * TURNS
        lab.run_at(DATA + at * PAGE, a3=77)
        assert lab.load(frame + 8) == 77


def test_a_fence_for_another_page_leaves_it(lab: Sites) -> None:
    """Where there are no superpages. (With them everything goes.)"""
    lab.place(CODE + PAGE, asm("sfence.vma", rs1=A1, rs2=0), asm("ebreak"))
    lab.place(CODE + 2 * PAGE, asm("sfence.vma", rs1=0, rs2=0), asm("ebreak"))
    lab.done(SMALL + 2 * PAGE, priv=Mode.S)
    for page in (0, 1) * 2:
        lab.sum(page)
    before = lab.sites()
    lab.done(SMALL + PAGE, priv=Mode.S, x11=DATA + 2 * PAGE)
    assert lab.sites() == before == {(DATA, 2)}
    lab.done(SMALL + PAGE, priv=Mode.S, x11=DATA + PAGE)
    assert not lab.sites()


def test_its_page_becomes_read_only_and_goes(lab: Sites) -> None:
    lab.sum()
    lab.map(FIRST, FRAMES, V | R | A)
    lab.done(SFENCE, priv=Mode.S, x11=DATA)
    assert lab.run_at(DATA, Cause.STORE_PAGE).mtval == DATA + 8
    lab.map(FIRST, FRAMES, 0)
    lab.done(SFENCE, priv=Mode.S, x11=DATA)
    assert lab.run_at(DATA, Cause.LOAD_PAGE).mtval == DATA


def test_satp_is_written(lab: Sites) -> None:
    """Another address space, in which only the page at DATA lies elsewhere."""
    other_root, other_middle, other_leaf = (table + 8 * PAGE for table in (ROOT, MIDDLE, LEAF_TABLE))
    for table, copy in ((ROOT, other_root), (LEAF_TABLE, other_leaf)):
        lab.memory.write(copy, lab.memory.read(table, PAGE))
    lab.store(other_root + 8, pte(other_middle, V))
    lab.store(other_middle, pte(other_leaf, V))
    lab.store(other_leaf + 8 * FIRST, pte(OTHER, RW))
    satp = lab.hart().satp
    for root, value in ((other_root, 100), (ROOT, 1)) * 2:
        lab.sum()
        lab.done(SATP, priv=Mode.S, x11=satp & -(1 << 44) | root >> 12)
        assert [lab.sum() for _ in range(3)] == [value * TURNS] * 3


@pytest.mark.parametrize(("rights", "cause"), [(READS, Cause.STORE_ACCESS), (NOTHING, Cause.LOAD_ACCESS)])
def test_pmp_takes_its_page_away(lab: Sites, rights: int, cause: int) -> None:
    lab.hart().pmpaddr_1 = ALL_ADDRESSES
    lab.done(PMP, x11=FRAMES >> 2 | PAGE // 8 - 1, x12=EVERYTHING | EVERYTHING << 8)
    for _ in range(2):
        assert [lab.sum() for _ in range(3)] == [TURNS] * 3
        lab.done(PMP, x11=FRAMES >> 2 | PAGE // 8 - 1, x12=rights | EVERYTHING << 8)
        lab.run_at(DATA, cause)
        lab.run_at(DATA, cause)
        lab.done(PMP, x11=FRAMES >> 2 | PAGE // 8 - 1, x12=EVERYTHING | EVERYTHING << 8)


def test_a_store_by_a_site_that_was_there_ends_a_reservation(lab: Sites) -> None:
    """Marking the page drops it."""
    assert [lab.sum() for _ in range(3)] == [TURNS] * 3
    lab.done(LR, x11=FRAMES + 8)
    lab.run_at(DATA, a3=7)
    assert lab.done(SC, x11=FRAMES + 8, x12=9).x[A0] == FAILED
    assert lab.load(FRAMES + 8) == 7


def test_more_accesses_than_sites(lab: Sites) -> None:
    """They share; no store has one that a load has found."""
    count = SITES // 2 + 40
    body = b"".join(asm("add", rd=A3, rs1=A2, rs2=0) + asm("ld", rd=A4, rs1=A3, imm=8 * (n % 64)) for n in range(64))
    assert count < 5 * 64
    lab.place(CODE + PAGE, b"".join(body for _ in range(5))[: PAGE - 64], asm("sd", rs1=A2, rs2=A4, imm=0))
    for n in range(64):
        lab.store(FRAMES + 8 * n, n)
    lab.map(FIRST, FRAMES, V | R | A)
    lab.done(FENCED, priv=Mode.S)
    for _ in range(3):
        found = lab.done(SMALL + PAGE, priv=Mode.S, cause=Cause.STORE_PAGE, quantum=QUANTUM, x12=DATA)
        assert (found.x[A4], found.mtval) == (63, DATA)
        lab.translate(CODE + PAGE)
    assert lab.translated([CODE + PAGE])
