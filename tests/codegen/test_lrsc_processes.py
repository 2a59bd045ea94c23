"""Exact LR/SC between two processes at full speed, and that what is broken would be noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mpemu.codegen.marks import MARKED, RESERVED, UNMARKED
from mpemu.layout import PAGE
from mpemu.vcpu.engine import Engine
from tests.codegen.lab import A0, A1, A2, A3, S0, S1, T0, T1, T2, asm
from tests.codegen.reserving import CODE, WORD, Harts
from tests.processes import fork, wait_until

ENOUGH = 500
"""Attempts with a pair of stores between LR and SC."""
SEQUENCE = WORD + 0x200
DELAY, LONG_DELAY = 30, 2000
"""Turns of a loop between LR and SC."""


def reserving(delay: int) -> bytes:
    """For ever; s0: the word. A pair of stores counts as lying between LR and SC if the writer's sequence
    number says that it began behind the LR and ended before the SC. a2: such attempts, a3: successful ones of them."""
    sequence = SEQUENCE - WORD
    attempt = [
        asm("lr.d", rd=T0, rs1=S0, aq=1, rl=1),
        asm("ld", rd=A0, rs1=S0, imm=sequence),
        asm("addi", rd=T2, rs1=0, imm=delay),
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


PAIR = 8
"""Instructions of a turn of writing()."""


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


def torture(forge: str = "", delay: int = DELAY, patience: int = 1 << 40, unmarkings: int = 0) -> tuple[int, int]:
    """(attempts with a pair of stores in between, those of them that succeeded nevertheless), enough of them, and of
    times that the page has lost its mark. ``forge``: it is "marked" without asking, or "unmarked" without versions."""
    harts = Harts()
    harts.memory.machine.mark_patience = patience
    harts.memory.write(CODE, reserving(delay))
    harts.memory.write(CODE + PAGE, writing())

    found, mark = harts.hart(0).x, harts.mark()

    def run(index: int, pc: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
        engine = Engine(harts.blob, harts.memory, index)
        engine.reset(pc=pc, isa=harts.isa)
        engine.hart.x[S0], engine.hart.x[S1] = WORD, index
        while forge == "unmarked" and index == 1:  # before each pair of stores
            if mark.value == RESERVED:
                mark.value = UNMARKED
            engine.hart.quantum_end = engine.hart.slice_end = engine.hart.instret + PAIR
            engine.run()
        engine.run()

    def enough() -> bool:
        unmarked = harts.hart(0).pages_unmarked + harts.hart(1).pages_unmarked
        return bool(found[A2] >= ENOUGH and unmarked >= unmarkings)

    with process(lambda: run(1, CODE + PAGE)):
        assert wait_until(lambda: harts.load(SEQUENCE) > 1000, 30), "the writer does not run"
        if forge == "marked":
            mark.value = MARKED
        with process(lambda: run(0, CODE)):
            assert wait_until(enough, 30), "the harts did not run side by side: nothing was tested"
    return found[A2], found[A3]


def test_torture_across_processes() -> None:
    between, wrong = torture()
    assert wrong == 0, f"{wrong} of {between} SCs succeeded although the granule was written twice since the LR"


def test_torture_finds_a_protocol_that_is_broken() -> None:
    """The page is marked behind the writer's back: its stores don't go by the version."""
    between, wrong = torture(forge="marked")
    assert wrong > between // 2 > 0


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("delay", [DELAY, LONG_DELAY])
def test_torture_of_a_page_that_loses_its_mark_all_the_time(patience: int, delay: int) -> None:
    between, wrong = torture(delay=delay, patience=patience, unmarkings=300)
    assert wrong == 0, f"{wrong} of {between} SCs succeeded although the granule was written twice since the LR"


def test_torture_finds_an_unmarking_that_is_broken() -> None:
    """The page loses its mark, but the versions stay as they are."""
    between, wrong = torture(forge="unmarked", delay=LONG_DELAY)
    assert wrong > between // 10 > 0, (wrong, between)


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


@pytest.mark.parametrize(
    ("one", "other"), [("tight", "by versions"), ("by versions", "by versions"), ("by versions", "amo")]
)
def test_no_addition_is_lost_on_a_page_that_loses_its_mark(one: str, other: str) -> None:
    assert add_at_once(one, other, patience=1) == 0


def add_at_once(*ways: str, forge: bool = False, patience: int = 1 << 40) -> int:
    """How many additions got lost."""
    harts = Harts()
    harts.memory.machine.mark_patience = patience
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
