"""The reply of a far access belongs to the instruction that asked, whatever happens before it runs again."""

from __future__ import annotations

import mpemu.isa.instructions  # noqa: F401  (fills the table)
from mpemu.isa.registry import INSNS
from mpemu.layout import LINES
from mpemu.vcpu.exits import ExitReason
from tests.codegen.native_hart import JUMP_TO_SELF, RAM, STOP, NativeHart

T0, A0 = 5, 10
MSI = 1 << 3
MSTATUS_MIE = 1 << 3


def encode(name: str, **operands: int) -> bytes:
    return INSNS[name].pattern.encode(**operands).to_bytes(4, "little")


def test_an_interrupt_that_came_meanwhile_waits_for_the_load() -> None:
    native = NativeHart()
    code = encode("lui", rd=T0, imm=0x10_1000) + encode("lbu", rd=A0, rs1=T0, imm=0)
    native.memory.write(RAM, code + JUMP_TO_SELF.to_bytes(4, "little"))
    native.memory.write(STOP, JUMP_TO_SELF.to_bytes(4, "little"))
    native.reset(RAM)
    hart = native.hart
    hart.mie, hart.mstatus = MSI, hart.mstatus | MSTATUS_MIE
    hart.quantum_end = hart.slice_end = 100
    hart.line_mask |= 0xFF << 8 * LINES.index("msip")
    assert native.engine.run() is ExitReason.MMIO and hart.mmio_address == 0x10_1000
    hart.lines[LINES.index("msip")] = 1
    hart.mmio_value, hart.mmio_latch = 0x41, 1
    assert native.engine.run() is ExitReason.QUANTUM
    assert hart.x[A0] == 0x41 and hart.mmio_latch == 0
    assert hart.mepc == RAM + 8 and hart.pc == STOP, "the interrupt came after the load"
