"""A unit of translation: host code for one region of guest code, and the file in which the cache keeps such units.

A unit depends on the interpreter that it is linked against, and on the bytes of the guest pages that it was made from;
on no address of guest or host. A file has all units whose first instruction lies on a page with certain contents (the
head page), for one interpreter.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from mpemu.layout import PAGE
from mpemu.private_file import Refused, seal, unseal

MAGIC = b"mpemu-units-9\n"
NUMBER_SIZE = 4
"""Bytes of an element of a unit's array of page numbers."""
MAX_DISTANCE = 1 << 20
"""Pages: what a direct jump reaches (JAL: 1 MiB) is far less."""
ALIGNMENTS = tuple(1 << n for n in range(13))
"""Of code: up to a page."""

QUICK, CAREFUL, OPTIMISED = 1, 2, 3
"""Tiers of translated code. Quick: put together from stencils, guest registers stay in the hart's struct. Optimised:
made by LLVM, they live in host registers across blocks. What is made carefully is optimised, too, but takes no two
accesses to be in one piece of memory: for places where the other is held up by that (codegen/refit.py)."""
SMALLEST = 2
"""Guest instructions that a region must have to be worth its entry."""
GENERATIONS = 3
"""A unit is made anew at most twice."""


@dataclass(frozen=True)
class Kind:
    """Of the code that is made for a place. ``windowed``: for regimes without paging, which have a window
    (codegen/window.py); ``generation``: how often it was made anew, as more of the code around had been reached."""

    tier: int
    windowed: bool = False
    generation: int = 0

    @property
    def rank(self) -> int:
        """The higher one is put to use. Written in front of the code (codegen/hot.py)."""
        return (2 * self.tier + self.windowed) * GENERATIONS + self.generation

    @property
    def first(self) -> Kind:
        """Before it was made anew."""
        return replace(self, generation=0) if self.generation else self

    @property
    def renewed(self) -> Kind | None:
        """One generation later, None if that is enough."""
        return replace(self, generation=self.generation + 1) if self.generation + 1 < GENERATIONS else None

    @classmethod
    def of_rank(cls, rank: int) -> Kind:
        """ValueError."""
        kind, generation = divmod(rank, GENERATIONS)
        if kind // 2 not in (QUICK, CAREFUL, OPTIMISED):
            raise ValueError(f"{rank} is no rank")
        return cls(kind // 2, bool(kind % 2), generation)


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
    contains      of each page, bit n: the instruction at offset 2n is part of the unit
    left_out      places (bytes from the head page's start) that it leads to, left out since they had not been reached
    origins       for profiles, else empty: packed, sorted :class:`Origin`
    guesses       of computed jumps: (place, place where that was guessed to lead), whether the unit contains it or not
    starts        of each of ``entries`` the handler's offset, if they differ; in front of each stands the rank
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
    contains: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    origins: bytes = b""
    guesses: tuple[tuple[int, int], ...] = ()
    starts: tuple[int, ...] = ()

    def iter_origins(self) -> Iterator[Origin]:
        return map(Origin._make, _ORIGIN.iter_unpack(self.origins))

    @property
    def head(self) -> int:
        return self.entries[0]

    @property
    def handlers(self) -> tuple[int, ...]:
        """By entry: the handler's offset."""
        return self.starts or (self.entry,) * len(self.entries)

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


def fits(dependencies: Dependencies, page: PageAt) -> bool:
    """Whether no page around a head page is another one than in ``dependencies``, as far as they are known."""
    for distance, digest in dependencies:
        found = page(distance)
        if found is not None and page_digest(found) != digest:
            return False
    return True


def pack_origins(origins: Iterable[Origin]) -> bytes:
    return b"".join(_ORIGIN.pack(*origin) for origin in sorted(origins))


def supersedes(new: Unit, old: Unit) -> bool:
    """Whether ``new`` was made instead of ``old``, as more had been reached."""
    return (
        (new.head, new.kind.first) == (old.head, old.kind.first)
        and new.kind.generation > old.kind.generation
        and fits(old.dependencies, dict(new.pages).get)
    )


def encode_units(key: str, isa: str, units: Sequence[Unit]) -> bytes:
    """A file's bytes. The units, at least one, have the same head page; pages are stored once."""
    pages: dict[bytes, int] = {}
    rows = []
    for unit in units:
        places = [[distance, pages.setdefault(page, len(pages))] for distance, page in unit.pages]
        numbers = unit.entry, unit.page_numbers, unit.instructions, unit.us, unit.alignment, unit.kind.rank
        contains = [bits.to_bytes(PAGE // 16, "little") for bits in unit.contains]
        learnt = contains, unit.left_out, list(chain.from_iterable(unit.guesses)), unit.origins
        rows.append([unit.entries, places, unit.code, *learnt, unit.starts, *numbers])
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


def pairs(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Of a list with both members of each."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _unit(row: Iterable[Any], pages: list[bytes]) -> Unit:
    """A checked unit: nothing in it leads outside its code."""
    entries, places, code, contains, left_out, guesses, origins, starts, *numbers = row
    entry, page_numbers, instructions, us, alignment, rank = numbers
    if not isinstance(origins, bytes) or len(origins) % _ORIGIN.size:
        raise ValueError("origins that are none")
    lists = places, entries, contains, left_out, guesses, starts
    if not isinstance(code, bytes) or not all(isinstance(x, list) for x in lists):
        raise ValueError("code that is none")
    if len(guesses) % 2:
        raise ValueError("half a guess")
    if any(not isinstance(bits, bytes) or len(bits) != PAGE // 16 for bits in contains):
        raise ValueError("bits that are none")
    integers = *entries, *left_out, *guesses, *starts, *numbers, *chain.from_iterable(places)
    if not all(type(number) is int for number in integers):
        raise ValueError("a number that is none")
    if not entries or any(not 0 <= place < PAGE or place % 2 for place in entries):
        raise ValueError("an entry is not where an instruction can start")
    if not all(0 <= start < max(len(code), 1) for start in (entry, *starts)):
        raise ValueError("the entry is outside the code")
    if starts and len(starts) != len(entries):
        raise ValueError("starts of other entries")
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
    if contains and len(contains) != len(places):
        raise ValueError("bits of other pages")
    if any(not 0 <= index < len(pages) for _, index in places):
        raise ValueError("a page is missing")
    located = tuple((distance, pages[index]) for distance, index in places)
    made = located, code, entry, page_numbers, instructions, us, alignment, Kind.of_rank(rank)
    bitmaps = tuple(int.from_bytes(bits, "little") for bits in contains)
    return Unit(tuple(entries), *made, bitmaps, tuple(left_out), origins, pairs(guesses), tuple(starts))
