"""More pages than the first level of the TLB holds: walked once, and never taken for what they no longer are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import DTLB_ENTRIES, PAGE
from tests.codegen.lab import A0, A1, A2, A3, A4, RWX, SV39, T0, A, R, V, asm, pte
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab

CODE, ROOT, MIDDLE, LEAVES = RAM + 0x2_0000, RAM + 0x3_0000, RAM + 0x3_1000, RAM + 0x3_2000
LOAD_PAGE_FAULT, STORE_PAGE_FAULT = 13, 15
PAGES = 2 * DTLB_ENTRIES
DATA = RAM + 0x20_0000
"""PAGES pages, mapped where they are."""
SPARE = RAM + 0x10_0000
READ_LOOP = (
    asm("ld", rd=A1, rs1=A2, imm=8),
    asm("add", rd=A4, rs1=A4, rs2=A1),
    asm("add", rd=A2, rs1=A2, rs2=A3),
    asm("addi", rd=A0, rs1=A0, imm=-1),
    asm("bne", rs1=A0, rs2=0, imm=-16),
)
"""a4 += the words at a2, a2 + a3, ...: a0 of them."""
WRITE_LOOP = (asm("sd", rs1=A2, rs2=T0, imm=8), *READ_LOOP[1:])


class Pages(TranslatedLab):
    """S-mode under Sv39: code by a 2 MiB page, data by pages of 4 KiB, each of which holds its number."""

    def __init__(self, translated: bool) -> None:
        super().__init__(2, 8 << 20)
        self._translated = translated
        self.store(ROOT + 8 * 2, pte(MIDDLE, V))
        self.store(MIDDLE, pte(RAM, RWX))
        self.store(MIDDLE + 8, pte(LEAVES, V))
        for n in range(PAGES):
            self.map(n, DATA + n * PAGE)
            self.store(DATA + n * PAGE + 8, n)
        self.hart().satp = SV39 | ROOT >> 12
        self.routine("flush_tlb")

    def map(self, n: int, pa: int, flags: int = RWX) -> None:
        """Page ``n`` of the data; no SFENCE.VMA."""
        self.store(LEAVES + 8 * n, pte(pa, flags))

    def prepare(self, *loop: bytes) -> None:
        self.place(CODE, *loop)
        if self._translated:
            assert self.translate(CODE) == 1

    def touch(self, cause: int = Cause.BREAKPOINT) -> tuple[int, int]:
        """Run the loop over all pages: (sum, walks for data)."""
        view = self.hart()
        before = view.tlb_misses
        registers = {"x10": PAGES, "x12": DATA, "x13": PAGE, "x14": 0}
        self.done(CODE, priv=Mode.S, quantum=6 * PAGES, cause=cause, **registers)
        return view.x[A4], view.tlb_misses - before


TOTAL = PAGES * (PAGES - 1) // 2


@pytest.fixture(params=[False, True], ids=["interpreted", "translated"])
def pages(request: pytest.FixtureRequest) -> Iterator[Pages]:
    made = Pages(request.param)
    yield made
    made.close()


def test_pages_are_walked_once(pages: Pages) -> None:
    pages.prepare(*READ_LOOP)
    total, walks = pages.touch()
    assert total == TOTAL and walks >= PAGES
    total, walks = pages.touch()
    assert total == TOTAL and walks < PAGES // 4


def test_a_fence_of_one_address_is_for_that_page_alone(pages: Pages) -> None:
    pages.prepare(*READ_LOOP)
    pages.touch()
    pages.store(SPARE + 8, 1_000_000)
    pages.map(3, SPARE)
    pages.routine("flush_page", DATA + 3 * PAGE)
    total, walks = pages.touch()
    assert total == TOTAL - 3 + 1_000_000 and 1 <= walks < PAGES // 4


def test_a_fence_of_everything(pages: Pages) -> None:
    pages.prepare(*READ_LOOP)
    pages.touch()
    pages.store(SPARE + 8, 1_000_000)
    for n in range(PAGES):
        pages.map(n, SPARE)
    pages.routine("flush_tlb")
    assert pages.touch()[0] == PAGES * 1_000_000


def test_reading_allows_no_writing(pages: Pages) -> None:
    for n in range(PAGES):
        pages.map(n, DATA + n * PAGE, V | R | A)
    pages.prepare(*READ_LOOP)
    pages.touch()
    pages.prepare(*WRITE_LOOP)
    pages.hart().x[T0] = 77
    pages.touch(cause=STORE_PAGE_FAULT)
    assert pages.hart().mepc == CODE and pages.hart().mtval == DATA + 8
    assert pages.load(DATA + 8) == 0


def test_supervisor_and_user_pages_are_kept_apart(pages: Pages) -> None:
    pages.prepare(*READ_LOOP)
    pages.touch()
    registers = {"x10": PAGES, "x12": DATA, "x13": PAGE, "x14": 0}
    pages.store(MIDDLE, pte(RAM, RWX | 1 << 4))
    pages.routine("flush_page", RAM)
    view = pages.done(CODE, priv=Mode.U, cause=LOAD_PAGE_FAULT, **registers)
    assert view.mtval == DATA + 8


def test_stores_notice_that_a_page_has_been_marked(pages: Pages) -> None:
    """Whoever holds a reservation on a page must see it fall, however long ago its page was written."""
    pages.prepare(*WRITE_LOOP)
    pages.touch()
    last = DATA + (PAGES - DTLB_ENTRIES - 5) * PAGE + 8  # no longer in the first level
    pages.place(SPARE, asm("lr.d", rd=A1, rs1=A2, aq=0, rl=0))
    pages.done(SPARE, hart=1, x12=last)
    assert pages.hart(1).reservation == last - RAM
    version = pages.hart(1).reservation_version
    pages.hart().x[T0] = 5
    pages.touch()
    pages.place(SPARE, asm("sc.d", rd=A1, rs1=A2, rs2=0, aq=0, rl=0))
    assert pages.done(SPARE, hart=1, x12=last).x[A1] != 0
    assert pages.load(last) == 5 and version == pages.hart(1).reservation_version
