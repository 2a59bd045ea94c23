"""Comparisons with the bounds of memory that regions leave out, as others imply them.

Loops and calls work with pointers that start at, and move across, both ends of RAM, where a comparison that is missing
reads or writes what is none of the guest's. Each ends in the same state, at the same instruction, interpreted and
translated.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from mpemu.isa.privileged import Cause
from mpemu.layout import HEAT_ROUND
from tests.codegen.lab import A0, STOP
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import loop
from tests.codegen.pointers import A5, BODIES, CALLED, FUNCTION, SP, random_body
from tests.codegen.translated import TranslatedLab, lab_fixture

CODE = RAM + 0x2_0000
SIZE = 1 << 20
END = RAM + SIZE
MIDDLE = RAM + 0x4_0000
TURNS = 21
QUANTUM = 3000
SEEN = 12 * 4096
"""Bytes at each end of RAM, and around its middle, that may be written, and are compared."""


PATTERN = bytes(n * 11 % 251 for n in range(SEEN))


class Edge(TranslatedLab):
    def __init__(self) -> None:
        super().__init__(size=SIZE)
        self.hart().hotness = HEAT_ROUND  # nothing is asked for

    def body(self, name: str) -> None:
        self.place(CODE, loop(BODIES[name]))
        self.place(CODE + FUNCTION, CALLED)

    def outcome(self, va: int, first: int = 0, a5: int = 0) -> tuple[Any, ...]:
        """How the loop ends that begins with a pointer ``va``; with ``first``, so many instructions later."""
        written = (RAM, MIDDLE - SEEN, MIDDLE, END - SEEN)
        for at in written:
            self.memory.write(at, PATTERN)
        hart = self.hart()
        hart.mcause = hart.mtval = hart.mepc = 0
        start = hart.instret
        self.run(CODE, quantum=first, x1=STOP, x2=MIDDLE, x10=1, x11=TURNS, x12=MIDDLE, x13=MIDDLE, x14=0, x15=a5)
        self.run(hart.pc, quantum=QUANTUM, x2=va, x12=va, x13=END - 24)
        trap = hart.mcause, hart.mtval, hart.mepc, hart.instret - start
        return *trap, list(hart.x[A0 : A5 + 1]), hart.x[SP], [self.memory.read(at, SEEN) for at in written]

    def hot(self, a5: int = 0) -> None:
        self.outcome(MIDDLE, 0, a5)
        self.hart().hotness = 1
        self.translate(CODE)
        self.hart().hotness = HEAT_ROUND


lab = lab_fixture(Edge)


OFFSETS = (*range(-40, 41, 8), -168, -105, -25, -9, -7, -1, 1, 7, 9, 25, -2100, -2056, -2048, -2040, 2040, 2048, 2100)
PLACES = [bound + offset for bound in (RAM, END) for offset in OFFSETS] + [0, 8, -8 % (1 << 64), MIDDLE, MIDDLE + 3]


@pytest.mark.parametrize("first", [0, 5, 11])
@pytest.mark.parametrize("name", BODIES)
def test_pointers_around_the_ends_of_ram(lab: Edge, name: str, first: int) -> None:
    """As the loop begins, and as it goes on behind an interrupt, say."""
    lab.body(name)
    interpreted = [lab.outcome(va, first) for va in PLACES]
    lab.hot()
    assert lab.units[-1].kind.windowed and lab.translated([CODE]) == {CODE}
    for va, wanted in zip(PLACES, interpreted, strict=True):
        assert lab.outcome(va, first) == wanted, hex(va)
    assert any(cause != Cause.BREAKPOINT for cause, *_ in interpreted)


@pytest.mark.parametrize("seed", range(30))
def test_random_pointers(lab: Edge, seed: int) -> None:
    body = random_body(Random(seed))
    lab.place(CODE, loop(body))
    places = [MIDDLE, *Random(seed).sample(PLACES, 20)]
    interpreted = [lab.outcome(va, 0, va) for va in places]
    lab.hot(MIDDLE)
    for va, wanted in zip(places, interpreted, strict=True):
        assert lab.outcome(va, 0, va) == wanted, hex(va)
