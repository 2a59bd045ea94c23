"""A unit of translation: host code for one region of guest code, and the file in which the cache keeps such units.

A unit depends on the interpreter that it is linked against, and on the bytes of the guest pages that it was made from;
on no address of guest or host. A file has all units whose first instruction lies on a page with certain contents (the
head page), for one interpreter.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]

from mpemu.layout import PAGE
from mpemu.private_file import Refused, seal, unseal

MAGIC = b"mpemu-units-4\n"
NUMBER_SIZE = 4
"""Bytes of an element of a unit's array of page numbers."""
MAX_DISTANCE = 1 << 20
"""Pages: what a direct jump reaches (JAL: 1 MiB) is far less."""
ALIGNMENTS = tuple(1 << n for n in range(13))
"""Of code: up to a page."""

QUICK, OPTIMISED = 1, 2
"""Tiers of translated code: guest registers stay in the hart's struct, or they live in host registers across blocks.
The former takes two thirds of the time to make, and half the memory."""


@dataclass(frozen=True)
class Kind:
    """Of the code that is made for a place. ``windowed``: for regimes that have a window (codegen/window.py)."""

    tier: int
    windowed: bool = False

    @property
    def rank(self) -> int:
        """The higher one is put to use. Written in front of the code (codegen/hot.py)."""
        return 2 * self.tier + self.windowed

    @classmethod
    def of_rank(cls, rank: int) -> Kind:
        """ValueError."""
        if rank // 2 not in (QUICK, OPTIMISED):
            raise ValueError(f"{rank} is no rank")
        return cls(rank // 2, bool(rank % 2))


BEST = Kind(OPTIMISED)

Dependencies = tuple[tuple[int, bytes], ...]
"""Distance in pages from the head page, and the digest of the page there; the head page is the first."""
PageAt = Callable[[int], bytes | None]
"""The page (4096 bytes) at a distance from the head page, None if that is not known."""


def page_digest(page: bytes) -> bytes:
    """SHA-256 of a page."""
    return hashlib.sha256(page).digest()


NOWHERE = -(1 << 31)


class Origin(NamedTuple):
    """Code from offset ``start`` on comes from the guest instruction at ``place``, relative to the head's page; or from
    none (entry and exits), NOWHERE."""

    start: int
    place: int


_ORIGIN = struct.Struct("<Ii")


@dataclass(frozen=True)
class Unit:
    """``code`` is relocated against the interpreter's symbols and runs wherever region memory is mapped.

    entries       page offsets of the guest instructions at which it can be entered, first the one it was made for
    pages         (distance in pages from the head's page, 4096 bytes): the head's page, (0, bytes), then others, sorted
    code          host code; empty: it was tried, and translation is not worth while
    entry         offset of the handler in ``code``
    page_numbers  offset in ``code`` of a u32 per page after the first: who puts the unit into memory writes there the
                  translator's number of the page, plus 1
    instructions  guest instructions
    us            CPU time of the translation, microseconds
    alignment     of ``code`` where it runs
    kind          what it is made for
    origins       for profiles, else empty: packed, sorted :class:`Origin`
    """

    entries: tuple[int, ...]
    pages: tuple[tuple[int, bytes], ...]
    code: bytes
    entry: int
    page_numbers: int
    instructions: int
    us: int
    alignment: int = 64
    kind: Kind = BEST
    origins: bytes = b""

    def iter_origins(self) -> Iterator[Origin]:
        return map(Origin._make, _ORIGIN.iter_unpack(self.origins))

    @property
    def head(self) -> int:
        return self.entries[0]

    @property
    def head_page(self) -> bytes:
        return self.pages[0][1]

    @cached_property
    def dependencies(self) -> Dependencies:
        return tuple((distance, page_digest(page)) for distance, page in self.pages)

    @cached_property
    def identity(self) -> int:
        """64 bits that name what the unit was made from."""
        digest = hashlib.sha256(self.head.to_bytes(2, "little") + bytes([self.kind.rank]))
        for distance, page in self.dependencies:
            digest.update(distance.to_bytes(8, "little", signed=True) + page)
        return int.from_bytes(digest.digest()[:8], "little")


def satisfied(dependencies: Dependencies, page: PageAt) -> bool:
    """Whether the pages around a head page are those of ``dependencies``."""
    for distance, digest in dependencies:
        found = page(distance)
        if found is None or page_digest(found) != digest:
            return False
    return True


def pack_origins(origins: Iterable[Origin]) -> bytes:
    return b"".join(_ORIGIN.pack(*origin) for origin in sorted(origins))


def encode_units(key: str, isa: str, units: Sequence[Unit]) -> bytes:
    """A file's bytes. The units, at least one, have the same head page; pages are stored once."""
    pages: dict[bytes, int] = {}
    rows = []
    for unit in units:
        places = [[distance, pages.setdefault(page, len(pages))] for distance, page in unit.pages]
        numbers = unit.entry, unit.page_numbers, unit.instructions, unit.us, unit.alignment, unit.kind.rank
        rows.append([list(unit.entries), places, unit.code, unit.origins, *numbers])
    return seal(MAGIC, msgpack.packb({"key": key, "isa": isa, "pages": list(pages), "units": rows}))


@dataclass(frozen=True)
class UnitFile:
    """What a file holds; ``isa`` is for information."""

    key: str
    isa: str
    units: list[Unit]


def decode_units(path: Path, data: bytes) -> UnitFile:
    """The file of :func:`encode_units`, every field checked. Refused."""
    body = unseal(path, MAGIC, data)
    try:
        content = msgpack.unpackb(body)
        key, isa, pages = content["key"], content["isa"], content["pages"]
        if not (isinstance(key, str) and isinstance(isa, str)):
            raise ValueError("a key that is no text")
        if not all(isinstance(page, bytes) and len(page) == PAGE for page in pages):
            raise ValueError("a page that is none")
        units = [_unit(row, pages) for row in content["units"]]
        if not units or any(unit.head_page != pages[0] for unit in units):
            raise ValueError("units of several pages, or none")
        return UnitFile(key, isa, units)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise Refused(f"{path}: not what a file of units holds ({error})") from None


def _unit(row: Iterable[object], pages: list[bytes]) -> Unit:
    """A checked unit: nothing in it leads outside its code."""
    entries, places, code, origins, entry, page_numbers, instructions, us, alignment, rank = row
    if not isinstance(origins, bytes) or len(origins) % _ORIGIN.size:
        raise ValueError("origins that are none")
    if not isinstance(code, bytes) or not isinstance(places, list) or not isinstance(entries, list):
        raise ValueError("code that is none")
    numbers = (
        *entries,
        entry,
        page_numbers,
        instructions,
        us,
        alignment,
        rank,
        *(number for place in places for number in place),
    )
    if not all(type(number) is int for number in numbers):
        raise ValueError("a number that is none")
    assert isinstance(entry, int) and isinstance(page_numbers, int)
    assert (
        isinstance(instructions, int) and isinstance(us, int) and isinstance(alignment, int) and isinstance(rank, int)
    )
    if not entries or any(not 0 <= place < PAGE or place % 2 for place in entries):
        raise ValueError("an entry is not where an instruction can start")
    if not 0 <= entry < max(len(code), 1):
        raise ValueError("the entry is outside the code")
    if alignment not in ALIGNMENTS:
        raise ValueError(f"code can't be aligned to {alignment}")
    distances = [distance for distance, _ in places]
    if (
        distances[:1] != [0]
        or distances[1:] != sorted(set(distances[1:]) - {0})
        or max(map(abs, distances)) > MAX_DISTANCE
    ):
        raise ValueError("pages out of order")
    if code and not 0 <= page_numbers <= len(code) - NUMBER_SIZE * (len(places) - 1):
        raise ValueError("the page numbers are outside the code")
    if any(not 0 <= index < len(pages) for _, index in places):
        raise ValueError("a page is missing")
    located = tuple((distance, pages[index]) for distance, index in places)
    kind = Kind.of_rank(rank)
    return Unit(tuple(entries), located, code, entry, page_numbers, instructions, us, alignment, kind, origins)
