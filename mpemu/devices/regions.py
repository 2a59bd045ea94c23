"""Memory regions: the physical address space as a tree, flattened into the ranges that an access sees.

A region is RAM, ROM, I/O (a device's registers, near or not) or a container of other regions at offsets. Where children
overlap the higher priority wins; equal priorities must not overlap. The board builds the tree,
:class:`mpemu.devices.bus.Bus` answers accesses from its flat view, and ``mpemu mtree`` prints both.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Reader = Callable[[int, int], int]
Writer = Callable[[int, int, int], None]
Buffer = bytes | bytearray | memoryview

ALL_SIZES = frozenset({1, 2, 4, 8})


class Kind(Enum):
    """What stands behind a region. RAM and ROM have a buffer, I/O has callbacks, the others have neither.

    NEAR are registers that the vCPUs handle themselves, in native code: accesses don't get to the bus as a rule."""

    CONTAINER = "container"
    RAM = "ram"
    ROM = "rom"
    IO = "i/o"
    NEAR = "near i/o"


@dataclass(eq=False)
class MemoryRegion:
    """A named piece of address space, ``size`` bytes long. Use the class methods to make one.

    ``sizes`` are the access sizes in bytes that it answers; others, and accesses that are not naturally aligned, are
    bus errors. ``read(offset, size)`` gives an int, ``write(offset, size, value)`` takes one below ``2**(8 * size)``.
    """

    name: str
    size: int
    kind: Kind
    sizes: frozenset[int] = ALL_SIZES
    buffer: Buffer | None = None
    read: Reader | None = None
    write: Writer | None = None
    children: list[tuple[int, int, MemoryRegion]] = field(default_factory=list)
    """(offset, priority, region), in the order of their offsets."""

    @classmethod
    def container(cls, name: str, size: int) -> MemoryRegion:
        """Address space that is empty until regions are added to it."""
        return cls(name, size, Kind.CONTAINER)

    @classmethod
    def ram(cls, name: str, buffer: bytearray | memoryview) -> MemoryRegion:
        """Memory that the guest reads and writes: ``buffer``, not a copy of it."""
        return cls(name, len(buffer), Kind.RAM, buffer=buffer)

    @classmethod
    def rom(cls, name: str, buffer: Buffer, size: int = 0) -> MemoryRegion:
        """Memory that the guest reads; writes are bus errors. Beyond the buffer, up to ``size``, it reads zero."""
        size = size or len(buffer)
        return cls(name, size, Kind.ROM, buffer=buffer if len(buffer) == size else bytes(buffer).ljust(size, b"\0"))

    @classmethod
    def io(cls, name: str, size: int, read: Reader, write: Writer, sizes: frozenset[int] = ALL_SIZES) -> MemoryRegion:
        """Registers of a device."""
        return cls(name, size, Kind.IO, sizes, read=read, write=write)

    @classmethod
    def near(cls, name: str, size: int, sizes: frozenset[int], write: Writer | None = None) -> MemoryRegion:
        """Registers that native code has (codegen/near.py); ``write`` takes the stores that it can't do by itself."""
        return cls(name, size, Kind.NEAR, sizes, write=write)

    def add(self, offset: int, region: MemoryRegion, priority: int = 0) -> None:
        """Place ``region`` in this container. ValueError if it does not fit, or meets one of the same priority."""
        end = offset + region.size
        if self.kind is not Kind.CONTAINER:
            raise ValueError(f"{self.name} is {self.kind.value}, not a container: {region.name} can't be placed in it")
        if offset < 0 or end > self.size:
            raise ValueError(f"{region.name} at {offset:#x}..{end - 1:#x} does not fit in {self.name} ({self.size:#x})")
        for other_offset, other_priority, other in self.children:
            if priority == other_priority and offset < other_offset + other.size and other_offset < end:
                raise ValueError(
                    f"{region.name} at {offset:#x}..{end - 1:#x} overlaps {other.name} at "
                    f"{other_offset:#x}..{other_offset + other.size - 1:#x}; give one of them a higher priority"
                )
        insort(self.children, (offset, priority, region), key=lambda child: child[0])


@dataclass(frozen=True)
class FlatRange:
    """Addresses ``start`` to ``end`` (exclusive) belong to ``region``, whose offset 0 is at ``base``."""

    start: int
    end: int
    base: int
    region: MemoryRegion


def flatten(root: MemoryRegion) -> list[FlatRange]:
    """What an access sees: disjoint ranges in the order of their addresses."""
    ranges: list[FlatRange] = []
    for base, start, end, region in _by_importance(root, 0, 0, root.size):
        for gap_start, gap_end in _gaps(ranges, start, end):
            insort(ranges, FlatRange(gap_start, gap_end, base, region), key=lambda r: r.start)
    return ranges


def _by_importance(
    region: MemoryRegion, base: int, start: int, end: int
) -> Iterator[tuple[int, int, int, MemoryRegion]]:
    """Leaves as (base, start, end, region), each clipped to its containers, the ones that win first."""
    start, end = max(start, base), min(end, base + region.size)
    if start >= end:
        return
    if region.kind is not Kind.CONTAINER:
        yield base, start, end, region
        return
    for offset, _, child in sorted(region.children, key=lambda c: -c[1]):
        yield from _by_importance(child, base + offset, start, end)


def _gaps(ranges: list[FlatRange], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of ``start..end`` that no range covers yet."""
    gaps = []
    for r in ranges:
        if r.end <= start:
            continue
        if r.start >= end:
            break
        if r.start > start:
            gaps.append((start, r.start))
        start = max(start, r.end)
    if start < end:
        gaps.append((start, end))
    return gaps


def tree_text(root: MemoryRegion) -> str:
    """The tree and its flat view, as ``mpemu mtree`` prints them."""
    lines = ["memory tree"]
    _tree_lines(root, 0, 0, 1, lines)
    lines.append("flat view")
    for r in flatten(root):
        shift = f" @{r.start - r.base:#x}" if r.start != r.base else ""
        lines.append(f"  {r.start:016x}-{r.end - 1:016x} ({r.region.kind.value}): {r.region.name}{shift}")
    return "\n".join(lines)


def _tree_lines(region: MemoryRegion, base: int, priority: int, depth: int, lines: list[str]) -> None:
    last = base + region.size - 1
    lines.append(f"{'  ' * depth}{base:016x}-{last:016x} (prio {priority}, {region.kind.value}): {region.name}")
    for offset, child_priority, child in region.children:
        _tree_lines(child, base + offset, child_priority, depth + 1, lines)


def tree_json(root: MemoryRegion) -> dict[str, Any]:
    """The same for programs: ``{"tree": {...}, "flat": [...]}``, addresses as ints, ``last`` inclusive."""
    return {
        "tree": _tree_dict(root, 0, 0),
        "flat": [
            {
                "start": r.start,
                "last": r.end - 1,
                "kind": r.region.kind.value,
                "name": r.region.name,
                "offset": r.start - r.base,
            }
            for r in flatten(root)
        ],
    }


def _tree_dict(region: MemoryRegion, base: int, priority: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": region.name,
        "kind": region.kind.value,
        "start": base,
        "last": base + region.size - 1,
        "priority": priority,
    }
    if region.kind in {Kind.IO, Kind.NEAR}:
        result["access_sizes"] = sorted(region.sizes)
    if region.children:
        result["children"] = [_tree_dict(child, base + offset, p) for offset, p, child in region.children]
    return result
