"""Translated accesses by one base register in a row: what is known of the first one's page is no more than that.

A loop reads and writes around an address, on pages of which some are neighbours in RAM, one is read-only, one missing.
It ends in the same state, accessed and dirty bits included, at the same instruction, interpreted and translated.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from mpemu.isa.privileged import Mode
from tests.codegen.lab import A0, A2, A3, A, D, R, V, W, asm
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import CODE, LEAF, PAGE, QUANTUM, SMALL, Program, adds, loop
from tests.codegen.pointers import A5, BODIES, CALLED, FUNCTION, load, random_body, store
from tests.codegen.translated import lab_fixture

RW = V | R | W | A | D
FIRST = 6
"""Page of the program that the data begin at."""
FRAMES = tuple(RAM + 0x8_0000 + n * PAGE for n in (4, 1, 2, 6, 7))
READ_ONLY = 2
"""Index of one of them; behind the last one nothing is mapped."""
TURNS = 20

OWN = {
    "reads": load(0, "ld") + load(8, "ld") + load(-1, "lbu") + load(2040, "lw") + load(-2048, "ld") + load(3, "lh"),
    "writes": store(8, "sd") + store(0, "sd") + store(-1, "sb") + store(2044, "sw") + store(-8, "sd"),
    "both": load(16, "ld") + store(8, "sd") + load(8, "ld") + store(-2, "sh") + load(-2, "lhu") + load(4, "ld"),
    "base changes": load(0, "ld") + asm("addi", rd=A2, rs1=A2, imm=8) + load(0, "ld") + store(-8, "sd"),
    "base is pc": asm("auipc", rd=A3, imm=0) + load(0, "ld", A3) + load(4, "lwu", A3) + load(8, "ld"),
    "base is lost": load(8, "ld") + asm("ld", rd=A2, rs1=A2, imm=0) + asm("add", rd=A2, rs1=A2, rs2=A3) + load(0, "ld"),
}


ALL = OWN | {name: body for name, body in BODIES.items() if name != "by a register"}


class Data(Program):
    def __init__(self) -> None:
        super().__init__()
        self._leaf = self.memory.read(LEAF, PAGE)

    def prepare(self) -> None:
        self.memory.write(LEAF, self._leaf)
        for index, frame in enumerate(FRAMES):
            flags = (RW & ~W if index == READ_ONLY else RW) & ~(A | D)
            self.map(FIRST + index, frame, flags)
            self.memory.write(frame, bytes((index * 37 + at * 11) % 251 for at in range(PAGE)))
            self.memory.write(frame + PAGE // 2, bytes(PAGE // 4))
        self.map(FIRST + len(FRAMES), CODE, 0)
        self.routine("flush_tlb")

    def outcome(self, va: int, anew: bool = True, a5: int = 0) -> tuple[Any, ...]:
        if anew:
            self.prepare()
        hart = self.hart()
        hart.mcause = hart.mtval = hart.mepc = 0
        self.run(SMALL, priv=Mode.S, quantum=QUANTUM, x10=1, x2=va, x11=TURNS, x12=va, x13=va, x14=0, x15=a5)
        trap = hart.mcause, hart.mtval, hart.mepc
        return *trap, list(hart.x[A0 : A5 + 1]), [self.memory.read(page, PAGE) for page in (*FRAMES, LEAF)]


lab = lab_fixture(Data, by_tier=True)


@pytest.mark.parametrize("name", ALL)
def test_accesses_by_one_base(lab: Data, name: str) -> None:
    lab.place(CODE, loop(ALL[name]), asm("ebreak"))
    lab.place(CODE + FUNCTION, CALLED)
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
    assert len({wanted[:3] for wanted in interpreted}) > 1 or "down" in name, "faults among them"


def test_a_loop_on_another_page_than_the_head(lab: Data) -> None:
    """What its first block finds anew is all that is known there: the turn before was on a page that is elsewhere."""
    turn = load(0) + load(-100) + adds(A2, 8)
    lab.place(CODE, load(-100) + asm("jal", rd=0, imm=PAGE - 8))
    lab.place(CODE + PAGE, loop(turn), asm("ebreak"))
    places = [SMALL + (FIRST + 1) * PAGE - n for n in (16, 80, 8, 0, -80, -92, -100)]
    lab.asks_at_exits(False)
    interpreted = [lab.outcome(va) for va in places]
    lab.asks_at_exits(True)
    assert lab.translate(CODE) == 1
    lab.asks_at_exits(False)
    for va, wanted in zip(places, interpreted, strict=True):
        for anew in (True, False, False):
            assert lab.outcome(va, anew) == wanted, hex(va)


@pytest.mark.parametrize("seed", range(30))
def test_random_pointers(lab: Data, seed: int) -> None:
    """Twice from each place: at first the TLB knows nothing."""
    lab.place(CODE, loop(random_body(Random(seed))), asm("ebreak"))
    random = Random(seed)
    places = [
        SMALL + random.randrange(FIRST, FIRST + 6) * PAGE + random.choice((-64, -16, 0, 8, 100)) for _ in range(20)
    ]
    lab.asks_at_exits(False)
    interpreted = [lab.outcome(va, anew, va) for va in places for anew in (True, False)]
    start = SMALL + FIRST * PAGE + 2048
    lab.outcome(start, True, start)
    lab.asks_at_exits(True)
    lab.translate(CODE)
    lab.asks_at_exits(False)
    translated = [lab.outcome(va, anew, va) for va in places for anew in (True, False)]
    for index, (found, wanted) in enumerate(zip(translated, interpreted, strict=True)):
        assert found == wanted, hex(places[index // 2])
