"""The coordinator's side of sampling: asks for it before the vCPUs are forked, collects what their handlers find."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from mpemu.layout import ELSEWHERE, SAMPLE, SAMPLES
from mpemu.memory import MachineMemory
from mpemu.shm import Segment
from mpemu.vcpu.blob import Blob

TIER_PERIOD_NS = 4_000_000
"""For shares of time: samples are counted only."""
PROFILE_PERIOD_NS = 1_000_000


class Place(NamedTuple):
    """Where a hart was. ``host`` is a handler offset, None outside of generated code; ``pc`` the guest's, in a region
    that of its entry."""

    hart: int
    host: int | None
    pc: int
    satp: int
    priv: int


def count_tiers(memory: MachineMemory, blob: Blob, period_ns: int = TIER_PERIOD_NS) -> None:
    """Have vCPUs that are forked from now on count in which tier they spend their time."""
    for index in range(memory.harts):
        hart = memory.hart(index)
        hart.sampler, hart.sample_period = blob.address("on_sample"), period_ns


class Sampling:
    """Keeps samples as well. :meth:`drain` adds what is new to ``places``: to be called before there are more than
    SAMPLES of a hart, else some are ``lost``."""

    def __init__(self, memory: MachineMemory, blob: Blob) -> None:
        self._memory = memory
        self._segment = Segment("samples", SAMPLE.size * SAMPLES * memory.harts)
        ring = SAMPLE.ctype * SAMPLES
        self._rings: list[Any] = [
            ring.from_buffer(self._segment.map, index * SAMPLE.size * SAMPLES) for index in range(memory.harts)
        ]
        self._seen = [0] * memory.harts
        self.places: Counter[Place] = Counter()
        self.lost = 0
        count_tiers(memory, blob, PROFILE_PERIOD_NS)
        for index in range(memory.harts):
            memory.hart(index).samples = self._segment.address + index * SAMPLE.size * SAMPLES

    def drain(self) -> set[Place]:
        """The places of the new samples."""
        new: set[Place] = set()
        for index, ring in enumerate(self._rings):
            taken = self._memory.hart(index).samples_taken
            first = max(self._seen[index], taken - SAMPLES)
            self.lost += first - self._seen[index]
            for number in range(first, taken):
                found = ring[number % SAMPLES]
                host = None if found.host == ELSEWHERE else found.host
                place = Place(index, host, found.pc, found.satp, found.priv)
                self.places[place] += 1
                new.add(place)
            self._seen[index] = taken
        return new

    def close(self) -> None:
        """Give the memory back, when no vCPU is left."""
        self._rings.clear()
        self._segment.close()
