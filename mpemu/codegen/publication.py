"""The translator's side of the memory that it shares with the harts: what is published there, and how.

Everything is only ever appended to, in an order that makes a publication complete before a hart can find it, and that
lets a new translator go on wherever the last one was killed:

1. ``code_used`` gives the memory out; then the code is written there, page numbers filled in, the places where it can
   be entered behind it; then ``code_end``.
2. A page that is new: copy and hash, then ``pages``. Until that counts it nobody looks at it.
3. The region's entry and identity, at the index ``published``.
4. ``page_first`` leads to the entry: harts may come by, but take only regions below the ``published`` that they know.
5. ``published`` counts it.

Killed before 4, everything but the memory of 1 is used again. Killed between 4 and 5, the entry is reachable, and it
is complete: :meth:`Publication.recover` does 5. It must not be used for another region, as a hart may be looking at it.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from mpemu.codegen.page_hash import page_hash
from mpemu.fence import order_fence
from mpemu.layout import MAX_REGIONS, PAGE, REGION_ENTRY, REGION_PAGES, REGION_PLACE, TRANSLATOR
from mpemu.unit import NUMBER_SIZE, Unit, page_digest


def _size(unit: Unit) -> int:
    return -(-len(unit.code) // REGION_PLACE.size) * REGION_PLACE.size + REGION_PLACE.size * len(unit.entries)


class Publication:
    """Writes ``shared``, a TRANSLATOR, and ``code``, the memory of regions, whose first byte has the handler offset
    ``first_offset``. There is one at a time."""

    def __init__(self, shared: mmap.mmap, code: mmap.mmap, first_offset: int) -> None:
        self.view: Any = TRANSLATOR.view(shared)
        self._shared, self._code, self._first_offset = shared, code, first_offset
        self._entries = (REGION_ENTRY.ctype * MAX_REGIONS).from_buffer(shared, TRANSLATOR.offset["regions"])
        self.recover()
        copies = TRANSLATOR.offset["page_copy"]
        self._numbers = {
            page_digest(shared[copies + n * PAGE : copies + (n + 1) * PAGE]): n for n in range(self.view.pages)
        }
        self._identities = set(self.view.identity[: self.view.published])

    def recover(self) -> None:
        """Complete what a killed translator has begun and harts can already see."""
        number = self.view.published
        if number < MAX_REGIONS:
            page = self._entries[number].page
            if page < self.view.pages and self.view.page_first[page] == number + 1:
                self.view.published = number + 1

    def number_of(self, digest: bytes) -> int | None:
        """The translator's number of a page."""
        return self._numbers.get(digest)

    def has(self, unit: Unit) -> bool:
        return unit.identity in self._identities

    @property
    def is_full(self) -> bool:
        """There is no room for any unit."""
        return bool(self.view.published >= MAX_REGIONS or self.view.code_used >= len(self._code))

    @property
    def share_used(self) -> float:
        """Of what is scarcest: regions, pages or memory."""
        view, room = self.view, len(self._code)
        return float(max(view.published / MAX_REGIONS, view.pages / REGION_PAGES, view.code_used / room))

    def has_room(self, unit: Unit) -> bool:
        new = sum(digest not in self._numbers for _, digest in unit.dependencies)
        return (
            self.view.published < MAX_REGIONS
            and len(self._numbers) + new <= REGION_PAGES
            and self._place(unit) + _size(unit) <= len(self._code)
        )

    def _place(self, unit: Unit) -> int:
        used: int = self.view.code_used
        return -(-used // unit.alignment) * unit.alignment

    def publish(self, unit: Unit, cached: bool = False) -> None:
        """Let harts find a unit that has code and for which there is room. ``cached``: it comes from the cache."""
        view, start = self.view, self._place(unit)
        view.code_used = start + _size(unit)
        digests = [digest for _, digest in unit.dependencies]
        pages = [self._page_number(digest, page) for digest, (_, page) in zip(digests, unit.pages, strict=True)]
        code = bytearray(unit.code)
        for index, page in enumerate(pages[1:]):
            struct.pack_into("<I", code, unit.page_numbers + index * NUMBER_SIZE, page + 1)
        code += bytes(-len(code) % REGION_PLACE.size)
        places = self._first_offset + start + len(code)
        for place, handler in zip(unit.entries, unit.handlers, strict=True):
            code += bytes(REGION_PLACE.ctype(place, self._first_offset + start + handler))
        self._code[start : start + len(code)] = code
        order_fence()
        view.code_end = self._first_offset + start + len(code)
        number = view.published
        entry = self._entries[number]
        entry.page, entry.next = pages[0], view.page_first[pages[0]]
        entry.code = self._first_offset + start + unit.entry
        entry.places, entry.count = places, len(unit.entries)
        entry.rank, entry.cached = unit.kind.rank, cached
        view.identity[number] = unit.identity
        order_fence()
        view.page_first[pages[0]] = number + 1
        order_fence()
        view.published = number + 1
        view.code_bytes += len(code)
        self._identities.add(unit.identity)

    def _page_number(self, digest: bytes, page: bytes) -> int:
        if digest not in self._numbers:
            number = self.view.pages
            start = TRANSLATOR.offset["page_copy"] + number * PAGE
            self._shared[start : start + PAGE] = page
            self.view.page_first[number] = 0
            self.view.page_hash[number] = page_hash(page)
            order_fence()
            self.view.pages = number + 1
            self._numbers[digest] = number
        return self._numbers[digest]
