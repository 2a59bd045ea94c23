"""Endless translated loops of every shape: they end with their turn exactly where interpreted ones do, stop when asked
to, and take interrupts, each soon."""

from __future__ import annotations

import threading
import time

import pytest

from mpemu.isa.privileged import MIE, MPIE, MSIP
from mpemu.layout import LINES
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, A2, A3, A4, EBREAK, STOP, asm
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab, lab_fixture

RA, T0 = 1, 5
PAGE = 4096
CODE, DATA = RAM + 0x2_0000, RAM + 0x3_0000
ALL_ONES = (1 << 64) - 1
SOON = 5.0
"""Seconds, on a machine that may be busy with other things; microseconds are normal."""
OVERSHOOT = 200
"""Instructions that these loops may go on for behind the end of a turn: one round, at most."""
INC = asm("addi", rd=A0, rs1=A0, imm=1)
RET = asm("jalr", rd=0, rs1=RA, imm=0)


def loops() -> dict[str, dict[int, bytes]]:
    """Code by offset. a1 is CODE, a2 CODE's next page, a3 DATA, a4 something to count with."""

    def back(code: bytes) -> bytes:
        return code + asm("jal", rd=0, imm=-len(code))

    # f(a4): if a4 { a4 -= 1; f(a4); } a0 += 1
    recursive = b"".join((
        asm("addi", rd=2, rs1=2, imm=-8),
        asm("sd", rs1=2, rs2=RA, imm=0),
        asm("beq", rs1=A4, rs2=0, imm=12),
        asm("addi", rd=A4, rs1=A4, imm=-1),
        asm("jal", rd=RA, imm=-16),
        INC,
        asm("ld", rd=RA, rs1=2, imm=0),
        asm("addi", rd=2, rs1=2, imm=8),
        RET,
    ))  # fmt: skip
    call = INC + asm("jal", rd=RA, imm=0x100 - 4)
    return {
        "tight": {0: back(INC)},
        "branch": {0: INC + asm("bne", rs1=A1, rs2=0, imm=-4)},
        "load": {0: back(INC + asm("ld", rd=T0, rs1=A3, imm=0) + asm("sd", rs1=A3, rs2=A0, imm=8))},
        "fp": {0: back(INC + asm("fadd.d", fd=1, fs1=1, fs2=2, rm=7))},
        "long": {0: back(INC * 120)},
        "call": {0: back(call), 0x100: INC + RET},
        "call far": {0: back(INC + asm("jal", rd=RA, imm=PAGE - 4)), PAGE: INC + RET},
        "call back": {0x100: back(INC + asm("jal", rd=RA, imm=-0x104)), 0: INC + RET},
        "call by register": {0: back(INC + asm("jalr", rd=RA, rs1=A2, imm=0)), PAGE: INC + RET},
        "recursion": {0: back(asm("addi", rd=A4, rs1=0, imm=20) + asm("jal", rd=RA, imm=0x100 - 4)), 0x100: recursive},
        "only calls": {0: INC + asm("jal", rd=RA, imm=-4)},
        "only calls far": {0: INC + asm("jal", rd=RA, imm=PAGE - 4), PAGE: INC + asm("jal", rd=RA, imm=-PAGE - 4)},
        "only returns": {0: call, 0x100: INC + asm("addi", rd=RA, rs1=RA, imm=-8) + RET},
        "only jumps by register": {
            0: INC + asm("jalr", rd=0, rs1=A2, imm=0),
            PAGE: INC + asm("jalr", rd=0, rs1=A1, imm=0),
        },
        "jump by register to itself": {0: INC + asm("jalr", rd=0, rs1=A1, imm=0)},
        "two pages": {PAGE - 8: INC + INC + INC + asm("jal", rd=0, imm=-12), 0: asm("jal", rd=0, imm=PAGE - 8)},
        "across pages": {PAGE - 6: INC + INC + INC + asm("jal", rd=0, imm=-12), 0: asm("jal", rd=0, imm=PAGE - 6)},
        "csr": {0: back(INC + asm("csrrs", rd=T0, csr=0xC02, rs1=0))},
        "atomic": {0: back(INC + asm("amoadd.d", rd=T0, rs1=A3, rs2=A0))},
        "reservation": {0: back(INC + asm("lr.d", rd=T0, rs1=A3) + asm("sc.d", rd=T0, rs1=A3, rs2=A0))},
        "fence.i": {0: back(INC + asm("fence.i"))},
        "system call": {0: back(INC + asm("ecall") + INC)},
        "illegal": {0: back(INC + (0x7F).to_bytes(4, "little") + INC)},
    }  # fmt: skip


