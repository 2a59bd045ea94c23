"""What one measurement found, and the lines in which guest and native program report it."""

from __future__ import annotations

from dataclasses import dataclass

MTIME_HZ = 10_000_000
FIELDS = 11
Key = tuple[str, str, int]
"""(kernel, mode, harts)"""


class BenchError(Exception):
    """Something could not be measured. ``samples``: what had been before it went wrong."""

    def __init__(self, reason: str, samples: list[Sample] | None = None) -> None:
        super().__init__(reason)
        self.samples = samples or []


@dataclass(frozen=True)
class Sample:
    """One kernel, measured once. ``work`` of all harts in ``seconds``; least and most of a single hart.

    The first pass (``first_work`` in ``first_seconds``) found caches and translators cold.
    """

    kernel: str
    unit: str
    mode: str
    harts: int
    work: int
    seconds: float
    least: int
    most: int
    check: str
    first_work: int
    first_seconds: float

    @property
    def rate(self) -> float:
        """Units of work per second."""
        return self.work / self.seconds

    @property
    def first_rate(self) -> float:
        """Units of work per second in the first pass."""
        return self.first_work / self.first_seconds

    @property
    def key(self) -> Key:
        return self.kernel, self.mode, self.harts


def once(kernel: str, unit: str, mode: str, harts: int, seconds: float) -> Sample:
    """Something that happened once and took so long: first pass and measured pass are the same."""
    return Sample(kernel, unit, mode, harts, 1, seconds, 0, 0, "", 1, seconds)


def parse(text: str) -> list[Sample]:
    """The samples in a guest's (or the native program's) output; other lines are ignored. BenchError."""
    samples: list[Sample] = []
    for line in text.splitlines():
        if not line.startswith("bench "):
            continue
        fields = line.removeprefix("bench ").strip().split("|")
        if len(fields) != FIELDS:
            raise BenchError(f"not a line of the benchmark guest: {line!r}", samples)
        kernel, unit, mode, harts, *numbers, check, first_work, first_ticks = fields
        try:
            work, ticks, least, most = map(int, numbers)
            first = int(first_work), int(first_ticks) / MTIME_HZ
            if not (ticks > 0 and first[1] > 0):
                raise ValueError("took no time")
            samples.append(Sample(kernel, unit, mode, int(harts), work, ticks / MTIME_HZ, least, most, check, *first))
        except ValueError:
            raise BenchError(f"not a line of the benchmark guest: {line!r}", samples) from None
    return samples
