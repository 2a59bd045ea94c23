"""The tool that finds the pairs worth joining counts what is executed in a row, and nothing else."""

from __future__ import annotations

from bench.fusion_profile import Pair, Profile, counting_interpreter
from mpemu.isa.profiles import IsaSpec
from mpemu.memory import MachineMemory
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, S0, asm
from tests.codegen.native_hart import RAM

TURNS = 1000
LOOP = (
    asm("addi", rd=S0, rs1=S0, imm=-1),
    asm("ld", rd=A1, rs1=A0, imm=0),
    asm("bne", rs1=S0, rs2=0, imm=-8),
    asm("ebreak"),
)


def test_pairs_in_sequence_are_counted() -> None:
    isa, profile, memory = IsaSpec.parse("rv64i"), Profile(), MachineMemory(1, 1 << 20)
    engine = Engine(counting_interpreter(isa, profile), memory, 0, isa)
    memory.write(RAM, b"".join(LOOP))
    stop = RAM + 0x1000
    memory.write(stop, asm("jal", rd=0, imm=0))
    engine.reset(pc=RAM, a0=RAM)
    hart = engine.hart
    hart.mtvec, hart.x[S0], hart.quantum_end = stop, TURNS, 4 * TURNS
    assert engine.run() is ExitReason.QUANTUM
    assert hart.pc == stop
    # the first load goes the slow way, and what follows that begins anew
    expected = [Pair(TURNS, "addi_4", "ld_4"), Pair(TURNS - 1, "ld_4", "bne_4_back_rs20")]
    assert profile.pairs() == expected
