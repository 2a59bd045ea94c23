"""What the run loops want of an engine: the thing that runs guest instructions of one hart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mpemu.memory import MachineMemory
from mpemu.vcpu.exits import ExitReason


class Engine(Protocol):
    """One hart's native code. ``hart`` is its shared struct (layout.HART)."""

    hart: Any

    def reset(self, *, pc: int, a0: int, a1: int) -> None:
        """Architectural reset; execution begins at ``pc`` with these argument registers."""
        ...

    def run(self) -> ExitReason:
        """Run guest code until something wants Python. Statistics are counted inside."""
        ...


EngineFactory = Callable[[MachineMemory, int], Engine]
"""(memory, hart index) -> engine; called in the vCPU process, after the fork."""
