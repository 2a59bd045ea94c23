"""The reference model's memory: a physical bus, translation, misaligned accesses, reservations, atomics.

Order of checks, which the other implementations share: alignment (of atomics), translation of every byte for the right
to do the whole access, then whether the physical address is memory. So an access that traps has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mpemu.isa.hart import Isa, Operand
from mpemu.isa.reference_core import Core, GuestTrap, number
from mpemu.isa.value import Value

PAGE = 4096
BLOCK = 64
"""Cache block of the CBOs and granule of reservations, in bytes."""
NO_TRANSLATION = (1 << 64) - 1
READ, WRITE, FETCH = 0, 1, 2
"""The ``access`` argument of the routine ``translate``."""

LOAD_MISALIGNED, STORE_MISALIGNED = 4, 6
ACCESS_FAULT = {READ: 5, WRITE: 7, FETCH: 1}
AS_STORE_FAULT = {5: 7, 13: 15}
"""A CBO needs only the right to read, but reports a store."""


class BusError(Exception):
    """Nothing answers at this physical address."""


@dataclass(frozen=True)
class MmioRange:
    """A device: ``read(offset, size)`` and ``write(offset, size, value)``; either may raise :class:`BusError`."""

    base: int
    size: int
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]


@dataclass
class PhysicalBus:
    """RAM and devices, shared by the harts of a machine, and who has reserved which granule."""

    ram: bytearray | memoryview
    ram_base: int = 0x8000_0000
    devices: list[MmioRange] = field(default_factory=list)
    reservations: dict[int, int] = field(default_factory=dict)
    """hart id -> physical address of its granule"""

    def is_ram(self, address: int, size: int) -> bool:
        return self.ram_base <= address and address + size <= self.ram_base + len(self.ram)

    def read(self, address: int, size: int) -> int:
        """``size`` bytes, little-endian; BusError if nothing is there."""
        if self.is_ram(address, size):
            offset = address - self.ram_base
            return int.from_bytes(self.ram[offset : offset + size], "little")
        device = self._device(address, size)
        return device.read(address - device.base, size) & (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int, hart: int) -> None:
        """Store, and end the reservations that other harts have on these bytes."""
        if not self.is_ram(address, size):
            device = self._device(address, size)
            device.write(address - device.base, size, value)
            return
        offset = address - self.ram_base
        self.ram[offset : offset + size] = value.to_bytes(size, "little")
        touched = {address & -BLOCK, (address + size - 1) & -BLOCK}
        for other in [h for h, granule in self.reservations.items() if h != hart and granule in touched]:
            del self.reservations[other]

    def _device(self, address: int, size: int) -> MmioRange:
        for device in self.devices:
            if device.base <= address and address + size <= device.base + device.size:
                return device
        raise BusError(f"nothing answers at {address:#x}")


def combine(op: str, old: Value, operand: Value) -> Value:
    """What an AMO stores."""
    match op:
        case "swap":
            return operand
        case "add":
            return old + operand
        case "and":
            return old & operand
        case "or":
            return old | operand
        case "xor":
            return old ^ operand
        case "min":
            return old.lt(operand).mux(old, operand)
        case "max":
            return old.lt(operand).mux(operand, old)
        case "minu":
            return old.ltu(operand).mux(old, operand)
        case "maxu":
            return old.ltu(operand).mux(operand, old)
    raise ValueError(f"unknown atomic operation {op!r}")


class MemoryVerbs(Core):
    """Core and the memory part of the Hart protocol."""

    def __init__(self, isa: Isa, bus: PhysicalBus, hartid: int) -> None:
        super().__init__(isa)
        self.bus = bus
        self.s.values["hartid"] = hartid

    @property
    def hartid(self) -> int:
        return self.s.values["hartid"]

    # -- translation
    def translate(self, address: int, access: int, size: int) -> int:
        """The physical address, by the routine of isa/mmu.py."""
        return number(self.call("translate", address, access, size))

    def _pieces(self, address: int, size: int, access: int) -> list[tuple[int, int]]:
        """(physical address, bytes): two pieces if the access crosses a page. Traps if any byte may not be accessed,
        and reports the piece that is at fault."""
        room = PAGE - address % PAGE
        spans = [(address, size)] if size <= room else [(address, room), (address + room & NO_TRANSLATION, size - room)]
        pieces = [(self.translate(a, access, n), n) for a, n in spans]
        for (a, _), (pa, n) in zip(spans, pieces, strict=True):
            if address % size and not self.bus.is_ram(pa, n):
                raise GuestTrap(ACCESS_FAULT[access], a)
        return pieces

    def _read(self, address: int, size: int, access: int = READ) -> int:
        value = shift = 0
        try:
            for physical, n in self._pieces(address, size, access):
                value |= self.bus.read(physical, n) << shift
                shift += 8 * n
        except BusError:
            raise GuestTrap(ACCESS_FAULT[access], address) from None
        return value

    def _write(self, address: int, size: int, value: int) -> None:
        try:
            for physical, n in self._pieces(address, size, WRITE):
                self.bus.write(physical, n, value & (1 << 8 * n) - 1, self.hartid)
                value >>= 8 * n
        except BusError:
            raise GuestTrap(ACCESS_FAULT[WRITE], address) from None

    def _atomic_address(self, address: int, size: int, access: int) -> int:
        """The physical address of an aligned atomic access to RAM."""
        if address % size:
            raise GuestTrap(LOAD_MISALIGNED if access == READ else STORE_MISALIGNED, address)
        physical = self.translate(address, access, size)
        if not self.bus.is_ram(physical, size):
            raise GuestTrap(ACCESS_FAULT[access], address)
        return physical

    def fetch(self) -> int:
        """The instruction at pc: 16 or 32 bits. Instructions lie in RAM."""
        pc = self.s.values["pc"]
        physical = self.translate(pc, FETCH, 2)
        word = self._parcel(physical, pc)
        if word & 3 != 3:
            return word
        behind = (pc + 2) & NO_TRANSLATION
        # A page is translated, and protected by PMP, as a whole.
        physical = physical + 2 if behind % PAGE else self.translate(behind, FETCH, 2)
        return word | self._parcel(physical, behind) << 16

    def _parcel(self, physical: int, address: int) -> int:
        if not self.bus.is_ram(physical, 2):
            raise GuestTrap(ACCESS_FAULT[FETCH], address)
        return self.bus.read(physical, 2)

    # -- the verbs
    def load(self, address: Value, width: int) -> Value:
        return Value(self._read(number(address), width // 8) if self.live else 0, width)

    def store(self, address: Value, value: Value) -> None:
        if self.live:
            self._write(number(address), value.width // 8, number(value))

    def load_reserved(self, address: Value, width: int, aq: Operand, rl: Operand) -> Value:
        if not self.live:
            return Value(0, width)
        physical = self._atomic_address(number(address), width // 8, READ)
        self.bus.reservations[self.hartid] = physical & -BLOCK
        return Value(self.bus.read(physical, width // 8), width)

    def store_conditional(self, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        if not self.live:
            return Value(0, 64)
        size = value.width // 8
        physical = self._atomic_address(number(address), size, WRITE)
        if self.bus.reservations.pop(self.hartid, None) != physical & -BLOCK:
            return Value(1, 64)
        self.bus.write(physical, size, number(value), self.hartid)
        return Value(0, 64)

    def amo(self, op: str, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        return self._update(address, value.width, lambda old: combine(op, old, value))

    def cas(self, address: Value, expected: Value, new: Value, aq: Operand, rl: Operand) -> Value:
        return self._update(address, new.width, lambda old: (old == expected).mux(new, old))

    def _update(self, address: Value, width: int, updated: Callable[[Value], Value]) -> Value:
        if not self.live:
            return Value(0, width)
        physical = self._atomic_address(number(address), width // 8, WRITE)
        old = Value(self.bus.read(physical, width // 8), width)
        self.bus.write(physical, width // 8, number(updated(old)), self.hartid)
        return old

    def check_cbo(self, address: Value, write: bool) -> None:
        if not self.live:
            return
        try:
            physical = self.translate(number(address), WRITE if write else READ, 1)
        except GuestTrap as trap:
            raise GuestTrap(AS_STORE_FAULT.get(trap.cause, trap.cause), trap.tval) from None
        if not self.bus.is_ram(physical, 1):
            raise GuestTrap(ACCESS_FAULT[WRITE], number(address))

    def zero_block(self, address: Value) -> None:
        if not self.live:
            return
        physical = self.translate(number(address), WRITE, 1) & -BLOCK
        if not self.bus.is_ram(physical, BLOCK):
            raise GuestTrap(ACCESS_FAULT[WRITE], number(address))
        self.bus.write(physical, BLOCK, 0, self.hartid)

    def fence(self, predecessors: Operand, successors: Operand, fm: Operand) -> None:
        """Nothing is reordered here."""

    def fence_i(self) -> None:
        """Nothing is cached here."""

    def sfence_vma(self, address: Value | None, asid: Value | None) -> None:
        """Nothing is cached here."""

    def flush_tlb(self) -> None:
        """Nothing is cached here."""

    # -- the page-table walk
    def read_pte(self, address: Value) -> Value:
        if not self.live:
            return Value(0, 64)
        found = self.bus.is_ram(number(address), 8)
        self.s.walk_fault = 0 if found else NO_TRANSLATION
        return Value(self.bus.read(number(address), 8) if found else 0, 64)

    def cas_pte(self, address: Value, expected: Value, new: Value) -> Value:
        if not self.live:
            return Value(0, 1)
        same = self.bus.read(number(address), 8) == number(expected)
        if same:
            self.bus.write(number(address), 8, number(new), self.hartid)
        return Value(int(same), 1)
