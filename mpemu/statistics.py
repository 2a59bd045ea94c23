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
class TranslationStatistics:
    """What was translated for this machine; units are regions of guest code."""

    units_translated: int
    units_loaded: int
    """From the cache on disk."""
    instructions: int
    """Guest instructions of the units translated."""
    compile_us: int
    """CPU time of the compilers."""
    code_bytes: int
    """Of all units in memory."""
    failed: int
    requests: int
    dropped: int
    """Requests that there was no room for, at the harts or at the translator."""
    restarts: int
    """Of the translator's process."""


@dataclass(frozen=True)
class MachineStatistics:
    """``seconds`` is the time that the machine ran, without pauses; ``translation`` is None if there is none."""

    seconds: float
    harts: tuple[HartStatistics, ...]
    translation: TranslationStatistics | None = None

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
    return MachineStatistics(seconds, tuple(harts), _translation(memory))


def _translation(memory: MachineMemory) -> TranslationStatistics | None:
    view = memory.translator
    if view is None:
        return None
    all_harts = [memory.hart(index) for index in range(memory.harts)]
    return TranslationStatistics(
        view.units_translated,
        view.units_loaded,
        view.instructions,
        view.compile_us,
        view.code_bytes,
        view.failed,
        sum(hart.requests for hart in all_harts),
        view.dropped + sum(hart.requests_dropped for hart in all_harts),
        view.restarts,
    )
