"""The bus: physical accesses that are not RAM, answered by the region they fall into.

A vCPU's far MMIO arrives here; ``BusError`` becomes an access fault in the guest. The root region is flattened once,
and again when the board changes it.
"""

from __future__ import annotations

from bisect import bisect_right

from mpemu.devices.regions import FlatRange, Kind, MemoryRegion, flatten


class BusError(Exception):
    """No region answers this access: nothing there, a size or alignment it does not take, or a write to ROM."""

    def __init__(self, what: str, address: int, size: int) -> None:
        super().__init__(f"{what} of {size} bytes at {address:#x}: no device takes it")
        self.address, self.size = address, size


class Bus:
    """Accesses by physical address over the tree under ``root``."""

    def __init__(self, root: MemoryRegion) -> None:
        self.root = root
        self._ranges: list[FlatRange] = []
        self._starts: list[int] = []
        self.refresh()

    def refresh(self) -> None:
        """Flatten the tree anew, after regions were added."""
        self._ranges = flatten(self.root)
        self._starts = [r.start for r in self._ranges]

    def find(self, address: int) -> FlatRange | None:
        """The range that holds ``address``, or None."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ranges[index].end:
            return None
        return self._ranges[index]

    def read(self, address: int, size: int) -> int:
        """The value of ``size`` bytes at ``address``, little endian. Raises :class:`BusError`."""
        found = self.find(address)
        if found is None or size not in found.region.sizes or address & (size - 1) or address + size > found.end:
            raise BusError("read", address, size)
        region, offset = found.region, address - found.base
        if region.read is not None:
            return region.read(offset, size) & ((1 << (8 * size)) - 1)
        if region.buffer is None:
            raise BusError("read", address, size)
        return int.from_bytes(region.buffer[offset : offset + size], "little")

    def write(self, address: int, size: int, value: int) -> None:
        """Store the low ``size`` bytes of ``value`` at ``address``. Raises :class:`BusError`."""
        found = self.find(address)
        if found is None or size not in found.region.sizes or address & (size - 1) or address + size > found.end:
            raise BusError("write", address, size)
        region, offset = found.region, address - found.base
        value &= (1 << (8 * size)) - 1
        if region.write is not None:
            region.write(offset, size, value)
        elif region.kind is Kind.RAM and isinstance(region.buffer, bytearray | memoryview):
            region.buffer[offset : offset + size] = value.to_bytes(size, "little")
        else:
            raise BusError("write", address, size)
