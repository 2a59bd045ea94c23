"""Translated accesses by one base register in a row: what is known of the first one's page is no more than that.

A loop reads and writes around an address, on pages that lie in any order in RAM, one of them read-only, one missing. It
ends in the same state, at the same instruction, interpreted and translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mpemu.isa.privileged import Mode
from tests.codegen.lab import A0, A2, A3, A4, A, D, R, V, W, asm
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import CODE, PAGE, QUANTUM, SMALL, Program, loop
from tests.codegen.translated import TIERS

RW = V | R | W | A | D
FIRST = 6
"""Page of the program that the data begin at."""
FRAMES = (RAM + 0x8_4000, RAM + 0x8_1000, RAM + 0x8_6000, RAM + 0x8_2000)
READ_ONLY = 2
"""Index of one of them; behind the last one nothing is mapped."""
TURNS = 3
A5 = 15


def load(name: str, imm: int, base: int = A2) -> bytes:
    return asm(name, rd=A4, rs1=base, imm=imm) + asm("add", rd=A0, rs1=A0, rs2=A4)


def store(name: str, imm: int) -> bytes:
    return asm(name, rs1=A2, rs2=A0, imm=imm)


BODIES = {
    "reads": load("ld", 0) + load("ld", 8) + load("lbu", -1) + load("lw", 2040) + load("ld", -2048) + load("lh", 3),
    "writes": store("sd", 8) + store("sd", 0) + store("sb", -1) + store("sw", 2044) + store("sd", -8),
    "both": load("ld", 16) + store("sd", 8) + load("ld", 8) + store("sh", -2) + load("lhu", -2) + load("ld", 4),
    "base changes": load("ld", 0) + asm("addi", rd=A2, rs1=A2, imm=8) + load("ld", 0) + store("sd", -8),
    "base is pc": asm("auipc", rd=A3, imm=0) + load("ld", 0, A3) + load("lwu", 4, A3) + load("ld", 8),
    "base is lost": load("ld", 8) + asm("ld", rd=A2, rs1=A2, imm=0) + asm("add", rd=A2, rs1=A2, rs2=A3) + load("ld", 0),
}


class Data(Program):
    def prepare(self) -> None:
        for index, frame in enumerate(FRAMES):
            self.map(FIRST + index, frame, RW & ~W if index == READ_ONLY else RW)
            self.memory.write(frame, bytes((index * 37 + at * 11) % 251 for at in range(PAGE)))
            self.memory.write(frame + PAGE // 2, bytes(PAGE // 4))
        self.map(FIRST + len(FRAMES), CODE, 0)
        self.routine("flush_tlb")

    def outcome(self, va: int) -> tuple[Any, ...]:
        self.prepare()
        hart = self.hart()
        hart.mcause = 0
        self.run(SMALL, priv=Mode.S, quantum=QUANTUM, x10=1, x11=TURNS, x12=va, x13=va, x14=0)
        trap = hart.mcause, hart.mtval, hart.mepc
        return *trap, list(hart.x[A0 : A5 + 1]), [self.memory.read(frame, PAGE) for frame in FRAMES]


@pytest.fixture(**TIERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Data]:
    made = Data()
    made.hart().first_tier = request.param
    yield made
    made.close()


@pytest.mark.parametrize("name", BODIES)
def test_accesses_by_one_base(lab: Data, name: str) -> None:
    lab.place(CODE, loop(BODIES[name]), asm("ebreak"))
    start = SMALL + FIRST * PAGE
    offsets = (0, 1, 7, 8, 2047, 2048, 2056, PAGE - 2048, PAGE - 16, PAGE - 9, PAGE - 8, PAGE - 5, PAGE - 1)
    places = [start + index * PAGE + offset for index in range(len(FRAMES)) for offset in offsets]
    lab.asks_at_exits(False)
    interpreted = [lab.outcome(va) for va in places]
    lab.outcome(start + PAGE + 2048)
    lab.asks_at_exits(True)
    assert lab.translate(CODE) == 1 and not lab.units[-1].kind.windowed
    for va, wanted in zip(places, interpreted, strict=True):
        assert lab.outcome(va) == wanted, hex(va)
    assert len({wanted[:3] for wanted in interpreted}) > 1, "faults among them"
