"""Computed jumps in regions: they go on inside where they have been seen to go, and are right wherever they go."""

from __future__ import annotations

from typing import Any

import pytest

from mpemu.codegen.region_jumps import OFTEN
from mpemu.codegen.surroundings import LEAST_COUNT, MOST_TARGETS
from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import REGION_VISIT
from mpemu.unit import GENERATIONS, OPTIMISED, QUICK, Kind
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, A2, A3, A4, A5, asm
from tests.codegen.paged_program import CODE, PAGE, RA, RETURN, SMALL, T0, TURNS, Program, adds, call, loop
from tests.codegen.translated import lab_fixture

TABLE = CODE + 15 * PAGE
"""Where programs have a table of addresses, on page 15."""
CALL_A2 = asm("jalr", rd=RA, rs1=A2, imm=0)


program = lab_fixture(Program)


def visits(hart: Any) -> int:
    return int(hart.region_visits + hart.region_work // REGION_VISIT)


def runs_inside(program: Program, **x: int) -> tuple[int, bool]:
    """(a0 of the loop, whether it has run in a single visit of a region)."""
    before = visits(program.hart())
    found = program.sum(**x)
    return found, visits(program.hart()) == before + 1


def place_functions(program: Program, count: int, at: int = 0x400) -> list[int]:
    """Virtual addresses of functions that add 1, 2, 3 ... to a0."""
    for n in range(count):
        program.place(CODE + at + n * 16, adds(A0, n + 1), RETURN)
    return [SMALL + at + n * 16 for n in range(count)]


def test_a_call_through_a_pointer_and_its_return_stay_inside(program: Program) -> None:
    program.place(CODE, loop(CALL_A2))
    (one,) = place_functions(program, 1)
    program.sum(x12=one)
    program.has_jumped(SMALL, one)
    program.translate(CODE)
    assert runs_inside(program, x12=one) == (TURNS, True)


def test_a_pointer_that_changes(program: Program) -> None:
    """To functions that the region knows, and to others, which it leaves for."""
    program.place(CODE, loop(CALL_A2))
    functions = place_functions(program, 4)
    for function in functions:
        program.sum(x12=function)
    program.has_jumped(SMALL, functions[1], functions[3])
    program.translate(CODE)
    for n in (0, 1, 2, 3, 1, 0):
        assert runs_inside(program, x12=functions[n]) == ((n + 1) * TURNS, n in (1, 3))


def test_the_function_changes(program: Program) -> None:
    """On the region's own page, and on another one that is rewritten, or replaced by another page."""
    program.place(CODE, loop(CALL_A2))
    program.place(CODE + PAGE, adds(A0, 3), RETURN)
    program.place(CODE + 10 * PAGE, adds(A0, 100), RETURN)
    there = SMALL + PAGE
    program.sum(x12=there)
    program.has_jumped(SMALL, there)
    program.translate(CODE)
    assert [d for d, _ in program.units[-1].pages] == [0, 1]
    assert runs_inside(program, x12=there) == (3 * TURNS, True)
    for amount in (4, 3):
        program.rewrite(CODE + PAGE, adds(A0, amount))
        assert program.sum(x12=there) == amount * TURNS
    for pa, amount in ((CODE + 10 * PAGE, 100), (CODE + PAGE, 3)):
        program.map(1, pa)
        program.sfence(there)
        assert program.sum(x12=there) == amount * TURNS
    program.map(1, 0, 0)
    program.sfence(there)
    program.sum(cause=Cause.FETCH_PAGE, x12=there)
    assert (program.hart().mepc, program.hart().x[RA]) == (there, SMALL + 4)


def jump_table(program: Program, cases: int) -> list[int]:
    """A loop that jumps through a table by the lowest bits of a1: addresses of its cases, which add 1, 10, 100 ..."""
    dispatch = (
        asm("andi", rd=T0, rs1=A1, imm=cases - 1)
        + asm("slli", rd=T0, rs1=T0, shamt=3)
        + asm("add", rd=T0, rs1=T0, rs2=A3)
        + asm("ld", rd=A2, rs1=T0, imm=0)
        + asm("jalr", rd=0, rs1=A2, imm=0)
    )
    end = len(dispatch) + 8 * cases
    bodies = b"".join(
        asm("add", rd=A0, rs1=A0, rs2=0) + asm("jal", rd=0, imm=end - len(dispatch) - 8 * n - 4) for n in range(cases)
    )
    program.place(CODE, loop(dispatch + bodies))
    places = [len(dispatch) + 8 * n for n in range(cases)]
    for n, place in enumerate(places):
        program.memory.write(CODE + place, adds(A0, 10**n))
        program.store(TABLE + 8 * n, SMALL + place)
    program.routine("flush_code")
    return [SMALL + place for place in places]


def test_a_jump_table(program: Program) -> None:
    cases = jump_table(program, 4)
    table = SMALL + 15 * PAGE
    expected = program.sum(x13=table)
    assert expected == 1 * 5 + 10 * 6 + 100 * 5 + 1000 * 5
    program.has_jumped(SMALL + 16, *cases)
    program.translate(CODE)
    assert runs_inside(program, x13=table) == (expected, True)
    assert {case - SMALL for case in cases} <= set(program.units[-1].entries), "other regions may lead there"
    program.store(TABLE + 8, cases[3])
    assert runs_inside(program, x13=table) == (expected - 10 * 6 + 1000 * 6, True), "data decides"


def test_a_target_behind_the_jump_and_one_before_it(program: Program) -> None:
    """The latter closes a loop without any branch: interrupts and the end of the slice are seen there."""
    program.place(CODE, adds(A0, 1), adds(A1, -1), asm("bne", rs1=A1, rs2=0, imm=8), asm("ebreak"))
    program.memory.write(CODE + 16, asm("jalr", rd=0, rs1=A2, imm=0))
    program.routine("flush_code")
    assert program.sum(x12=SMALL) == TURNS
    program.has_jumped(SMALL + 16, SMALL)
    program.translate(CODE)
    assert runs_inside(program, x12=SMALL) == (TURNS, True)
    reason = program.run(SMALL, priv=Mode.S, quantum=1000, x10=0, x11=-1, x12=SMALL)
    assert reason is ExitReason.QUANTUM
    assert program.hart().instret == program.hart().quantum_end and program.hart().pc == SMALL


def test_a_return_to_a_caller_outside(program: Program) -> None:
    """A function's region does not take in where the function was called: what is hot there has a region that has the
    function."""
    program.place(CODE, loop(call(0x400)))
    program.place(CODE + 0x400, adds(A0, 1), adds(A0, 2), RETURN)
    program.sum()
    program.has_jumped(SMALL + 0x408, SMALL + 4)
    program.translate(CODE + 0x400)
    assert program.units[-1].instructions == 3
    assert runs_inside(program) == (3 * TURNS, False)
    program.translate(CODE)
    assert runs_inside(program) == (3 * TURNS, True)


def test_many_targets(program: Program) -> None:
    """More than anybody guesses: some are inside."""
    program.place(CODE, loop(CALL_A2))
    functions = place_functions(program, MOST_TARGETS * 2)
    for function in functions:
        program.sum(x12=function)
    program.has_jumped(SMALL, *functions)
    program.serve()
    program.translate(CODE)
    inside = 0
    for n, function in enumerate(functions):
        found, is_inside = runs_inside(program, x12=function)
        assert found == (n + 1) * TURNS
        inside += is_inside
    assert inside == MOST_TARGETS


WRONG = {
    "odd": SMALL + 0x401,
    "in the middle of an instruction": SMALL + 0x402,
    "no code": SMALL + 0x800,
    "not mapped": SMALL + 30 * PAGE,
    "far away": 1 << 63,
    "in front of everything": 0,
    "itself": SMALL,
}


@pytest.mark.parametrize("guess", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_guess(program: Program, guess: int) -> None:
    program.place(CODE, loop(adds(A0, 1) + CALL_A2))
    (one,) = place_functions(program, 1)
    assert program.sum(x12=one) == 2 * TURNS
    program.has_jumped(SMALL + 4, guess)
    program.translate(CODE)
    assert program.translated([CODE]) == {CODE}
    assert program.sum(x12=one) == 2 * TURNS


def test_a_target_that_is_not_mapped_where_the_region_lies_now(program: Program) -> None:
    """The same page elsewhere has another neighbour."""
    program.place(CODE, loop(CALL_A2))
    program.place(CODE + PAGE, adds(A0, 3), RETURN)
    program.place(CODE + 10 * PAGE, adds(A0, 100), RETURN)
    program.sum(x12=SMALL + PAGE)
    program.has_jumped(SMALL, SMALL + PAGE)
    program.translate(CODE)
    program.map(16, CODE)
    program.map(17, CODE + 10 * PAGE)
    for _ in range(2):
        assert program.sum(16, x12=SMALL + 17 * PAGE) == 100 * TURNS
        assert program.sum(16, x12=SMALL + PAGE) == 3 * TURNS, "the call returns to page 16"
        assert program.sum(0, x12=SMALL + PAGE) == 3 * TURNS


def test_regions_note_where_they_are_left(program: Program) -> None:
    """So that the optimised one, which is made later, knows."""
    hart = program.hart()
    hart.first_tier, hart.hotness_2 = QUICK, 1
    jump_table(program, 4)
    table = SMALL + 15 * PAGE
    assert program.sum(x13=table)
    program.translate(CODE)
    assert program.units[-1].kind.tier == QUICK
    turns = LEAST_COUNT + 4
    for is_inside in (False, True):
        before = visits(hart)
        program.done(SMALL, priv=Mode.S, quantum=40 * turns, x10=0, x11=turns, x13=table)
        assert hart.x[A0] == turns // 4 * 1111
        assert (visits(hart) == before + 1) == is_inside
        program.serve()
        program.translate(CODE)
    assert program.units[-1].kind.tier == OPTIMISED


def test_an_optimised_region_is_made_anew_for_a_jump_that_often_leads_out(program: Program) -> None:
    """A bounded number of times; and not for where a jump seldom leads."""
    program.place(CODE, loop(adds(A4, 1) + CALL_A2))
    functions = place_functions(program, GENERATIONS + 1)
    for function in functions:
        program.sum(x12=function)
    program.serve()
    program.translate(CODE)
    program.asks_at_exits(False)
    for n, function in enumerate(functions):
        made = len(program.units)
        for turns, is_enough in ((OFTEN // 2, False), (OFTEN, True)):
            program.done(SMALL, priv=Mode.S, quantum=8 * turns, x10=0, x11=turns, x12=function)
            program.serve()
            assert (len(program.units) > made) == (is_enough and n < GENERATIONS - 1)
        if n < GENERATIONS - 1:
            assert program.units[-1].kind == Kind(OPTIMISED, generation=n + 1)
            assert (4, function - SMALL) in program.units[-1].guesses
        assert runs_inside(program, x12=function) == ((n + 1) * TURNS, n < GENERATIONS - 1)


def test_deterministic_with_and_without(program: Program) -> None:
    """With slices of all lengths a hart stops at the same places, translated or not."""
    cases = jump_table(program, 4)
    program.memory.write(CODE + cases[2] - SMALL, call(0x400 - (cases[2] - SMALL)))
    program.place(CODE + 0x400, adds(A0, 5), asm("addi", rd=A5, rs1=RA, imm=0), asm("jalr", rd=RA, rs1=A4, imm=0))
    program.memory.write(CODE + 0x40C, asm("jalr", rd=0, rs1=A5, imm=0))
    program.place(CODE + PAGE, adds(A0, 3), RETURN)

    def stops(length: int) -> list[tuple[int, int]]:
        hart = program.hart()
        begin = hart.instret
        found = []
        start = {"x10": 0, "x11": 40, "x13": SMALL + 15 * PAGE, "x14": SMALL + PAGE}
        reason = program.run(SMALL, priv=Mode.S, quantum=length, **start)
        while hart.pc != hart.mtvec:
            assert reason is ExitReason.QUANTUM
            found.append((hart.pc, hart.instret - begin))
            reason = program.resume(quantum=length)
        assert hart.x[A0] == 10 * (1 + 10 + 8 + 1000)
        return found

    lengths = (1, 2, 3, 7, 10, 31, 100)
    interpreted = [stops(length) for length in lengths]
    program.has_jumped(SMALL + 16, *cases)
    program.has_jumped(SMALL + 0x408, SMALL + PAGE)
    program.has_jumped(SMALL + 0x40C, cases[2] + 4)
    program.translate(CODE)
    assert [d for d, _ in program.units[-1].pages] == [0, 1]
    before = visits(program.hart())
    assert [stops(length) for length in lengths] == interpreted
    assert visits(program.hart()) > before


@pytest.mark.parametrize("tier", [QUICK, OPTIMISED])
def test_a_far_jump_to_a_known_place(program: Program, tier: int) -> None:
    """Is none to a computed address."""
    program.hart().first_tier = tier
    body = adds(A0, 1) + adds(A1, -1) + asm("bne", rs1=A1, rs2=0, imm=8) + asm("ebreak")
    far = asm("auipc", rd=T0, imm=0) + asm("jalr", rd=0, rs1=T0, imm=-len(body))
    program.place(CODE, body + far)
    assert program.sum() == TURNS
    program.translate(CODE)
    assert program.units[-1].kind.tier == tier
    assert runs_inside(program) == (TURNS, True)


def test_a_far_call_that_is_entered_in_the_middle(program: Program) -> None:
    """At its second instruction, whose register then leads somewhere else."""
    one, two = place_functions(program, 2)
    far = asm("auipc", rd=T0, imm=0) + asm("jalr", rd=RA, rs1=T0, imm=one - SMALL - 8)
    skip = asm("addi", rd=T0, rs1=A2, imm=0) + asm("bne", rs1=A2, rs2=0, imm=8)
    program.place(CODE, loop(skip + far))
    start = two - (one - SMALL - 8)
    expected = (program.sum(x12=0), program.sum(x12=start))
    assert expected == (TURNS, 2 * TURNS)
    program.serve()
    program.translate(CODE)
    for _ in range(2):
        assert (program.sum(x12=0), program.sum(x12=start)) == expected
    assert program.translated([CODE]) == {CODE}
