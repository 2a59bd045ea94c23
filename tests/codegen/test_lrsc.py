"""Exact LR/SC: an SC succeeds only if no other hart has stored to the granule since the LR, ABA included.

First step by step, harts of one process taking turns between LR and SC; then two processes at full speed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mpemu.layout import LINES, PAGE
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.near import NearDevices
from tests.codegen.lab import A0, A1, A2, A3, S0, S1, T0, T1, T2, Lab, asm
from tests.codegen.native_hart import RAM
from tests.processes import fork, wait_until

CODE = RAM + 0x1000
LR, SC, STORE = CODE, CODE + 0x20, CODE + 0x40
WORD = RAM + 0x4_0000
ANOTHER_PAGE = RAM + 0x5_0000
MARKED = 1
FAILED, SUCCEEDED = 1, 0


class Harts(Lab):
    def __init__(self, harts: int = 2) -> None:
        super().__init__(harts)
        self.place(LR, asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0))
        self.place(SC, asm("sc.d", rd=A0, rs2=A2, rs1=A1, aq=0, rl=0))
        self.place(STORE, asm("sd", rs2=A2, rs1=A1, imm=0))

    def lr(self, hart: int = 0, address: int = WORD) -> int:
        value: int = self.done(LR, hart=hart, x11=address).x[A0]
        return value

    def sc(self, hart: int = 0, value: int = 1, address: int = WORD) -> int:
        result: int = self.done(SC, hart=hart, x11=address, x12=value).x[A0]
        return result

    def sd(self, value: int, hart: int = 1, address: int = WORD) -> None:
        self.done(STORE, hart=hart, x11=address, x12=value)

    def mark(self, address: int = WORD) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_address(self.memory.machine.page_marks + 4 * ((address - RAM) // PAGE))


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


WRITERS: dict[str, tuple[bytes, ...]] = {
    "sb": (asm("sb", rs2=A2, rs1=A1, imm=7),),
    "sh": (asm("sh", rs2=A2, rs1=A1, imm=2),),
    "misaligned": (asm("sw", rs2=A2, rs1=A1, imm=-2),),
    "elsewhere in the granule": (asm("sd", rs2=A2, rs1=A1, imm=56),),
    "amo": (asm("amoadd.w", rd=A3, rs2=0, rs1=A1, aq=0, rl=0),),
    "amocas": (asm("amocas.d", rd=0, rs2=0, rs1=A1, aq=0, rl=0),),
    "cbo.zero": (asm("cbo.zero", rs1=A1),),
    "lr/sc": (asm("lr.d", rd=A3, rs1=A1, aq=0, rl=0), asm("sc.d", rd=0, rs2=A3, rs1=A1, aq=0, rl=0)),
    "fsd": (asm("fsd", fs2=0, rs1=A1, imm=8),),
}


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
    assert harts.lr() == 0 and harts.mark().value > MARKED
    assert harts.sc() == FAILED
    assert busy.lines[LINES.index("kick")] & 2, "it was asked to"
    harts.sd(7)  # service, at the start of the run, acknowledges
    assert harts.lr() == 7 and harts.mark().value == MARKED
    assert harts.sc(value=8) == SUCCEEDED


def test_a_mark_that_its_maker_left_unfinished_is_taken_up(harts: Harts) -> None:
    """The maker lost its core, or its life, before it took an epoch."""
    harts.mark().value = 2
    harts.sd(0)
    harts.lr()
    harts.sd(0)
    assert harts.sc() == FAILED
    harts.lr()
    assert harts.mark().value == MARKED and harts.sc() == SUCCEEDED


# -- two processes
ENOUGH = 500
"""Attempts with a pair of stores between LR and SC."""
SEQUENCE = WORD + 0x200
DELAY = 30


def reserving() -> bytes:
    """For ever; s0: the word. A pair of stores counts as lying between LR and SC if the writer's sequence
    number says that it began behind the LR and ended before the SC. a2: such attempts, a3: successful ones of them."""
    sequence = SEQUENCE - WORD
    attempt = [
        asm("lr.d", rd=T0, rs1=S0, aq=1, rl=1),
        asm("ld", rd=A0, rs1=S0, imm=sequence),
        asm("addi", rd=T2, rs1=0, imm=DELAY),
        asm("addi", rd=T2, rs1=T2, imm=-1),
        asm("bne", rs1=T2, rs2=0, imm=-4),
        asm("ld", rd=A1, rs1=S0, imm=sequence),
        asm("sc.d", rd=T1, rs2=T0, rs1=S0, aq=1, rl=1),  # writes what it read: the value never tells
        asm("sltiu", rd=T1, rs1=T1, imm=1),  # 1: success
        asm("addi", rd=A0, rs1=A0, imm=1),
        asm("andi", rd=A0, rs1=A0, imm=-2),
        asm("addi", rd=A0, rs1=A0, imm=2),  # the first sequence number that means a whole pair
        asm("sltu", rd=T2, rs1=A1, rs2=A0),
        asm("xori", rd=T2, rs1=T2, imm=1),
        asm("and", rd=T1, rs1=T2, rs2=T1),
        asm("add", rd=A3, rs1=A3, rs2=T1),
        asm("add", rd=A2, rs1=A2, rs2=T2),
        asm("pause"),  # gives the core away now and then
    ]
    loop = b"".join(attempt)
    return loop + asm("jal", rd=0, imm=-len(loop))


def writing() -> bytes:
    """s0: the word. For ever: sequence odd; 1 to the word and 0 again; sequence even."""
    sequence = SEQUENCE - WORD
    pair = [
        asm("addi", rd=A0, rs1=A0, imm=1),
        asm("sd", rs2=A0, rs1=S0, imm=sequence),
        asm("sd", rs2=S1, rs1=S0, imm=0),
        asm("sd", rs2=0, rs1=S0, imm=0),
        asm("addi", rd=A0, rs1=A0, imm=1),
        asm("sd", rs2=A0, rs1=S0, imm=sequence),
        asm("pause"),
    ]
    loop = b"".join(pair)
    return loop + asm("jal", rd=0, imm=-len(loop))


@contextmanager
def process(body: Callable[[], None]) -> Iterator[int]:
    """A forked child that runs ``body``; killed at the end."""
    pid = fork(body)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def torture(forge: bool) -> tuple[int, int]:
    """(attempts with a pair of stores in between, those of them that succeeded nevertheless)"""
    harts = Harts()
    harts.memory.write(CODE, reserving())
    harts.memory.write(CODE + PAGE, writing())

    def run(index: int, pc: int, s1: int = 0) -> None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
        engine = Engine(harts.blob, harts.memory, index)
        engine.reset(pc=pc, isa=harts.isa)
        engine.hart.x[S0], engine.hart.x[S1] = WORD, s1
        engine.run()

    found = harts.hart(0).x
    with process(lambda: run(1, CODE + PAGE, 1)):
        assert wait_until(lambda: harts.load(SEQUENCE) > 1000, 30), "the writer does not run"
        if forge:
            harts.mark().value = MARKED
        with process(lambda: run(0, CODE)):
            wait_until(lambda: found[A2] >= ENOUGH, 30)
    return found[A2], found[A3]


def test_torture_across_processes() -> None:
    between, wrong = torture(forge=False)
    assert between >= ENOUGH, "the harts did not run side by side: nothing was tested"
    assert wrong == 0, f"{wrong} of {between} SCs succeeded although the granule was written twice since the LR"


def test_torture_finds_a_protocol_that_is_broken() -> None:
    """The page is marked behind the writer's back: its stores don't go by the version."""
    between, wrong = torture(forge=True)
    assert wrong > between // 2 > 0


# -- one word, updated in every way at once
ADDERS: dict[str, list[bytes]] = {  # s0: the word, a0: how often
    "tight": [
        asm("lr.d", rd=T0, rs1=S0, aq=0, rl=0),
        asm("addi", rd=T0, rs1=T0, imm=1),
        asm("sc.d", rd=T1, rs2=T0, rs1=S0, aq=0, rl=0),
        asm("sltiu", rd=T1, rs1=T1, imm=1),
        asm("add", rd=A0, rs1=A0, rs2=T1),
    ],
    "by versions": [
        asm("lr.d", rd=T0, rs1=S0, aq=0, rl=0),
        asm("ld", rd=T2, rs1=S0, imm=128),
        asm("addi", rd=T0, rs1=T0, imm=1),
        asm("sc.d", rd=T1, rs2=T0, rs1=S0, aq=0, rl=0),
        asm("sltiu", rd=T1, rs1=T1, imm=1),
        asm("add", rd=A0, rs1=A0, rs2=T1),
    ],
    "amo": [
        asm("addi", rd=T0, rs1=0, imm=1),
        asm("amoadd.d", rd=0, rs2=T0, rs1=S0, aq=0, rl=0),
        asm("addi", rd=A0, rs1=A0, imm=1),
    ],
}
ADDITIONS = 3_000_000
"""By each of two harts; some tenths of a second."""


@pytest.mark.parametrize(
    ("one", "other"), [("tight", "tight"), ("tight", "by versions"), ("tight", "amo"), ("by versions", "amo")]
)
def test_no_addition_is_lost(one: str, other: str) -> None:
    assert add_at_once(one, other) == 0


def test_a_lost_addition_would_be_noticed() -> None:
    """The page is marked behind the back of the tight sequences: they don't go by the version."""
    rounds = 20  # on a busy machine the two seldom meet
    assert any(add_at_once("tight", "by versions", forge=True) > 0 for _ in range(rounds))


def add_at_once(*ways: str, forge: bool = False) -> int:
    """How many additions got lost."""
    harts = Harts()
    for index, way in enumerate(ways):
        loop = b"".join(ADDERS[way])
        harts.memory.write(
            CODE + index * PAGE, loop + asm("bne", rs1=A0, rs2=A1, imm=-len(loop)) + asm("jal", rd=0, imm=0)
        )
    views = [harts.hart(index) for index in range(len(ways))]

    def run(index: int) -> None:
        engine = Engine(harts.blob, harts.memory, index)
        engine.reset(pc=CODE + index * PAGE, isa=harts.isa)
        engine.hart.x[S0], engine.hart.x[A1] = WORD, ADDITIONS
        engine.run()

    with process(lambda: run(0)):
        if forge:
            assert wait_until(lambda: views[0].x[A0] > 1000, 30)
            harts.mark().value = MARKED
        with process(lambda: run(1)):
            assert wait_until(lambda: all(view.x[A0] == ADDITIONS for view in views), 60)
    return len(ways) * ADDITIONS - harts.load(WORD)
