"""Where the harts of a machine spend their time: samples, gathered while it runs, by guest instruction and function.

A sample in a region says where the host was; the units of the regions, which the translator writes to disk with their
origins, say what guest instruction that belongs to. So a profile is made in two steps: :meth:`Profiler.finish` while
the machine exists, :class:`Profile` when it is closed and the translator has ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic_ns
from typing import NamedTuple

from mpemu.layout import MAX_REGIONS, PAGE, REGION_ENTRY, TIERS, TRANSLATOR
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.symbols import Symbols
from mpemu.unit import NOWHERE, Unit, page_digest
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.sampling import Place, Sampling
from mpemu.walk import MACHINE_MODE, read_code

DRAIN_NS = 1_000_000_000
MAX_PAGES = 20_000
"""Code pages that are read for the listing."""
IN_REGION, INTERPRETED, OUTSIDE = range(len(TIERS))


class Space(NamedTuple):
    """An address space and a privilege: where code is read from."""

    satp: int
    priv: int


@dataclass(frozen=True)
class Region:
    """A published region: ``start`` is the handler offset of its function."""

    start: int
    identity: int
    head_page: bytes


@dataclass(frozen=True)
class Samples:
    """What was gathered. ``pages``: code by space and address of the page."""

    places: Counter[Place]
    lost: int
    pages: dict[tuple[Space, int], bytes]
    regions: list[Region]
    regions_start: int


def _space(place: Place) -> Space:
    return Space(0 if place.priv == MACHINE_MODE else place.satp, place.priv)


class Profiler:
    """Collects from ``sampling`` while ``loop`` runs."""

    def __init__(self, memory: MachineMemory, blob: Blob, sampling: Sampling, loop: MainLoop) -> None:
        self._memory, self._blob, self._sampling = memory, blob, sampling
        self._pages: dict[tuple[Space, int], bytes] = {}
        self._timer = loop.realtime.timer(self._tick, "samples")
        self._timer.arm(monotonic_ns() + DRAIN_NS)

    def _tick(self) -> None:
        self._drain()
        self._timer.arm(monotonic_ns() + DRAIN_NS)

    def _drain(self) -> None:
        for place in self._sampling.drain():  # the code may be gone by the end
            key = _space(place), place.pc & -PAGE
            if key not in self._pages and len(self._pages) < MAX_PAGES:
                self._pages[key] = read_code(self._memory, place, key[1], PAGE)

    def finish(self) -> Samples:
        """Before the machine is closed."""
        self._timer.cancel()
        self._drain()
        return Samples(
            self._sampling.places, self._sampling.lost, self._pages, self._regions(), self._blob.regions_start
        )

    def _regions(self) -> list[Region]:
        view = self._memory.translator
        if view is None:
            return []
        entries = (REGION_ENTRY.ctype * MAX_REGIONS).from_buffer(view, TRANSLATOR.offset["regions"])
        copies = memoryview(view.page_copy)
        found = []
        for number in range(view.published):
            entry = entries[number]
            page = bytes(copies[entry.page * PAGE : (entry.page + 1) * PAGE])
            found.append(Region(entry.code, view.identity[number], page))
        return sorted(found, key=lambda region: region.start)


@dataclass
class Spot:
    """A guest instruction that was met: samples by tier, and ``host`` those in regions by region and handler offset."""

    space: Space
    pc: int
    samples: list[int] = field(default_factory=lambda: [0] * len(TIERS))
    host: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.samples)


@dataclass
class Hot:
    """A function, or a page of code without names, and its spots by address; ``spaces`` where it was executed."""

    name: str
    start: int
    end: int
    spaces: set[Space] = field(default_factory=set)
    spots: dict[int, Spot] = field(default_factory=dict)

    @property
    def samples(self) -> list[int]:
        return [sum(column) for column in zip(*(spot.samples for spot in self.spots.values()), strict=True)]

    @property
    def total(self) -> int:
        return sum(self.samples)


@dataclass(frozen=True)
class HostLine:
    """A piece of host code of the instruction at ``pc``: handler offset and bytes."""

    offset: int
    code: bytes


class Profile:
    """``functions``, hottest first; ``total`` samples."""

    def __init__(self, samples: Samples, symbols: Symbols, units: Callable[[bytes], Iterable[Unit]]) -> None:
        """``units(digest)``: those of a head page that are on disk."""
        self._samples, self._symbols = samples, symbols
        self._starts = [region.start for region in samples.regions]
        self._load, self._units = units, dict[int, _Located | None]()
        self.lost = samples.lost
        self._spots: dict[tuple[Space, int], Spot] = {}
        for place, count in samples.places.items():
            self._add(place, count)
        self.functions = self._by_function()
        self.total = sum(function.total for function in self.functions)

    @property
    def tiers(self) -> dict[str, int]:
        """Samples by tier."""
        columns = zip(*(hot.samples for hot in self.functions), strict=True)
        return dict.fromkeys(TIERS, 0) | dict(zip(TIERS, (sum(column) for column in columns), strict=False))

    # -- from samples to instructions
    def _add(self, place: Place, count: int) -> None:
        number, pc, tier = None, place.pc, OUTSIDE
        if place.host is not None:
            tier = INTERPRETED
            if place.host >= self._samples.regions_start:
                tier = IN_REGION
                number = bisect_right(self._starts, place.host) - 1
                pc = self._origin(number, place.host, pc)
        space = _space(place)
        spot = self._spots.setdefault((space, pc), Spot(space, pc))
        spot.samples[tier] += count
        if number is not None and place.host is not None:
            spot.host[number, place.host] += count

    def _origin(self, number: int, host: int, entered: int) -> int:
        """The guest's pc of host code in a region that was entered at ``entered``: that itself, if it is not known."""
        unit = self._unit(number)
        if unit is None or entered % PAGE not in unit.entries:
            return entered
        place = unit.place(host)
        return entered if place == NOWHERE else (entered & -PAGE) + place

    def _unit(self, number: int) -> _Located | None:
        """The unit of a region, if it has origins."""
        if number < 0:
            return None
        if number not in self._units:
            region = self._samples.regions[number]
            found = self._load(page_digest(region.head_page))
            same = next((unit for unit in found if unit.identity == region.identity and unit.origins), None)
            self._units[number] = _Located(same, region.start - same.entry) if same else None
        return self._units[number]

    # -- from instructions to functions
    def _by_function(self) -> list[Hot]:
        found: dict[object, Hot] = {}
        for spot in self._spots.values():
            function = self._symbols.find(spot.pc)
            if function:
                hot = found.setdefault(function, Hot(function.name, function.start, function.end))
            else:
                page = spot.pc & -PAGE
                code = self._samples.pages.get((spot.space, page)) or spot.space.satp  # a kernel is in all spaces
                hot = found.setdefault((spot.space.priv, page, code), Hot(f"{page:#x}", page, page + PAGE))
            hot.spaces.add(spot.space)
            if spot.pc in hot.spots:  # in another address space: an instruction all the same
                merge(hot.spots[spot.pc], spot)
            else:
                hot.spots[spot.pc] = spot
        return sorted(found.values(), key=lambda hot: (-hot.total, hot.start))

    # -- code
    def guest_code(self, hot: Hot) -> bytes:
        """Of the function from its start on, as far as it is known."""
        code = b""
        while hot.start + len(code) < hot.end:
            here = hot.start + len(code)
            page = self._page(hot, here & -PAGE)[here % PAGE :]
            if not page:
                break
            code += page
        return code[: hot.end - hot.start]

    def _page(self, hot: Hot, address: int) -> bytes:
        for space in sorted(hot.spaces):
            if page := self._samples.pages.get((space, address)):
                return page
        for number, base in self._regions_of(hot):
            unit = self._unit(number)
            for distance, page in unit.pages if unit else ():
                if base + distance * PAGE == address:
                    return page
        return b""

    def _regions_of(self, hot: Hot) -> list[tuple[int, int]]:
        """Regions with samples of the function, most first, and the addresses of their head pages."""
        counts: Counter[tuple[int, int]] = Counter()
        for spot in hot.spots.values():
            for (number, host), count in spot.host.items():
                unit = self._unit(number)
                place = unit.place(host) if unit else NOWHERE
                base = spot.pc & -PAGE if place == NOWHERE else spot.pc - place
                counts[number, base] += count
        return [key for key, _ in counts.most_common()]

    def host_code(self, hot: Hot) -> tuple[int, dict[int, list[HostLine]]]:
        """Of the region where most of the function's samples are: its number, and its code by guest address."""
        for number, base in self._regions_of(hot)[:1]:
            if unit := self._unit(number):
                found: dict[int, list[HostLine]] = defaultdict(list)
                for place, line in unit.runs():
                    found[base + place].append(line)
                return number, found
        return -1, {}


class _Located:
    """A unit whose code begins at handler offset ``base``."""

    def __init__(self, unit: Unit, base: int) -> None:
        self.entries, self.pages = unit.entries, unit.pages
        self._origins = list(unit.iter_origins())
        self._starts = [start for start, _ in self._origins]
        self._code, self._base = unit.code, base

    def place(self, host: int) -> int:
        """Where the host code at a handler offset comes from, or NOWHERE."""
        index = bisect_right(self._starts, host - self._base) - 1
        return self._origins[index].place if index >= 0 else NOWHERE

    def runs(self) -> Iterator[tuple[int, HostLine]]:
        """All code that comes from a place."""
        for (start, place), (end, _) in pairwise(self._origins):
            if place != NOWHERE:
                yield place, HostLine(self._base + start, self._code[start:end])


def merge(spot: Spot, other: Spot) -> None:
    """Add the samples of ``other``."""
    spot.samples = [a + b for a, b in zip(spot.samples, other.samples, strict=True)]
    spot.host += other.host
