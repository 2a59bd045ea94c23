"""The code around a place that is hot, page by page: its bytes, and which of its instructions have been reached.

A hart's request names pages of its decode cache. Nobody stops the hart while they are read: a page may be replaced by
another one, even while it is copied, or instructions be reached meanwhile. That does no harm, since what is made of it
is found by content: a region of bytes that lie nowhere is never put to use, and bits only decide what is worth while.
The same holds for where jumps went: a region compares.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from mpemu.layout import CODE_PAGE, CODE_PAGES_SIZE, JUMP, JUMPS, JUMPS_START, PAGE, PAGE_SHIFT, RECORD_PAGES

SLOTS = PAGE // 2
ALL_REACHED = (1 << SLOTS) - 1
LEAST_COUNT = 4096
"""Computed jumps that have left regions less often are not worth a guess: one in 1,024 instructions by the time that a
place is very hot."""
LEAST_SHARE, MOST_TARGETS = 32, 16
"""One in how many times a jump must have led to a place to be guessed to go there; and to how many places at most."""
_JUMPS = struct.Struct("<QQQ")


class CodePages:
    """The CODE_PAGE structs and JUMPs of all harts: what they have decoded, and where regions were left."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.harts = len(memory) // CODE_PAGES_SIZE

    def read(self, hart: int, page: int) -> tuple[bytes, int]:
        """Bytes of a page of the hart's cache, and a bit per slot: it has been decoded."""
        if not (0 <= hart < self.harts and 0 <= page < RECORD_PAGES):
            return bytes(PAGE), 0
        start = hart * CODE_PAGES_SIZE + page * CODE_PAGE.size
        reached, copy = start + CODE_PAGE.offset["reached"], start + CODE_PAGE.offset["copy"]
        bits = int.from_bytes(self._memory[reached : reached + SLOTS // 8], "little")
        return self._memory[copy : copy + PAGE], bits

    def jumps(self, hart: int) -> dict[int, Counter[int]]:
        """By virtual address of a computed jump: how often it led where, out of a region."""
        found = defaultdict[int, Counter[int]](Counter)
        if 0 <= hart < self.harts:
            start = hart * CODE_PAGES_SIZE + JUMPS_START
            for source, target, count in _JUMPS.iter_unpack(self._memory[start : start + JUMPS * JUMP.size]):
                if count:
                    found[source][target] = count
        return found


def likely(targets: Counter[int], least_count: int = LEAST_COUNT) -> list[int]:
    """Of a jump's targets those that are worth a guess, the most frequent one first."""
    total = targets.total()
    if total < least_count:
        return []
    return [target for target, count in targets.most_common(MOST_TARGETS) if count * LEAST_SHARE >= total]


class Surroundings:
    """Pages by their distance from the head page; ``read(distance)`` gives a page's bytes and the bits of what has been
    reached, once and when it is needed, for each of ``distances``. ``targets(place)``: where the computed jump there
    seems to lead, most frequent first."""

    def __init__(
        self,
        distances: Collection[int],
        read: Callable[[int], tuple[bytes, int]],
        targets: Callable[[int], Sequence[int]] = lambda place: (),
    ) -> None:
        self.distances = distances
        self._read = read
        self.targets = targets
        self._found: dict[int, tuple[bytes, int]] = {}

    @classmethod
    def of(cls, pages: Mapping[int, bytes]) -> Surroundings:
        """Of which everything counts as reached."""
        return cls(pages, lambda distance: (pages[distance], ALL_REACHED))

    def _get(self, distance: int) -> tuple[bytes, int] | None:
        if distance not in self._found:
            if distance not in self.distances:
                return None
            self._found[distance] = self._read(distance)
        return self._found[distance]

    def page(self, distance: int) -> bytes | None:
        found = self._get(distance)
        return found and found[0]

    def reached(self, distance: int) -> int:
        found = self._get(distance)
        return found[1] if found else 0

    def is_reached(self, place: int) -> bool:
        """``place``: bytes from the start of the head page."""
        return bool(self.reached(place >> PAGE_SHIFT) >> (place % PAGE // 2) & 1)

    def seen(self) -> dict[int, bytes]:
        """The pages that were asked for."""
        return {distance: page for distance, (page, _) in self._found.items()}

    def from_page(self, distance: int) -> Surroundings:
        """The same, by distances from the page at ``distance``."""
        start = distance * PAGE
        return Surroundings(
            {d - distance for d in self.distances},
            lambda d: self._get(d + distance) or (b"", 0),
            lambda place: [target - start for target in self.targets(place + start)],
        )


assert list(JUMP.offset) == ["source", "target", "count"]
assert _JUMPS.size == JUMP.size
