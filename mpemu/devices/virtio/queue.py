"""Split virtqueues (virtio 1.2, section 2.7), the device's side.

The rings lie in guest RAM and a hostile or broken driver may write anything there at any time. Every index, address
and length is checked once, on a copy, before it is used; every walk is bounded by the queue's size. What is not legal
raises :class:`QueueError`, and the device asks for a reset.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mpemu.devices.device import DeviceMemory, State
from mpemu.fence import full_fence, order_fence

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL_NO_INTERRUPT = 1
_DESCRIPTOR = struct.Struct("<QIHH")


class QueueError(Exception):
    """The driver broke the rules of the ring; the message says which."""


@dataclass
class Chain:
    """A buffer from the driver: pieces of guest RAM that the device reads, then pieces that it writes.

    ``readable`` and ``writable`` are views of guest RAM; ``places`` are the writable pieces' guest addresses.
    """

    head: int
    readable: list[memoryview]
    writable: list[memoryview]
    places: list[int]

    @property
    def areas(self) -> list[tuple[int, int]]:
        """(guest address, bytes) of the writable pieces."""
        return [(place, len(piece)) for place, piece in zip(self.places, self.writable, strict=True)]

    @property
    def readable_size(self) -> int:
        return sum(len(piece) for piece in self.readable)

    @property
    def writable_size(self) -> int:
        return sum(len(piece) for piece in self.writable)


def skip(pieces: list[memoryview], count: int) -> list[memoryview]:
    """The pieces without their first ``count`` bytes."""
    rest = []
    for piece in pieces:
        if count >= len(piece):
            count -= len(piece)
        else:
            rest.append(piece[count:])
            count = 0
    return rest


def take(pieces: list[memoryview], count: int) -> list[memoryview]:
    """The first ``count`` bytes of the pieces."""
    first = []
    for piece in pieces:
        if not count:
            break
        first.append(piece[:count])
        count -= len(first[-1])
    return first


def gather(pieces: list[memoryview], count: int) -> bytes:
    """The first ``count`` bytes of the pieces, fewer if there are no more, copied."""
    return b"".join(take(pieces, count))


def scatter(pieces: list[memoryview], data: bytes) -> int:
    """Copy ``data`` into the pieces, as far as they reach; how many bytes."""
    done = 0
    for piece in pieces:
        part = data[done : done + len(piece)]
        piece[: len(part)] = part
        done += len(part)
    return done


class Virtqueue:
    """One queue; ``maximum`` is the largest size that the driver may choose, a power of two."""

    def __init__(self, memory: DeviceMemory, maximum: int) -> None:
        self.maximum = maximum
        self._ram, self._base, self._size = memory.ram, memory.ram_base, memory.ram_size
        # Indices are read and written as one aligned 16-bit word each: a driver must never see half of one.
        self._halves = memory.ram.cast("H")
        self._words = memory.ram.cast("I")
        self.reset()

    def reset(self) -> None:
        self.size = self.maximum
        self.descriptors = self.available = self.used = 0
        self.ready = False
        self._next = 0
        self._used_index = 0
        self._outstanding: set[int] = set()

    def start(self) -> None:
        """The driver set QueueReady: check the layout it chose. Raises :class:`QueueError`."""
        if not 0 < self.size <= self.maximum or self.size & (self.size - 1):
            raise QueueError(f"queue size {self.size} is not a power of two up to {self.maximum}")
        for name, address, alignment, length in (
            ("descriptor table", self.descriptors, 16, 16 * self.size),
            ("available ring", self.available, 2, 6 + 2 * self.size),
            ("used ring", self.used, 4, 6 + 8 * self.size),
        ):
            if address % alignment:
                raise QueueError(f"the {name} at {address:#x} is not aligned to {alignment}")
            self._offset(name, address, length)
        self.ready = True

    def _offset(self, what: str, address: int, length: int) -> int:
        """Where ``address`` is in RAM, if all of it is RAM."""
        offset = address - self._base
        if offset < 0 or length > self._size or offset > self._size - length:
            raise QueueError(f"{what} at {address:#x}, {length} bytes, is not RAM")
        return offset

    def pop(self) -> Chain | None:
        """The next buffer that the driver made available, or None. Raises :class:`QueueError`."""
        if not self.ready:
            return None
        offset = (self.available - self._base) >> 1
        waiting = (self._halves[offset + 1] - self._next) & 0xFFFF
        if not waiting:
            return None
        if waiting > self.size:
            raise QueueError(f"the available index runs {waiting} ahead in a queue of {self.size}")
        order_fence()
        head = self._halves[offset + 2 + (self._next & (self.size - 1))]
        if head in self._outstanding:
            raise QueueError(f"descriptor {head} is made available again before it was used")
        chain = self._chain(head)
        self._next = (self._next + 1) & 0xFFFF
        self._outstanding.add(head)
        return chain

    def _chain(self, head: int) -> Chain:
        table, limit = self.descriptors - self._base, self.size
        chain = Chain(head, [], [], [])
        index, indirect, seen = head, False, 0
        while True:
            if index >= limit:
                raise QueueError(f"descriptor index {index} is beyond the table of {limit}")
            seen += 1
            if seen > self.size:
                raise QueueError("a descriptor chain is longer than the queue (a loop?)")
            address, length, flags, following = _DESCRIPTOR.unpack_from(self._ram, table + 16 * index)
            if flags & INDIRECT:
                if indirect or flags & NEXT or not length or length % 16:
                    raise QueueError("an indirect descriptor is nested, chained or has a bad length")
                table = self._offset("an indirect table", address, length)
                limit, index, indirect, seen = length // 16, 0, True, 0
                continue
            offset = self._offset("a buffer", address, length)
            if flags & WRITE:
                chain.writable.append(self._ram[offset : offset + length])
                chain.places.append(address)
            elif chain.writable:
                raise QueueError("a readable descriptor follows a writable one")
            else:
                chain.readable.append(self._ram[offset : offset + length])
            if not flags & NEXT:
                return chain
            index = following

    def push(self, chain: Chain, written: int) -> bool:
        """Give a buffer back, ``written`` bytes into its writable pieces. Whether the driver wants an interrupt."""
        if not self.ready or chain.head not in self._outstanding:
            return False
        self._outstanding.discard(chain.head)
        ring = (self.used - self._base) >> 2
        element = ring + 1 + 2 * (self._used_index & (self.size - 1))
        self._words[element] = chain.head
        self._words[element + 1] = written & 0xFFFF_FFFF
        self._used_index = (self._used_index + 1) & 0xFFFF
        order_fence()
        self._halves[((self.used - self._base) >> 1) + 1] = self._used_index
        full_fence()  # the driver enables interrupts, then looks at the index; we the other way round
        return not self._halves[(self.available - self._base) >> 1] & AVAIL_NO_INTERRUPT

    def used_area(self) -> tuple[int, int]:
        """(guest address, bytes) of the used ring."""
        return self.used, 6 + 8 * self.size

    def state(self) -> State:
        return {
            "size": self.size,
            "descriptors": self.descriptors,
            "available": self.available,
            "used": self.used,
            "ready": self.ready,
            "next": self._next,
            "used_index": self._used_index,
        }

    def load_state(self, state: State) -> None:
        """Buffers must not be outstanding: a device finishes its requests before a snapshot."""
        self.reset()
        self.size = state["size"]
        self.descriptors, self.available, self.used = state["descriptors"], state["available"], state["used"]
        if state["ready"]:
            self.start()
        self._next, self._used_index = state["next"] & 0xFFFF, state["used_index"] & 0xFFFF
