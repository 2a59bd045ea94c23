"""What the harts did: counted by native code in shared memory, gathered here for tables and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mpemu.memory import MachineMemory
from mpemu.vcpu.exits import ExitReason


@dataclass(frozen=True)
class HartStatistics:
    """One hart since the machine was made, reboots included. ``exits`` has the reasons that occurred."""

    hart: int
    instructions: int
    mips: float
    """Million instructions per second of the time that the machine ran, sleep included."""
    exits: dict[str, int]
    traps: int
    interrupts: int
    ipis: int
    yields: int
    sleeps: int
    tlb_misses: int
    mmio_near: int
    pages_decoded: int
    pages_marked: int
    """For LR/SC (docs/design/0005)."""


@dataclass(frozen=True)
class MachineStatistics:
    """``seconds`` is the time that the machine ran, without pauses."""

    seconds: float
    harts: tuple[HartStatistics, ...]

    @property
    def instructions(self) -> int:
        return sum(hart.instructions for hart in self.harts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def gather(memory: MachineMemory, seconds: float, before_reset: list[int]) -> MachineStatistics:
    """Of a machine whose harts are parked or gone. ``before_reset[i]``: instructions of hart i up to its last reset."""
    harts = []
    for index in range(memory.harts):
        hart = memory.hart(index)
        instructions = before_reset[index] + hart.instret
        exits = {reason.name: hart.exits[reason] for reason in ExitReason if hart.exits[reason]}
        harts.append(
            HartStatistics(
                index,
                instructions,
                round(instructions / seconds / 1e6, 3) if seconds > 0 else 0.0,
                exits,
                hart.traps,
                hart.interrupts,
                hart.ipis,
                hart.yields,
                hart.sleeps,
                hart.tlb_misses,
                hart.mmio_near,
                hart.pages_decoded,
                hart.pages_marked,
            )
        )
    return MachineStatistics(seconds, tuple(harts))
