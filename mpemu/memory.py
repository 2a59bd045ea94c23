"""The machine's shared memory: guest RAM, and the state of machine and harts (layout.py).

Made by the coordinator before it forks the vCPUs, so that an address means the same in every process. Who writes which
item is said in layout.py; this module fills in what is known when the machine is built, and makes the eventfds that
wake the harts.
"""

from __future__ import annotations

import os
from typing import Any

from mpemu.addresses import RAM as RAM_BASE
from mpemu.errors import ConfigError
from mpemu.layout import (
    CODE_PAGES_SIZE,
    HART,
    MACHINE,
    MAX_HARTS,
    PAGE,
    VERSION_WORDS,
    hart_offset,
    state_segment_size,
)
from mpemu.shm import MemoryFile, Segment, check_room

MARK_SIZE = 4
"""Bytes of a page's LR/SC mark (MACHINE.page_marks), and of its count of writing devices (MACHINE.page_dma)."""
MARK_PATIENCE = 4093
"""Of MACHINE.mark_patience. A prime, so that the looks do not keep step with a loop that stores to several pages."""
CLOCK_RUNNING, CLOCK_FROZEN, CLOCK_VIRTUAL = 0, 1, 2


class MachineMemory:
    """RAM of ``ram_size`` bytes (a multiple of 4 KiB) at guest physical ``ram_base``, and state for ``harts`` harts.

    ``ram`` is a memoryview of bytes; ``machine`` and ``hart(i)`` are ctypes views; ``ram_address`` and
    ``state_address`` are host addresses. ``wake_fds[i]`` is the eventfd that wakes hart i. The clock is frozen at 0.
    """

    def __init__(self, harts: int, ram_size: int, ram_base: int = RAM_BASE) -> None:
        if not 1 <= harts <= MAX_HARTS:
            raise ConfigError(f"harts: {harts} is not possible, 1..{MAX_HARTS} are")
        if ram_size <= 0 or ram_size % PAGE:
            raise ConfigError(f"memory: {ram_size} bytes is not a positive multiple of {PAGE}")
        self.harts, self.ram_base, self.ram_size = harts, ram_base, ram_size
        marks, table = state_segment_size(harts), MARK_SIZE * (ram_size // PAGE)
        check_room(ram_size + marks + 2 * table, f"a guest with {ram_size >> 20} MiB of RAM")
        self._ram = Segment("guest RAM", ram_size)
        self._state = Segment("machine state", marks + 2 * table)
        self.code_pages = MemoryFile("code-pages", harts * CODE_PAGES_SIZE)
        """All harts' CODE_PAGE structs."""
        self.ram_address, self.state_address = self._ram.address, self._state.address
        self.ram = memoryview(self._ram.map)[:ram_size]
        self.machine: Any = MACHINE.view(self._state.map)
        self.translator: Any = None
        """View of TRANSLATOR, if there is one (vcpu/translation.py)."""
        self._harts: list[Any] = [HART.view(self._state.map, hart_offset(i)) for i in range(harts)]
        self.wake_fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(harts)]
        machine = self.machine
        machine.harts, machine.hart0 = harts, self.hart_address(0)
        machine.ram, machine.ram_base, machine.ram_size = self.ram_address, ram_base, ram_size
        machine.page_marks = self.state_address + marks
        machine.page_dma = machine.page_marks + table
        machine.mark_patience = MARK_PATIENCE
        machine.clock_mode = CLOCK_FROZEN
        for i, hart in enumerate(self._harts):
            hart.hartid = i
            hart.machine = self.state_address
            hart.wake_fd = self.wake_fds[i]
            hart.lrsc_ack = (1 << 64) - 1  # idle

    def hart(self, index: int) -> Any:
        """The ctypes view of a hart's struct (layout.HART)."""
        return self._harts[index]

    def hart_address(self, index: int) -> int:
        """Host address of a hart's struct."""
        return self.state_address + hart_offset(index)

    def code_pages_address(self, index: int) -> int:
        """Host address of a hart's CODE_PAGE structs."""
        return self.code_pages.address + index * CODE_PAGES_SIZE

    def words(self, index: int) -> memoryview:
        """A hart's struct as u64 words: for reads and writes that must be one machine access (see channel.py)."""
        return memoryview(self._state.map)[hart_offset(index) : hart_offset(index) + HART.size].cast("Q")

    def contains(self, address: int, length: int = 1) -> bool:
        """Whether guest physical ``address .. address + length`` is all RAM."""
        return self.ram_base <= address and address + length <= self.ram_base + self.ram_size

    def read(self, address: int, length: int) -> bytes:
        """Guest RAM by physical address. ValueError outside it."""
        if not self.contains(address, length):
            raise ValueError(f"{address:#x}..{address + length:#x} is not RAM")
        start = address - self.ram_base
        return bytes(self.ram[start : start + length])

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write guest RAM by physical address. ValueError outside it. Only while no hart runs, or as DMA."""
        if not self.contains(address, len(data)):
            raise ValueError(f"{address:#x}..{address + len(data):#x} is not RAM")
        start = address - self.ram_base
        self.ram[start : start + len(data)] = data

    def reset_ram(self) -> None:
        """RAM all zeros again, as after power-on. Only while all harts are parked."""
        self._ram.zero()

    def reset_reservations(self) -> None:
        """Page marks and version words as at power-on. Only while all harts are parked, and no device writes."""
        pages, marks = self.ram_size // PAGE, state_segment_size(self.harts)
        self._state.map[marks : marks + MARK_SIZE * pages] = bytes(MARK_SIZE * pages)
        self.machine.marked_pages = 0
        self.machine.versions[:] = [0] * VERSION_WORDS

    def close(self) -> None:
        """Give back descriptors and, once no view is alive, the memory."""
        for fd in self.wake_fds:
            os.close(fd)
        self.wake_fds = []
        self.ram.release()
        del self.machine
        self._harts.clear()
        for segment in (self._ram, self._state, self.code_pages):
            segment.close()
