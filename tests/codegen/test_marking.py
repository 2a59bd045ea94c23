"""A page loses its LR/SC mark when no LR has been there for a while, and no reservation outlives that."""

from __future__ import annotations

import pytest

from mpemu.codegen.marks import MARKED, PREPARED, RESERVED, UNMARKED, UNMARKING
from mpemu.codegen.tlb_entries import MARKED_TAG
from mpemu.layout import DTLB_ENTRIES, DTLB_ENTRY, PAGE, REGIME, REGION_EXITS
from mpemu.unit import OPTIMISED, QUICK
from tests.codegen.lab import A0, A1, A2, A3, T0, asm
from tests.codegen.native_hart import RAM
from tests.codegen.reserving import ANOTHER_PAGE, CODE, FAILED, LR, SC, STORE, SUCCEEDED, WORD, WRITERS, Harts
from tests.codegen.translated import TranslatedLab


@pytest.fixture
def harts() -> Harts:
    return Harts()


def test_a_page_loses_its_mark_when_stores_find_no_more_lrs(harts: Harts) -> None:
    harts.memory.machine.mark_patience = 3
    harts.lr()
    marks = []
    for value in range(8):
        harts.sd(value)
        marks.append(harts.mark().value)
    assert marks == [RESERVED] * 2 + [MARKED] * 3 + [UNMARKED] * 3
    assert harts.hart(1).pages_unmarked == 1 and harts.memory.machine.marked_pages == 0
    assert harts.load(WORD) == 7


def test_a_page_keeps_its_mark_while_there_are_lrs(harts: Harts) -> None:
    harts.memory.machine.mark_patience = 3
    for value in range(20):
        harts.sd(value)
        harts.lr()
        assert harts.sc(value=100) == SUCCEEDED
        assert harts.mark().value == RESERVED


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_whatever_updates_a_page_may_find_that_its_mark_is_of_no_use(harts: Harts, writer: tuple[bytes, ...]) -> None:
    """LR and SC among them, as they are tight."""
    code = CODE + 0x200
    harts.place(code, *writer)
    harts.hart(1).mstatus |= 3 << 13
    harts.memory.machine.mark_patience = 1
    harts.lr()
    for _ in range(2):
        harts.done(code, hart=1, x11=WORD, x12=0)
    assert harts.mark().value == UNMARKED


def test_an_sc_fails_when_its_page_has_lost_the_mark(harts: Harts) -> None:
    for marked_again in (False, True):
        harts.lr()
        harts.mark().value = MARKED
        assert harts.routine("unmark_page", WORD - RAM, hart=1).result == 1
        harts.sd(1)
        harts.sd(0)
        if marked_again:
            harts.lr(hart=1)
            assert harts.mark().value == RESERVED
        assert harts.sc(value=2) == FAILED and harts.load(WORD) == 0


def test_this_test_would_notice_an_unmarking_that_leaves_the_versions_alone(harts: Harts) -> None:
    harts.lr()
    harts.mark().value = UNMARKED
    harts.sd(1)
    harts.sd(0)
    assert harts.sc(value=2) == SUCCEEDED


def test_unmarking_ends_all_reservations_of_the_page(harts: Harts) -> None:
    for offset in (0, 64, PAGE - 8):
        harts.lr(address=WORD + offset)
        harts.mark().value = MARKED
        assert harts.routine("unmark_page", WORD - RAM + 24, hart=1).result == 1
        assert harts.sc(address=WORD + offset) == FAILED
    harts.lr(address=ANOTHER_PAGE)
    harts.lr(hart=1)
    harts.mark().value = MARKED
    harts.routine("unmark_page", WORD - RAM, hart=1)
    assert harts.sc(address=ANOTHER_PAGE) == SUCCEEDED


def test_an_lr_takes_a_page_back_that_is_being_unmarked(harts: Harts) -> None:
    """Whoever was at it has lost its core; the token tells it, when it goes on, that this is no longer its business."""
    harts.lr()
    harts.mark().value = 5 << 2 | UNMARKING
    harts.sd(0)
    harts.lr()
    assert harts.mark().value == RESERVED
    harts.sd(0)
    assert harts.sc() == FAILED
    harts.lr()
    assert harts.sc() == SUCCEEDED


