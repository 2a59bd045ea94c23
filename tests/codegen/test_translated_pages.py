"""Regions over several pages: made of what has been reached, made anew when more is; entered and left rightly whatever
becomes of one of their pages."""

from __future__ import annotations

import pytest

from mpemu.isa.privileged import Cause, Mode
from mpemu.unit import GENERATIONS
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, A2, A3, A4, asm
from tests.codegen.paged_program import CODE, PAGE, RA, RETURN, SMALL, T0, TURNS, Program, adds, call, loop
from tests.codegen.translated import lab_fixture

program = lab_fixture(Program)


@pytest.fixture
def two(program: Program) -> Program:
    """A loop that calls a function on the next page: a0 += 3."""
    program.place(CODE, loop(call(PAGE)))
    program.place(CODE + PAGE, adds(A0, 3), RETURN)
    program.place(CODE + 10 * PAGE, adds(A0, 100), RETURN)
    program.hot()
    return program


def test_the_other_page_changes(two: Program) -> None:
    """And changes back; what is not the other page stays translated."""
    for amount in (4, 3, 5, 3):
        two.rewrite(CODE + PAGE, adds(A0, amount))
        assert two.sum() == amount * TURNS
        assert two.translated([CODE]) == {CODE}


def test_data_beside_code_of_the_other_page(two: Program) -> None:
    """Another page in all, the same instructions."""
    for n in range(3):
        two.rewrite(CODE + PAGE + 0x800, bytes([n + 1]))
        assert two.sum() == 3 * TURNS


def test_another_page_is_mapped_there(two: Program) -> None:
    for pa, amount in ((CODE + 10 * PAGE, 100), (CODE + PAGE, 3)) * 2:
        two.map(1, pa)
        two.sfence(SMALL + PAGE)
        assert two.sum() == amount * TURNS


def test_nothing_is_mapped_there(two: Program) -> None:
    two.map(1, 0, 0)
    two.sfence(SMALL + PAGE)
    two.sum(cause=Cause.FETCH_PAGE)
    assert (two.hart().mepc, two.hart().x[A0], two.hart().x[A1]) == (SMALL + PAGE, 0, TURNS)
    two.map(1, CODE + PAGE)
    assert two.sum() == 3 * TURNS


def test_the_same_page_elsewhere_with_another_neighbour(two: Program) -> None:
    two.map(16, CODE)
    two.map(17, CODE + 10 * PAGE)
    two.map(18, CODE)
    two.map(19, CODE + PAGE)
    for _ in range(3):
        assert (two.sum(0), two.sum(16), two.sum(18)) == (3 * TURNS, 100 * TURNS, 3 * TURNS)


def test_pages_that_share_a_place_in_the_itlb(program: Program) -> None:
    """A hart never knows both at once: no region has both."""
    program.map(256, CODE + 5 * PAGE)
    program.place(CODE + 5 * PAGE, loop(adds(A2, 1) + call(-256 * PAGE)))
    program.place(CODE, asm("addi", rd=0, rs1=0, imm=0), adds(A0, 3), RETURN)
    program.hot(256, CODE + 5 * PAGE, distances=(0,))
    assert program.sum(256) == 3 * TURNS


def test_a_page_of_the_region_is_driven_out_of_the_itlb(program: Program) -> None:
    """In each turn, by a call to another page of the same place, from a page of the region."""
    program.map(257, CODE + 5 * PAGE)
    far = asm("auipc", rd=T0, imm=256 * PAGE) + asm("jalr", rd=0, rs1=T0, imm=-4)
    program.place(CODE, loop(call(PAGE) + asm("addi", rd=A3, rs1=A3, imm=1)))
    program.place(CODE + PAGE, adds(A0, 3), asm("bne", rs1=A2, rs2=0, imm=8), RETURN, far)
    program.place(CODE + 5 * PAGE + 8, adds(A0, 100), RETURN)
    program.hot()
    assert program.sum(x12=1) == 103 * TURNS
    assert program.sum(x12=0) == 3 * TURNS


