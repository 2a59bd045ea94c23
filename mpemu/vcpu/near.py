"""The coordinator's hand in the near devices: the same native code that vCPUs run, called from Python."""

from __future__ import annotations

import ctypes
from typing import Any

from mpemu.layout import HART, LINES, MAX_HARTS, UART_RING
from mpemu.memory import MachineMemory
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.engine import host_table
from mpemu.vcpu.exits import OK, TRAP


class AccessFault(Exception):
    """The guest would take an access fault."""


class NearDevices:
    """Interrupt lines into PLIC and harts, virtio interrupts, what devices write to RAM. Never blocks on a hart, but
    may wait for a short lock. For the coordinator's main thread, but for :meth:`dma_ends`."""

    def __init__(self, blob: Blob, memory: MachineMemory) -> None:
        self._blob = blob  # whose mapping the routines are in
        # Native routines take a hart; outside vCPUs it is this private one, which owns locks under a number of its own.
        self._self: Any = HART.ctype()
        self._address = ctypes.addressof(self._self)
        self._host = host_table()
        self._self.host = ctypes.addressof(self._host)
        self._self.machine = memory.state_address
        self._self.hartid = MAX_HARTS
        self._memory = memory
        self._set_level = blob.routine("plic_set_level", 2)
        self._raise_line = blob.routine("raise_line", 3)
        self._virtio_interrupt = blob.routine("virtio_interrupt", 2)
        self._virtio_acknowledge = blob.routine("virtio_acknowledge", 2)
        self._dma_begins = blob.routine("dma_begins", 2)
        self._dma_ends = blob.routine("dma_ends", 2)
        self._device_load = blob.checked_routine("device_load", 3)
        self._device_store = blob.checked_routine("device_store", 4)
        self._uart_reset = blob.routine("uart_reset", 0)
        self._uart_take = blob.routine("uart_take", 2)
        self._uart_room = blob.routine("uart_room", 0)
        self._uart_receive = blob.routine("uart_receive", 2)
        self._buffer = ctypes.create_string_buffer(UART_RING)
        self._buffer_address = ctypes.addressof(self._buffer)

    def set_irq(self, source: int, level: int) -> None:
        """PLIC input line ``source`` (1..95)."""
        self._set_level(self._address, source, level)

    def set_line(self, hart: int, line: str, level: int) -> None:
        """A byte of the hart's ``lines`` (layout.LINES); raising one wakes the hart."""
        self._raise_line(self._address, hart, LINES.index(line), level)

    def virtio_interrupt(self, slot: int, bits: int) -> None:
        """Set bits of the slot's InterruptStatus and raise its line."""
        self._virtio_interrupt(self._address, slot, bits)

    def virtio_ack(self, slot: int, bits: int) -> None:
        """Clear bits of the slot's InterruptStatus; the line falls when none is left. For the reset of a device."""
        self._virtio_acknowledge(self._address, slot, bits)

    def dma_begins(self, address: int, length: int) -> None:
        """Guest memory at guest physical ``address`` is about to be written: LR reservations there end, and there are
        no new ones on these pages until :meth:`dma_ends`. What is not RAM of this doesn't matter."""
        start, end = self._in_ram(address, length)
        if start < end:
            self._dma_begins(self._address, start, end - start)

    def dma_ends(self, address: int, length: int) -> None:
        """All is written that dma_begins, with the same arguments, has announced. In any thread."""
        start, end = self._in_ram(address, length)
        if start < end:
            self._dma_ends(self._address, start, end - start)

    def _in_ram(self, address: int, length: int) -> tuple[int, int]:
        """Start and end, as offsets in RAM, of the part that lies there."""
        memory = self._memory
        return max(address - memory.ram_base, 0), min(address + length - memory.ram_base, memory.ram_size)

    # -- registers
    def load(self, address: int, size: int) -> int:
        """A hart's load of ``size`` bytes from a near device. AccessFault; ValueError if no near device has them."""
        outcome = self._device_load(self._address, address, size, address)
        if outcome.status == TRAP:
            raise AccessFault(f"load of {size} bytes at {address:#x}")
        if outcome.status != OK:
            raise ValueError(f"{address:#x} is no near register")
        return int(outcome.value) & ((1 << 8 * size) - 1)

    def store(self, address: int, size: int, value: int) -> bool:
        """A hart's store to a near device. False: nothing was done, this one is up to the bus. AccessFault."""
        outcome = self._device_store(self._address, address, value, size, address)
        if outcome.status == TRAP:
            raise AccessFault(f"store of {size} bytes at {address:#x}")
        return bool(outcome.status == OK)

    # -- UART
    def uart_reset(self) -> None:
        """The chip's registers and FIFO as after power-on; what is in the rings stays."""
        self._uart_reset(self._address)

    def uart_take(self, free: bool) -> bytes:
        """The output so far. The doorbell rings at the next character; ``free``: the guest has the room again."""
        count = self._uart_take(self._address, self._buffer_address, int(free))
        return ctypes.string_at(self._buffer_address, count)

    def uart_room(self) -> int:
        """How many characters uart_receive takes now. 0: the doorbell rings when that has changed."""
        return self._uart_room(self._address)

    def uart_receive(self, data: bytes) -> None:
        """Input for the guest, for which there is room."""
        if len(data) > UART_RING:
            raise ValueError(f"{len(data)} characters for a ring of {UART_RING}")
        ctypes.memmove(self._buffer_address, data, len(data))
        self._uart_receive(self._address, self._buffer_address, len(data))
