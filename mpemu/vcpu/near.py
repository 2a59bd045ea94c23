"""The coordinator's hand in the near devices: the same native code that vCPUs run, called from Python."""

from __future__ import annotations

import ctypes
from typing import Any

from mpemu.layout import HART, LINES, MAX_HARTS
from mpemu.memory import MachineMemory
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.engine import host_table


class NearDevices:
    """Interrupt lines into PLIC and harts, virtio interrupts, and the end of DMA. Callable from any thread's context
    that may wait for a short lock; never blocks on a hart."""

    def __init__(self, blob: Blob, memory: MachineMemory) -> None:
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
        self._dma_written = blob.routine("dma_written", 2)
        self._device_load = blob.routine("device_load", 3)

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

    def dma_written(self, address: int, length: int) -> None:
        """Guest memory was written at guest physical ``address``: LR reservations there end. What is not RAM of this
        doesn't matter: a guest may have moved a queue's registers since the write."""
        memory = self._memory
        start = max(address - memory.ram_base, 0)
        end = min(address + length - memory.ram_base, memory.ram_size)
        if start < end:
            self._dma_written(self._address, start, end - start)
