"""A hart that waits for another one hears its own timer at once, however few instructions it retires meanwhile."""

from __future__ import annotations

import time

import pytest

from mpemu.memory import CLOCK_RUNNING, CLOCK_VIRTUAL
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, S0, S1, STOP, T0, Lab, asm
from tests.codegen.native_hart import RAM

CODE = RAM + 0x1_0000
MIE, MTIE = 1 << 3, 1 << 7
TICKS_PER_S = 10_000_000
AHEAD = 3_000
"""The timer goes off after 300 us. The instructions of LONG take more than that, in pauses and yields."""
LONG = 1_000_000
COUNT = asm("addi", rd=S0, rs1=S0, imm=1)
PAUSE = asm("fence", pred=1, succ=0, fm=0, rd=0, rs1=0)
LOOPS = {
    "PAUSE": [COUNT, PAUSE, asm("jal", rd=0, imm=-8)],
    "WRS.NTO": [COUNT, asm("lr.w", rd=0, rs1=A0, aq=0, rl=0), asm("wrs.nto"), asm("jal", rd=0, imm=-12)],
    "load": [asm("lw", rd=0, rs1=A0, imm=0), asm("jal", rd=0, imm=-4)],
}


def waiting(lab: Lab, loop: str) -> ExitReason:
    """Run the loop, with all of LONG as one slice. The first LR marks its page: a reservation needs the second."""
    lab.place(CODE, *LOOPS[loop])
    return lab.run(CODE, quantum=LONG, x10=RAM + 0x2_0000)


@pytest.mark.parametrize("loop", LOOPS)
def test_timer_is_heard(loop: str) -> None:
    lab = Lab()
    hart, machine = lab.hart(), lab.memory.machine
    machine.clock_epoch, machine.clock_mode = time.monotonic_ns(), CLOCK_RUNNING
    hart.mstatus |= MIE
    hart.mie, hart.mtimecmp, hart.deadline = MTIE, AHEAD, AHEAD
    assert waiting(lab, loop) is ExitReason.QUANTUM
    assert (hart.pc, hart.mcause) == (STOP, 1 << 63 | 7)
    assert hart.x[S0] < LONG // 10


def test_a_loop_of_calls_does_not_wait() -> None:
    """Whatever the function does, that is work: its caller's loop keeps its turn."""
    lab = Lab()
    lab.memory.machine.clock_mode = CLOCK_VIRTUAL
    lab.place(CODE, asm("jal", rd=1, imm=8), asm("jal", rd=0, imm=-4), COUNT, asm("jalr", rd=0, rs1=1, imm=0))
    assert lab.run(CODE, quantum=LONG) is ExitReason.QUANTUM
    assert LONG <= lab.hart().instret < LONG + 10


def test_waiting_gives_the_turn_away() -> None:
    """Deterministic mode: nobody else runs before the turn is over, so a WRS on what can't change ends it."""
    lab = Lab()
    lab.memory.machine.clock_mode = CLOCK_VIRTUAL
    assert waiting(lab, "WRS.NTO") is ExitReason.QUANTUM
    assert lab.hart().instret < 100


def yields_in_waits(instructions: int) -> int:
    """In 20,000 instructions: waits, a few instructions apart, each for the count to go on by so much."""
    lab = Lab()
    minstret = 0xB02
    again = [asm("csrrs", rd=T0, csr=minstret, rs1=0), asm("addi", rd=S1, rs1=T0, imm=instructions)]
    turn = [asm("csrrs", rd=T0, csr=minstret, rs1=0), asm("bltu", rs1=T0, rs2=S1, imm=-4)]
    lab.place(CODE, *again, *turn, asm("addi", rd=A0, rs1=A0, imm=-1), asm("bne", rs1=A0, rs2=0, imm=-20))
    lab.memory.machine.clock_mode = CLOCK_RUNNING
    assert lab.run(CODE, quantum=20_000, x10=LONG) is ExitReason.QUANTUM
    yields: int = lab.hart().yields
    return yields


def test_many_short_waits_are_no_long_one() -> None:
    """However closely they follow each other: who waits for a partner that answers at once keeps the core."""
    assert yields_in_waits(20) == 0
    assert yields_in_waits(1000) > 100
