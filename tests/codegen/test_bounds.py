"""Comparisons with the bounds of memory that regions leave out, as others imply them.

Loops and calls work with pointers that start at, and move across, both ends of RAM, where a comparison that is missing
reads or writes what is none of the guest's. Each ends in the same state, at the same instruction, interpreted and
translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mpemu.isa.privileged import Cause
from mpemu.layout import HEAT_ROUND, PAGE
from tests.codegen.lab import A0, A1, A2, A3, A4, STOP, asm
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import RA, RETURN, adds, call, loop
from tests.codegen.translated import TranslatedLab

CODE, FUNCTION = RAM + 0x2_0000, RAM + 0x2_0100
SIZE = 1 << 20
END = RAM + SIZE
MIDDLE = RAM + 0x4_0000
TURNS = 6
QUANTUM = 1000
SP, A5 = 2, 15
SEEN = 5 * 4096
"""Bytes at each end of RAM that may be written, and are compared."""


PATTERN = bytes(n * 11 % 251 for n in range(SEEN))


def load(imm: int, name: str = "ld", base: int = A2) -> bytes:
    return asm(name, rd=A4, rs1=base, imm=imm) + asm("add", rd=A0, rs1=A0, rs2=A4)


def store(imm: int, name: str = "sd", base: int = A2) -> bytes:
    return asm(name, rs1=base, rs2=A0, imm=imm)


def unless_zero(register: int, body: bytes) -> bytes:
    return asm("beq", rs1=register, rs2=0, imm=len(body) + 4) + body


FRAME = adds(SP, -32) + store(24, base=SP) + store(0, base=SP) + load(24, base=SP) + adds(SP, 32)
INNER = adds(A5, 3) + load(0) + adds(A5, -1) + asm("bne", rs1=A5, rs2=0, imm=-12)
BODIES = {
    "up": load(0) + adds(A2, 8),
    "up by bytes": load(0, "lbu") + store(1, "sb") + adds(A2, 1),
    "up, far": load(0) + store(2040) + adds(A2, 2047),
    "down": load(-8) + adds(A2, -8),
    "down by bytes": adds(A2, -1) + load(0, "lb"),
    "up and down": load(0) + adds(A2, 16) + store(0) + adds(A2, -24),
    "by a register": load(0) + store(8) + asm("add", rd=A2, rs1=A2, rs2=A3),
    "two by turns": load(0) + load(0, base=A3) + adds(A2, 8) + adds(A3, -8),
    "a copy": asm("add", rd=A5, rs1=A2, rs2=0) + load(0) + load(8, base=A5) + store(-8, base=A5) + adds(A2, 8),
    "a frame": load(0) + asm("add", rd=SP, rs1=A2, rs2=0) + FRAME + adds(A2, 8),
    "in one of two ways": asm("andi", rd=A5, rs1=A1, imm=2) + unless_zero(A5, load(0)) + load(-16) + adds(A2, 8),
    "before and behind": store(0) + asm("andi", rd=A5, rs1=A1, imm=1) + unless_zero(A5, adds(A2, 64)) + load(0),
    "far apart": asm("andi", rd=A5, rs1=A1, imm=0)
    + asm("add", rd=A5, rs1=A5, rs2=A2)
    + asm("beq", rs1=A1, rs2=A0, imm=16)
    + load(2000, base=A5)
    + asm("jal", rd=0, imm=12)
    + load(-2000, base=A5)
    + load(-100, base=A5)
    + adds(A2, 8),
    "a loop in it": INNER + store(8) + adds(A2, 8),
    "a call": call(0, RA),
    "what it loads": store(0) + asm("sd", rs1=A2, rs2=A2, imm=0) + asm("ld", rd=A2, rs1=A2, imm=0) + adds(A2, 8),
    "by x0": unless_zero(A1, load(0)) + asm("ld", rd=A4, rs1=0, imm=-8) + adds(A2, 8),
}


class Edge(TranslatedLab):
    def __init__(self) -> None:
        super().__init__(size=SIZE)
        self.hart().hotness = HEAT_ROUND  # nothing is asked for

    def body(self, name: str) -> None:
        body = BODIES[name]
        if name == "a call":
            body = call(FUNCTION - CODE, RA) + adds(A2, 8)
            self.place(FUNCTION, adds(SP, -16), store(8, base=SP), load(0), load(8, base=SP), adds(SP, 16), RETURN)
        self.place(CODE, loop(body))

    def outcome(self, va: int, first: int = 0) -> tuple[Any, ...]:
        """How the loop ends that begins with a pointer ``va``; with ``first``, so many instructions later."""
        ends = (0, SIZE - SEEN)
        for at in ends:
            self.memory.write(RAM + at, PATTERN)
        self.memory.write(MIDDLE - PAGE, bytes(2 * PAGE))
        hart = self.hart()
        hart.mcause = 0
        start = hart.instret
        self.run(CODE, quantum=first, x1=STOP, x2=MIDDLE, x10=1, x11=TURNS, x12=MIDDLE, x13=MIDDLE, x14=0, x15=0)
        self.run(hart.pc, quantum=QUANTUM, x2=va, x12=va, x13=END - 24)
        trap = hart.mcause, hart.mtval, hart.mepc, hart.instret - start
        return *trap, list(hart.x[A0 : A5 + 1]), hart.x[SP], [self.memory.read(RAM + at, SEEN) for at in ends]

    def hot(self) -> None:
        self.outcome(MIDDLE)
        self.hart().hotness = 1
        assert self.translate(CODE) == 1
        self.hart().hotness = HEAT_ROUND
        assert self.units[-1].kind.windowed and self.translated([CODE]) == {CODE}


@pytest.fixture
def lab() -> Iterator[Edge]:
    made = Edge()
    yield made
    made.close()


OFFSETS = (*range(-40, 41, 8), -25, -9, -7, -1, 1, 7, 9, 25, -2100, -2056, -2048, -2040, 2040, 2048, 2100)
PLACES = [bound + offset for bound in (RAM, END) for offset in OFFSETS] + [0, 8, -8 % (1 << 64), MIDDLE, MIDDLE + 3]


@pytest.mark.parametrize("first", [0, 5, 11])
@pytest.mark.parametrize("name", BODIES)
def test_pointers_around_the_ends_of_ram(lab: Edge, name: str, first: int) -> None:
    """As the loop begins, and as it goes on behind an interrupt, say."""
    lab.body(name)
    interpreted = [lab.outcome(va, first) for va in PLACES]
    lab.hot()
    for va, wanted in zip(PLACES, interpreted, strict=True):
        assert lab.outcome(va, first) == wanted, hex(va)
    assert any(cause != Cause.BREAKPOINT for cause, *_ in interpreted)
