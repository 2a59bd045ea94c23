"""The code around a place that is hot, page by page: its bytes, and which of its instructions have been reached.

A hart's request names pages of its decode cache. Nobody stops the hart while they are read: a page may be replaced by
another one, even while it is copied, or instructions be reached meanwhile. That does no harm, since what is made of it
is found by content: a region of bytes that lie nowhere is never put to use, and bits only decide what is worth while.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Mapping

from mpemu.layout import CODE_PAGE, CODE_PAGES_SIZE, PAGE, PAGE_SHIFT, RECORD_PAGES

SLOTS = PAGE // 2
ALL_REACHED = (1 << SLOTS) - 1


class CodePages:
    """The CODE_PAGE structs of all harts: what they have decoded."""

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


class Surroundings:
    """Pages by their distance from the head page; ``read(distance)`` gives a page's bytes and the bits of what has been
    reached, once and when it is needed, for each of ``distances``."""

    def __init__(self, distances: Collection[int], read: Callable[[int], tuple[bytes, int]]) -> None:
        self.distances = distances
        self._read = read
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
        return Surroundings({d - distance for d in self.distances}, lambda d: self._get(d + distance) or (b"", 0))