LOOPS = loops()
HANDLER = RAM + 0xE000
"""Exceptions: skip four bytes. Interrupts: to STOP, by way of mscratch."""


class Looping(TranslatedLab):
    def start(self, shape: str) -> None:
        """At the beginning of the loop, nothing translated."""
        self.reset()
        for offset, code in LOOPS[shape].items():
            self.memory.write(CODE + offset, code)
        handler = b"".join((
            asm("csrrs", rd=T0, csr=0x342, rs1=0),
            asm("blt", rs1=T0, rs2=0, imm=20),
            asm("csrrs", rd=T0, csr=0x341, rs1=0),
            asm("addi", rd=T0, rs1=T0, imm=4),
            asm("csrrw", rd=0, csr=0x341, rs1=T0),
            asm("mret"),
            asm("csrrs", rd=T0, csr=0x340, rs1=0),
            asm("jalr", rd=0, rs1=T0, imm=0),
        ))  # fmt: skip
        self.memory.write(HANDLER, handler + EBREAK.to_bytes(4, "little"))
        self.routine("flush_code")
        hart = self.hart()
        hart.mtvec, hart.mscratch, hart.mstatus = HANDLER, STOP, 1 << 13
        hart.pc = CODE
        for number, value in {RA: CODE + 0x100, A1: CODE, A2: CODE + PAGE, A3: DATA, 2: DATA + 0x2000}.items():
            hart.x[number] = value

    def warm(self, shape: str) -> None:
        """Some rounds interpreted, then everything translated."""
        self.start(shape)
        assert self.resume(quantum=1000) is ExitReason.QUANTUM
        self.translate(self.hart().pc, *(CODE + offset for offset in LOOPS[shape]), HANDLER)

    def stops(self) -> list[tuple[int, int, int]]:
        """(pc, instret, a0) at the ends of a few turns of different lengths."""
        found = []
        for quantum in (1, 2, 3, 5, 17, 40, 100, 333, 1000, 1, 7, 5000):
            before = self.hart().instret
            assert self.resume(quantum=quantum) is ExitReason.QUANTUM
            hart = self.hart()
            assert hart.instret - before < quantum + OVERSHOOT
            found.append((hart.pc, hart.instret, hart.x[A0]))
        return found


lab = lab_fixture(Looping, scope="module", by_tier=True)


@pytest.mark.parametrize("shape", LOOPS)
def test_turns_end_where_interpreted_ones_do(lab: Looping, shape: str) -> None:
    lab.start(shape)
    lab.resume(quantum=1000)
    expected = lab.stops()
    lab.warm(shape)
    assert lab.stops() == expected


def run_in_thread(lab: Looping) -> tuple[threading.Thread, list[ExitReason]]:
    """Runs the hart without an end of its turn."""
    reasons: list[ExitReason] = []
    hart = lab.hart()
    hart.quantum_end, hart.slice_end = ALL_ONES, hart.instret
    thread = threading.Thread(target=lambda: reasons.append(lab.engines[0].run()), daemon=True)
    thread.start()
    return thread, reasons


def wait_until_it_runs(lab: Looping) -> None:
    """instret in memory is exact at rest only, but the clock is read at the end of each slice."""
    end = time.monotonic() + SOON
    hart = lab.hart()
    before = hart.slice_end
    while hart.slice_end < before + 100_000 and time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.parametrize("shape", LOOPS)
def test_it_stops_when_asked_to(lab: Looping, shape: str) -> None:
    lab.warm(shape)
    hart = lab.hart()
    thread, reasons = run_in_thread(lab)
    wait_until_it_runs(lab)
    hart.lines[LINES.index("stop")] = 1
    thread.join(SOON)
    hart.lines[LINES.index("stop")] = 0
    assert reasons == [ExitReason.STOP]


@pytest.mark.parametrize("shape", LOOPS)
def test_it_takes_an_interrupt(lab: Looping, shape: str) -> None:
    """Another thread raises the line, as another hart would."""
    lab.warm(shape)
    hart = lab.hart()
    hart.mie, hart.mstatus = MSIP, hart.mstatus | MIE | MPIE  # it may be in the handler
    thread, reasons = run_in_thread(lab)
    wait_until_it_runs(lab)
    hart.lines[LINES.index("msip")] = 1
    end = time.monotonic() + SOON
    while hart.interrupts == 0 and time.monotonic() < end:
        time.sleep(0.0005)
    hart.lines[LINES.index("stop")] = 1
    thread.join(SOON)
    hart.lines[LINES.index("stop")] = hart.lines[LINES.index("msip")] = 0
    assert reasons == [ExitReason.STOP]
    assert hart.interrupts == 1 and hart.mcause == (1 << 63) | 3
    hart.interrupts = 0