def test_an_instruction_across_the_end_of_a_page(program: Program) -> None:
    """In a loop, and mapped to something else in the middle."""
    body = adds(A0, 2)
    start = PAGE - 4
    compressed = (0x0585).to_bytes(2, "little")  # c.addi a1, 1
    program.memory.write(CODE + start, compressed + adds(A1, -1) + body)
    program.place(CODE + PAGE + 6, adds(A1, -1), asm("bne", rs1=A1, rs2=0, imm=start - PAGE - 10))
    program.place(CODE, asm("jal", rd=0, imm=start))
    expected = program.sum()
    assert expected == 2 * TURNS
    program.translate(CODE + start)
    assert [d for d, _ in program.units[-1].pages] == [0, 1]
    assert program.sum() == expected
    changed = bytearray(program.memory.read(CODE + PAGE, PAGE))
    changed[:2] = adds(A1, -2)[2:]
    program.memory.write(CODE + 11 * PAGE, bytes(changed))
    program.map(1, CODE + 11 * PAGE)
    program.sfence(SMALL + PAGE)
    assert program.sum(x11=10) == 2 * 5, "two less per turn, one more, one less: 10, 8, 6, 4, 2"
    program.map(1, CODE + PAGE)
    program.sfence(SMALL + PAGE)
    assert program.sum() == expected


def test_what_was_not_reached_is_left_out(program: Program) -> None:
    """And taken in when it is hot, by making the region anew: a bounded number of times."""
    cold = [PAGE * (n + 1) for n in range(GENERATIONS + 1)]
    branches = b"".join(
        adds(A4, -1) + asm("bne", rs1=A4, rs2=0, imm=8) + call(at - 12 * n - 8, link=RA) for n, at in enumerate(cold)
    )
    program.place(CODE, loop(branches))
    for n, at in enumerate(cold):
        program.place(CODE + at, adds(A0, 10**n if n < 3 else 7), RETURN)
    program.sum(x14=-1)
    program.translate(CODE)
    (first,) = program.made()
    assert [d for d, _ in first.pages] == [0]
    assert set(cold) <= set(first.left_out)
    for n, at in enumerate(cold):
        for is_hot in (False, True, False):
            program.asks_at_exits(is_hot)
            assert program.sum(x14=n + 1) == (10**n if n < 3 else 7)
            program.serve()
        *_, made = program.made()
        if n < GENERATIONS - 1:
            assert (made.head, made.kind.generation) == (0, n + 1)
            assert made.head_page == first.head_page and n + 1 in [d for d, _ in made.pages]
        else:
            assert (made.head, made.kind.generation) == (0, 0), "a region of its own"
            assert made.head_page == program.memory.read(CODE + at, PAGE)


def test_deterministic_over_several_pages(program: Program) -> None:
    """With slices of all lengths a hart stops at the same places, translated or not."""
    program.place(CODE, loop(call(PAGE) + call(2 * PAGE) + adds(A2, 1)))
    program.place(
        CODE + PAGE, asm("addi", rd=T0, rs1=RA, imm=0), call(PAGE), adds(A0, 3), asm("jalr", rd=0, rs1=T0, imm=0)
    )
    program.place(CODE + 2 * PAGE, adds(A0, 5), RETURN)
    program.memory.write(CODE + PAGE + 4, call(PAGE - 4))
    program.memory.write(CODE + 4, call(2 * PAGE - 4))

    def stops(length: int) -> list[tuple[int, int]]:
        hart = program.hart()
        begin = hart.instret
        found = []
        reason = program.run(SMALL, priv=Mode.S, quantum=length, x10=0, x11=40)
        while hart.pc != hart.mtvec:
            assert reason is ExitReason.QUANTUM
            found.append((hart.pc, hart.instret - begin))
            reason = program.resume(quantum=length)
        assert hart.x[A0] == 40 * 13
        return found

    lengths = (1, 2, 3, 7, 10, 31, 100)
    interpreted = [stops(length) for length in lengths]
    program.translate(CODE)
    assert [d for d, _ in program.units[-1].pages] == [0, 1, 2]
    assert [stops(length) for length in lengths] == interpreted
