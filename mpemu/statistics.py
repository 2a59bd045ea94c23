"""What the harts did: counted by native code in shared memory, gathered here for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mpemu.layout import REFUSED, REGION_EXITS, REGION_VISIT, TIERS
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
    pages_unmarked: int
    """Marks that were taken away again."""
    poll_distance: tuple[int, ...]
    """Histogram of instructions from a given moment to the next look at the lines. Element 0 counts 0, element
    n what is at least 2**(n-1) and less than 2**n, the last one all above."""
    timer_lateness: tuple[int, ...]
    """The same of ticks (100 ns) from the deadline of a timer to its interrupt line, for timers of a hart awake."""
    region_visits: int
    region_instructions: int
    """Retired in regions, of ``instructions``."""
    region_exits: dict[str, int]
    """What visits ended with, if not with another region: see layout.REGION_EXITS. Those with REFUSED were none."""

    tier_samples: dict[str, int]
    """Samples of the CPU time of the hart's process by layout.TIERS, all zero where there is only one tier. (In
    deterministic execution the process runs all harts in turn.)"""

    @property
    def regions_chained(self) -> int:
        """Visits that ended with another region."""
        return max(0, self.region_visits - sum(n for why, n in self.region_exits.items() if why != REFUSED))


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

    @property
    def translated_share(self) -> float:
        """Of all instructions, those retired in regions."""
        return share(sum(hart.region_instructions for hart in self.harts), self.instructions)

    @property
    def chained_share(self) -> float:
        """Of all visits of regions, those that ended with another region."""
        return share(sum(h.regions_chained for h in self.harts), sum(h.region_visits for h in self.harts))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        shares = {"translated_share": self.translated_share, "chained_share": self.chained_share}
        return asdict(self) | ({name: round(value, 4) for name, value in shares.items()} if self.translation else {})


def share(part: float, whole: float) -> float:
    """0 to 1; 0 of nothing."""
    return part / whole if whole else 0.0


def quantile(histogram: Sequence[int], fraction: float) -> int | None:
    """What a ``fraction`` of the values in a histogram by powers of two stays below (the end of a bucket); None: there
    are no values."""
    total, seen = sum(histogram), 0
    for bucket, count in enumerate(histogram):
        seen += count
        if total and seen >= fraction * total:
            return int(2**bucket)
    return None


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
                hart.pages_unmarked,
                tuple(hart.poll_distance),
                tuple(hart.timer_lateness),
                hart.region_visits + hart.region_work // REGION_VISIT,
                hart.region_instructions + hart.region_work % REGION_VISIT,
                {why: hart.region_exits[i] for i, why in enumerate(REGION_EXITS) if hart.region_exits[i]},
                dict(zip(TIERS, hart.tier_samples, strict=True)),
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