@pytest.mark.parametrize("mark", [UNMARKED, RESERVED, 5 << 2 | PREPARED, 5 << 2 | UNMARKING])
def test_only_a_mark_that_nobody_uses_is_taken_away(harts: Harts, mark: int) -> None:
    harts.lr()
    harts.mark().value = mark
    assert harts.routine("unmark_page", WORD - RAM).result == 0 and harts.mark().value == mark


def test_marks_stay_when_there_are_no_more_tokens(harts: Harts) -> None:
    harts.lr()
    harts.mark().value = MARKED
    harts.memory.machine.mark_tokens = 1 << 29
    assert harts.routine("unmark_page", WORD - RAM).result == 0 and harts.mark().value == MARKED
    harts.lr(address=ANOTHER_PAGE)
    assert harts.sc(address=ANOTHER_PAGE) == SUCCEEDED


def test_the_tlb_learns_that_a_page_is_no_longer_marked(harts: Harts) -> None:
    """Or its stores would go the slow road for ever: by a store, an AMO, an SC."""
    amo = CODE + 0x200
    harts.place(amo, *WRITERS["amo"])
    harts.sd(0)
    start = harts.hart(1).regime + REGIME.offset["dtlb"] + (WORD // PAGE) % DTLB_ENTRIES * DTLB_ENTRY.size
    entry = DTLB_ENTRY.ctype.from_address(start)
    for code in (STORE, amo, SC):
        harts.lr()
        harts.sd(0)
        assert entry.write_tag == WORD | MARKED_TAG
        harts.mark().value = MARKED
        harts.routine("unmark_page", WORD - RAM)
        harts.done(code, hart=1, x11=WORD, x12=0)
        assert entry.write_tag == WORD


def test_reset_takes_all_marks_away(harts: Harts) -> None:
    harts.lr()
    harts.memory.reset_reservations()
    assert harts.mark().value == UNMARKED and harts.memory.machine.marked_pages == 0


# -- translated
TURNS, PATIENCE = 2000, 100


def storing(tier: int | None) -> dict[str, object]:
    """A loop that stores to a page on which there once was an LR, in a region of ``tier`` or interpreted: what became
    of it."""
    lab = TranslatedLab()
    lab.begin_with(OPTIMISED if tier is None else tier)
    lab.memory.machine.mark_patience = PATIENCE
    lab.place(LR, asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0))
    body = [
        asm("sd", rs2=T0, rs1=A1, imm=0),
        asm("addi", rd=A2, rs1=A2, imm=1),
        asm("addi", rd=A3, rs1=A3, imm=1),
        asm("addi", rd=T0, rs1=T0, imm=-1),
    ]
    lab.place(CODE + 0x100, *body, asm("bne", rs1=T0, rs2=0, imm=-4 * len(body)))
    lab.done(LR, x11=WORD)
    if tier is not None:
        assert lab.translate(CODE + 0x100) == 1
    hart = lab.done(CODE + 0x100, quantum=6 * TURNS, x11=WORD, x5=TURNS)
    assert lab.load(WORD) == 1
    found = {"marks": (hart.pages_marked, hart.pages_unmarked), "instret": hart.instret}
    left = sum(hart.region_exits[REGION_EXITS.index(reason)] for reason in ("miss", "unfit"))
    lab.close()
    return found | {"left": left}


@pytest.mark.parametrize("tier", (None, QUICK, OPTIMISED), ids=("interpreted", "quick", "optimised"))
def test_stores_to_a_page_that_lost_its_mark_are_fast_again(tier: int | None) -> None:
    """Two looks at the mark, then regions are entered, and not left for a store, again. (They need one to learn it.)"""
    found = storing(tier)
    assert found["marks"] == (1, 1)
    assert found["left"] == (0 if tier is None else 2 * PATIENCE + 1)
    assert found["instret"] == storing(None)["instret"]
