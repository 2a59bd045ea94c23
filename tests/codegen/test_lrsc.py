"""Exact LR/SC: an SC succeeds only if no other hart has stored to the granule since the LR, ABA included.

Step by step, harts of one process taking turns between LR and SC; test_lrsc_processes.py has two at full speed.
"""

from __future__ import annotations

import ctypes
import time

import pytest

from mpemu.codegen.marks import MARKED, PREPARED, RESERVED
from mpemu.layout import LINES, PAGE
from mpemu.vcpu.near import NearDevices
from tests.codegen.native_hart import RAM
from tests.codegen.reserving import ANOTHER_PAGE, CODE, FAILED, SUCCEEDED, WORD, WRITERS, Harts


@pytest.fixture
def harts() -> Harts:
    return Harts()


def test_nobody_else_and_it_succeeds_once(harts: Harts) -> None:
    harts.lr()
    assert harts.sc(value=5) == SUCCEEDED and harts.load(WORD) == 5
    assert harts.sc(value=6) == FAILED and harts.load(WORD) == 5, "the reservation is used up"


def test_a_store_and_one_that_takes_it_back(harts: Harts) -> None:
    """ABA; the other hart has written the page before, so its stores went by the TLB."""
    harts.sd(0)
    assert harts.lr() == 0
    harts.sd(1)
    harts.sd(0)
    assert harts.sc(value=2) == FAILED and harts.load(WORD) == 0


def test_this_test_would_notice_a_page_marked_without_asking(harts: Harts) -> None:
    """The mark is forged: the other hart keeps its write tag, its stores leave the version alone, the SC is wrong."""
    harts.sd(0)
    harts.mark().value = MARKED
    harts.lr()
    harts.sd(1)
    harts.sd(0)
    assert harts.sc(value=2) == SUCCEEDED


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_whatever_writes_the_granule_ends_the_reservation(harts: Harts, writer: tuple[bytes, ...]) -> None:
    code = CODE + 0x200
    harts.place(code, *writer)
    harts.hart(1).mstatus |= 3 << 13
    for _ in range(3):  # before the page is marked, at once after, and with a TLB that knows
        harts.lr()
        harts.done(code, hart=1, x11=WORD, x12=0)
        assert harts.sc(value=2) == FAILED and harts.load(WORD) == 0


def test_dma_ends_the_reservation(harts: Harts) -> None:
    near = NearDevices(harts.blob, harts.memory)
    for start, length, ends_it in ((-100, 101, True), (-100, 100, False), (64, 64, False), (7, 1, True)):
        harts.lr()
        near.dma_begins(WORD + start, length)
        near.dma_ends(WORD + start, length)
        assert harts.sc() == (FAILED if ends_it else SUCCEEDED)


def test_no_sc_falls_between_the_beginning_and_the_end_of_dma(harts: Harts) -> None:
    """Neither one whose LR was before nor one whose LR is between, before the device has written and behind it."""
    near = NearDevices(harts.blob, harts.memory)
    harts.lr()
    near.dma_begins(WORD, 8)
    assert harts.sc() == FAILED
    harts.lr()
    harts.store(WORD, 77)
    assert harts.sc() == FAILED and harts.load(WORD) == 77
    harts.lr(address=ANOTHER_PAGE)
    assert harts.sc(address=ANOTHER_PAGE) == SUCCEEDED
    harts.lr()
    near.dma_ends(WORD, 8)
    assert harts.sc() == FAILED, "its LR may have read what was there before"
    assert harts.lr() == 77 and harts.sc(value=5) == SUCCEEDED


def test_devices_that_write_to_one_page(harts: Harts) -> None:
    near = NearDevices(harts.blob, harts.memory)
    areas = [(WORD, 8), (WORD + 512, 512), (WORD - PAGE, 3 * PAGE), (WORD + PAGE - 1, 2)]
    for area in areas:
        near.dma_begins(*area)
    for area in areas:
        harts.lr()
        assert harts.sc() == FAILED
        near.dma_ends(*area)
    harts.lr()
    assert harts.sc() == SUCCEEDED
    counts = (ctypes.c_uint32 * (harts.memory.ram_size // PAGE)).from_address(harts.memory.machine.page_dma)
    assert not any(counts)


@pytest.mark.parametrize(("address", "length"), [(RAM - 64, 64), (RAM - 8, 64), (RAM + (1 << 20) - 8, 4096), (0, 8)])
def test_dma_outside_ram_is_harmless(harts: Harts, address: int, length: int) -> None:
    near = NearDevices(harts.blob, harts.memory)
    near.dma_begins(address, length)
    near.dma_ends(address, length)


def test_the_coordinator_is_not_held_up_by_a_dead_hart(harts: Harts) -> None:
    """A vCPU that was killed between locking a version and publishing the next."""
    harts.lr()
    versions = harts.memory.machine.versions
    before = list(versions)
    near = NearDevices(harts.blob, harts.memory)
    near.dma_begins(WORD, 8)
    (index,) = (i for i, version in enumerate(versions) if version != before[i])
    versions[index] |= 1
    started = time.monotonic()
    near.dma_begins(WORD, 8)
    assert time.monotonic() - started < 20 and versions[index] & 1 == 0


def test_other_granules_and_pages_do_not_matter(harts: Harts) -> None:
    for address in (WORD + 64, WORD - 8, ANOTHER_PAGE):
        harts.lr()
        harts.sd(3, address=address)
        assert harts.sc() == SUCCEEDED


def test_sc_elsewhere_fails_and_gives_the_reservation_up(harts: Harts) -> None:
    harts.lr()
    assert harts.sc(address=WORD + 8) == FAILED
    assert harts.sc() == FAILED


def test_the_first_page_of_all_waits_for_a_hart_that_runs(harts: Harts) -> None:
    """A hart that is between two safepoints has not acknowledged: an LR then is no reservation, and nobody waits."""
    busy = harts.hart(1)
    harts.sd(0)
    harts.routine("become_busy", hart=1)
    assert harts.lr() == 0 and harts.mark().value > RESERVED
    assert harts.sc() == FAILED
    assert busy.lines[LINES.index("kick")] & 2, "it was asked to"
    harts.sd(7)  # service, at the start of the run, acknowledges
    assert harts.lr() == 7 and harts.mark().value == RESERVED
    assert harts.sc(value=8) == SUCCEEDED


def test_a_mark_that_its_maker_left_unfinished_is_taken_up(harts: Harts) -> None:
    """The maker lost its core, or its life, before it took an epoch."""
    harts.mark().value = 5 << 2 | PREPARED
    harts.sd(0)
    harts.lr()
    harts.sd(0)
    assert harts.sc() == FAILED
    harts.lr()
    assert harts.mark().value == RESERVED and harts.sc() == SUCCEEDED
