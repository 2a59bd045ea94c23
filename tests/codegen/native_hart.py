"""One hart on the compiled interpreter without a machine around it, to be compared with the reference model."""

from __future__ import annotations

import functools
import weakref
from typing import Any

from mpemu.isa.profiles import IsaSpec
from mpemu.isa.state import STATE
from mpemu.memory import CLOCK_VIRTUAL, MachineMemory
from mpemu.vcpu.blob import Blob, load_blob
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.exits import ExitReason

RAM = 0x8000_0000
SIZE = 0x4_0000
STOP = RAM + 0x1000
"""Where traps go: a jump to itself, so that the hart stops at its next back edge."""
JUMP_TO_SELF = 0x0000_006F


@functools.cache
def blob(isa: str = "max") -> Blob:
    return load_blob(IsaSpec.parse(isa))


class NativeHart:
    """Hart 0 of a machine with a little RAM and nothing else; the clock is virtual and stands still."""

    def __init__(self, isa: str = "max") -> None:
        self.isa = IsaSpec.parse(isa)
        self.memory = MachineMemory(1, SIZE)
        weakref.finalize(self, self.memory.close)
        self.memory.machine.clock_mode = CLOCK_VIRTUAL
        self.engine = Engine(blob(isa), self.memory, 0)
        self.hart: Any = self.engine.hart

    def reset(self, pc: int) -> None:
        self.engine.reset(pc=pc, isa=self.isa)
        self.hart.mtvec = STOP

    def run(self, instructions: int = 1) -> ExitReason:
        """Until the first back edge behind ``instructions``; device accesses are bus errors."""
        self.hart.quantum_end = self.hart.instret + instructions
        self.hart.slice_end = self.hart.quantum_end
        while True:
            reason = self.engine.run()
            if reason is not ExitReason.MMIO:
                return reason
            self.hart.mmio_latch = 2

    def state(self) -> dict[str, int]:
        """Every architectural field by name."""
        return {field.name: getattr(self.hart, field.name) for field in STATE}
