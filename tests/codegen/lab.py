"""Harts on the compiled interpreter under a microscope: hand-assembled code, state set and looked at from outside.

A snippet ends in an exception (EBREAK if nothing else); its handler, in M-mode at STOP, jumps to itself, so that run()
returns at the end of the quantum. Each hart is run by whoever calls run(): harts of one lab never run at once.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import mpemu.isa.instructions  # noqa: F401  (fills the instruction table)
from mpemu.isa.privileged import Cause
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import INSNS
from mpemu.memory import CLOCK_FROZEN, MachineMemory
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.exits import ExitReason
from tests.codegen.native_hart import RAM, blob

STOP = RAM + 0xF000
EBREAK = 0x0010_0073
QUANTUM = 64
"""Instructions that a snippet may take before it must be at STOP; longer ones say so."""
T0, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5 = 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

# page tables
V, R, W, X, U, G, A, D = (1 << n for n in range(8))
RWX = V | R | W | X | A | D
SV39 = 8 << 60


class Pair(ctypes.Structure):
    """What a native routine returns."""

    _fields_ = (("result", ctypes.c_uint64), ("status", ctypes.c_uint64))


def asm(name: str, **operands: int) -> bytes:
    return INSNS[name].pattern.encode(**operands).to_bytes(4, "little")


def pte(pa: int, flags: int) -> int:
    return pa >> 12 << 10 | flags


class Lab:
    """``harts`` harts with ``size`` bytes of RAM and no machine; the clock stands at 0."""

    def __init__(self, harts: int = 1, size: int = 1 << 20) -> None:
        self.isa = IsaSpec.parse("max")
        self.blob = blob()
        self.memory = MachineMemory(harts, size)
        weakref.finalize(self, self.memory.close)  # descriptors: there are more labs than a process may have of them
        self.memory.machine.clock_mode = CLOCK_FROZEN
        self.engines = [Engine(self.blob, self.memory, i) for i in range(harts)]
        self.reset()

    def reset(self) -> None:
        """All harts in M-mode, all memory allowed to all modes."""
        self.memory.write(STOP, asm("jal", rd=0, imm=0))
        for engine in self.engines:
            engine.reset(pc=RAM, isa=self.isa)
            hart = engine.hart
            hart.mtvec = STOP
            hart.pmp_count, hart.pmpcfg_0, hart.pmp_first_0, hart.pmp_end_0 = 1, 0x1F, 0, 1 << 44

    def hart(self, index: int = 0) -> Any:
        return self.engines[index].hart

    def routine(self, name: str, *arguments: int, hart: int = 0) -> Pair:
        """Call a native routine as the hart would."""
        kind = ctypes.CFUNCTYPE(Pair, *[ctypes.c_uint64] * (len(arguments) + 1))
        result: Pair = kind(self.blob.address(f"r_{name}"))(self.memory.hart_address(hart), *arguments)
        return result

    def place(self, address: int, *code: bytes) -> None:
        """Put code into RAM, an EBREAK behind it; all harts learn of it."""
        self.memory.write(address, b"".join(code) + EBREAK.to_bytes(4, "little"))
        for index in range(len(self.engines)):
            self.routine("flush_code", hart=index)

    def run(self, pc: int, *, hart: int = 0, priv: int = 3, quantum: int = QUANTUM, **registers: int) -> ExitReason:
        """Run from ``pc`` on, with x registers by number (``x5=...``)."""
        view = self.hart(hart)
        view.pc, view.priv = pc, priv
        for name, value in registers.items():
            view.x[int(name[1:])] = value & ((1 << 64) - 1)
        return self.resume(hart, quantum)

    def resume(self, hart: int = 0, quantum: int = QUANTUM) -> ExitReason:
        view = self.hart(hart)
        view.quantum_end = view.slice_end = view.instret + quantum
        return self.engines[hart].run()

    def done(self, pc: int, *, hart: int = 0, cause: int = Cause.BREAKPOINT, **more: int) -> Any:
        """Run from ``pc`` to the exception ``cause``: the hart's view."""
        reason = self.run(pc, hart=hart, **more)
        view = self.hart(hart)
        found = f"{reason.name} at {view.pc:#x}, mcause {view.mcause}, mtval {view.mtval:#x}, mepc {view.mepc:#x}"
        assert reason is ExitReason.QUANTUM and view.pc == STOP and view.mcause == cause, found
        return view

    def store(self, address: int, value: int, size: int = 8) -> None:
        self.memory.write(address, value.to_bytes(size, "little"))

    def load(self, address: int, size: int = 8) -> int:
        return int.from_bytes(self.memory.read(address, size), "little")
