"""Loops of which regions make several turns at once: which these are, and that nobody can tell.

Slices end at the same instruction, whatever a turn is about, interpreted and translated.
"""

from __future__ import annotations

from typing import Any

import pytest

from mpemu.codegen.shape import Shape, Source
from mpemu.codegen.unrolling import MOST_INSNS, MOST_TURNS, Blocks
from mpemu.isa.privileged import Mode
from mpemu.isa.profiles import IsaSpec
from mpemu.unit import CAREFUL, OPTIMISED, QUICK, Kind
from tests.codegen.lab import A0, A1, A2, asm
from tests.codegen.paged_program import CODE, PAGE, RETURN, RWX, SMALL, Program, adds, call, loop
from tests.codegen.pointers import load, store, unless_zero
from tests.codegen.translated import TranslatedLab, lab_fixture

ISA = IsaSpec.parse("rv64gc")
TURNS = 40
INNER = adds(A2, 3) + adds(A0, 1) + adds(A2, -1) + asm("bne", rs1=A2, rs2=0, imm=-8)
UNLESS_ODD = asm("andi", rd=A2, rs1=A1, imm=1) + unless_zero(A2, adds(A0, 5) + adds(A0, 7)) + adds(A0, 1)
LEFT = asm("addi", rd=A2, rs1=A1, imm=-5) + asm("beq", rs1=A2, rs2=0, imm=16)


def turns(code: bytes, tier: int = OPTIMISED, start: int = 0) -> dict[int, int]:
    """Of the loops that are unrolled in ``code`` at a page offset: by head, from ``start`` on, how many turns."""
    image = bytes(start) + code + RETURN
    pages = {n: image[n * PAGE :][:PAGE].ljust(PAGE, b"\0") for n in range(-(-len(image) // PAGE))}
    shape = Shape(ISA, Source(pages.get, kind=Kind(tier)), start, lambda step: step.insn.name != "fence.i")
    return {head - start: unrolled.turns for head, unrolled in Blocks(shape).unrolled.items()}


def test_small_loops_are_unrolled() -> None:
    assert turns(loop(adds(A0, 1))) == {0: MOST_TURNS}
    assert turns(loop(adds(A0, 1) * 8)) == {0: MOST_INSNS // 10}
    assert turns(loop(UNLESS_ODD)) == {0: MOST_TURNS}
    assert turns(loop(LEFT + adds(A0, 1))) == {0: MOST_TURNS}
    assert turns(loop(INNER)) == {4: MOST_TURNS}
    assert turns(loop(adds(A0, 1)) + loop(adds(A0, 2) + adds(A0, 3))) == {0: MOST_TURNS, 12: MOST_TURNS}


def test_there_are_not_many_more_instructions_than_without() -> None:
    small = loop(adds(A0, 1))
    most = MOST_TURNS * len(small) // 4
    assert len(turns(small * 2)) == MOST_INSNS // most
    assert len(turns(small * 50)) == 50 * len(small) // 4 // most


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(loop(adds(A0, 1) * 40), id="long"),
        pytest.param(loop(call(0x100)), id="with a call"),
        pytest.param(loop(asm("fence.i")), id="with what is not for regions"),
        pytest.param(asm("jal", rd=0, imm=8) + loop(adds(A0, 1) + adds(A0, 2)), id="entered in the middle"),
        pytest.param(
            adds(A1, -1) + asm("beq", rs1=A0, rs2=A1, imm=-4) + asm("bne", rs1=A1, rs2=0, imm=-8),
            id="two ways back",
        ),
        pytest.param(asm("ld", rd=A2, rs1=A0, imm=0) + asm("beq", rs1=A2, rs2=0, imm=-4), id="that only waits"),
    ],
)
def test_other_loops_are_not(code: bytes) -> None:
    assert turns(code) == {}


def test_neither_are_those_on_two_pages_nor_of_other_tiers() -> None:
    code = loop(adds(A0, 1))
    assert turns(code, start=PAGE - 8) == {}
    assert turns(code, start=PAGE - 12) == {0: MOST_TURNS}
    assert turns(code, CAREFUL) == turns(code, QUICK) == {}


BODIES = {
    "one instruction": adds(A0, 1),
    "many": adds(A0, 1) * 20,
    "branches": UNLESS_ODD,
    "ways out": LEFT + adds(A0, 1),
    "a loop in it": INNER,
    "memory": load(0) + store(8) + adds(A2, 8),
}
Outcome = tuple[Any, ...]


def ends(lab: TranslatedLab, start: int, priv: int) -> list[Outcome]:
    """By length of the slice: where the hart is then, and what it has done."""
    found = []
    for quantum in range(1, 260):
        lab.memory.write(DATA, bytes(range(256)) * 32)
        hart = lab.hart()
        hart.mcause, before = 0, hart.instret
        lab.run(start, priv=priv, quantum=quantum, x10=0, x11=TURNS, x12=DATA_AT[priv])
        retired = hart.instret - before
        found.append((hart.pc, retired, hart.mcause, list(hart.x[A0 : A2 + 1]), lab.memory.read(DATA, PAGE)))
    return found


DATA = CODE + 8 * PAGE
DATA_AT = {Mode.M: DATA, Mode.S: SMALL + 8 * PAGE}


lab = lab_fixture(Program)


@pytest.mark.parametrize("priv", [Mode.M, Mode.S], ids=["a window", "paging"])
@pytest.mark.parametrize("name", BODIES)
def test_slices_end_where_the_interpreter_ends_them(lab: Program, name: str, priv: int) -> None:
    for page in range(8, 10):
        lab.map(page, CODE + page * PAGE, RWX)
    start = CODE if priv == Mode.M else SMALL
    lab.place(CODE, loop(BODIES[name]) + asm("ebreak"))
    lab.asks_at_exits(False)
    interpreted = ends(lab, start, priv)
    lab.hart().hotness = 1
    assert lab.translate(CODE)
    assert lab.units[-1].kind == Kind(OPTIMISED, windowed=priv == Mode.M and name == "memory")
    lab.asks_at_exits(False)
    assert ends(lab, start, priv) == interpreted
    assert lab.translated([CODE]) == {CODE}
