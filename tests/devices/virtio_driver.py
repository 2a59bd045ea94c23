"""A small virtio-mmio driver for tests: rings in the fake machine's RAM, registers through the device."""

from __future__ import annotations

import struct

from mpemu.devices.virtio import mmio
from mpemu.devices.virtio.queue import NEXT, WRITE
from tests.devices.machine_fakes import RAM_BASE, FakeMachine

DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0x0, 0x1000, 0x2000, 0x4000
QUEUE_SPAN = 0x3000


class Driver:
    """Drives queue ``index`` of ``device``, with ``size`` descriptors; buffers are handed out from 0x4000 on."""

    def __init__(self, machine: FakeMachine, device: mmio.VirtioDevice, index: int = 0, size: int = 16) -> None:
        self.machine, self.device, self.index, self.size = machine, device, index, size
        self.ram = machine.memory.ram
        self.base = 0x6000 * index
        self.next = 0
        self.seen = 0
        self.buffer = self.base + BUFFERS

    def poke(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)

    def peek(self, offset: int) -> int:
        return self.device.read(offset, 4)

    def start(self, features: int = 1 << 32) -> None:
        """The whole dance of section 3.1.1."""
        self.poke(mmio.STATUS, 0)
        self.poke(mmio.STATUS, 1)
        self.poke(mmio.STATUS, 3)
        for half in (0, 1):
            self.poke(mmio.DRIVER_FEATURES_SEL, half)
            self.poke(mmio.DRIVER_FEATURES, features >> (32 * half) & 0xFFFF_FFFF)
        self.poke(mmio.STATUS, 11)
        self.setup()
        self.poke(mmio.STATUS, 15)

    def setup(self) -> None:
        self.poke(mmio.QUEUE_SEL, self.index)
        self.poke(mmio.QUEUE_NUM, self.size)
        for register, offset in (
            (mmio.QUEUE_DESC_LOW, DESCRIPTORS),
            (mmio.QUEUE_DRIVER_LOW, AVAILABLE),
            (mmio.QUEUE_DEVICE_LOW, USED),
        ):
            self.poke(register, RAM_BASE + self.base + offset)
            self.poke(register + 4, 0)
        self.poke(mmio.QUEUE_READY, 1)

    def descriptor(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        struct.pack_into("<QIHH", self.ram, self.base + 16 * index, address, length, flags, following)

    def offer(self, head: int) -> None:
        """Make a chain available, without telling the device."""
        struct.pack_into("<H", self.ram, self.base + AVAILABLE + 4 + 2 * (self.next % self.size), head)
        self.next = (self.next + 1) & 0xFFFF
        struct.pack_into("<H", self.ram, self.base + AVAILABLE + 2, self.next)

    def chain(self, first: int, outgoing: list[bytes], incoming: list[int]) -> list[int]:
        """A chain from descriptor ``first`` on; the RAM offsets of the incoming pieces."""
        pieces = [(data, len(data), 0) for data in outgoing] + [(b"", size, WRITE) for size in incoming]
        offsets = []
        for i, (data, length, flags) in enumerate(pieces):
            offset, self.buffer = self.buffer, self.buffer + -(-max(length, 1) // 16) * 16
            self.ram[offset : offset + len(data)] = data
            more = NEXT if i + 1 < len(pieces) else 0
            self.descriptor(first + i, RAM_BASE + offset, length, flags | more, first + i + 1)
            if flags & WRITE:
                offsets.append(offset)
        self.offer(first)
        return offsets

    def notify(self) -> None:
        self.poke(mmio.QUEUE_NOTIFY, self.index)

    def completed(self) -> list[tuple[int, int]]:
        """(head, length) of what came back since the last time."""
        found = []
        (index,) = struct.unpack_from("<H", self.ram, self.base + USED + 2)
        while self.seen != index:
            found.append(struct.unpack_from("<II", self.ram, self.base + USED + 4 + 8 * (self.seen % self.size)))
            self.seen = (self.seen + 1) & 0xFFFF
        return found
