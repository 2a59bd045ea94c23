"""A machine around a single device, for register-level tests: RAM, near state, a loop that runs when told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mpemu.devices.device import DeviceContext
from mpemu.layout import HART, MACHINE
from mpemu.timers import SteppedClock

RAM_BASE = 0x8000_0000


class FakeBottomHalf:
    def __init__(self, loop: FakeLoop, callback: Callable[[], None]) -> None:
        self.loop, self.callback = loop, callback

    def schedule(self) -> None:
        if self not in self.loop.halves:
            self.loop.halves.append(self)


class FakeLoop:
    """Bottom halves and workers run in :meth:`turn`."""

    def __init__(self) -> None:
        self.halves: list[FakeBottomHalf] = []
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def bottom_half(self, callback: Callable[[], None]) -> FakeBottomHalf:
        return FakeBottomHalf(self, callback)

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((work, done))

    def turn(self) -> None:
        """What is due now; what that schedules waits for the next turn."""
        halves, self.halves = self.halves, []
        jobs, self.jobs = self.jobs, []
        for half in halves:
            half.callback()
        for work, done in jobs:
            try:
                result = work()
            except Exception as error:
                result = error
            done(result)

    def settle(self, turns: int = 1000) -> None:
        for _ in range(turns):
            if not self.halves and not self.jobs:
                return
            self.turn()
        raise AssertionError("the loop never becomes idle")

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_reader(self, fd: int) -> None: ...
    def add_writer(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_writer(self, fd: int) -> None: ...


class FakeMemory:
    def __init__(self, size: int = 1 << 16, harts: int = 2) -> None:
        self.ram = memoryview(bytearray(size))
        self.ram_base, self.ram_size, self.harts = RAM_BASE, size, harts
        self.machine: Any = MACHINE.ctype()
        self._harts = [HART.ctype() for _ in range(harts)]

    def hart(self, index: int) -> Any:
        return self._harts[index]


@dataclass
class FakeNear:
    isr: Any
    levels: dict[int, int] = field(default_factory=dict)
    dma: list[tuple[int, int]] = field(default_factory=list)
    """What devices have announced to write ..."""
    writing: Counter[tuple[int, int]] = field(default_factory=Counter)
    """... and of that what they have not written yet."""

    def set_irq(self, source: int, level: int) -> None:
        self.levels[source] = level

    def virtio_interrupt(self, slot: int, bits: int) -> None:
        self.isr[slot] |= bits
        self.levels[1 + slot] = 1

    def virtio_ack(self, slot: int, bits: int) -> None:
        self.isr[slot] &= ~bits
        self.levels[1 + slot] = int(bool(self.isr[slot]))

    def store(self, address: int, size: int, value: int) -> bool:
        raise NotImplementedError("near registers need native code")

    def uart_reset(self) -> None: ...

    def uart_take(self, free: bool) -> bytes:
        return b""

    def uart_room(self) -> int:
        return 0

    def uart_receive(self, data: bytes) -> None: ...

    def dma_begins(self, address: int, length: int) -> None:
        self.dma.append((address, length))
        self.writing[address, length] += 1

    def dma_ends(self, address: int, length: int) -> None:
        assert self.writing[address, length] > 0
        self.writing[address, length] -= 1


class FakeMachine:
    """``context`` for a device, and what it asked for: ``shutdowns``, ``reboots``, ``warnings``."""

    def __init__(self, deterministic: bool = False) -> None:
        self.loop, self.memory = FakeLoop(), FakeMemory()
        self.near = FakeNear(self.memory.machine.virtio_isr)
        self.clock = SteppedClock()
        self.shutdowns: list[int] = []
        self.reboots = 0
        self.warnings: list[str] = []
        self.context = DeviceContext(
            loop=self.loop,
            memory=self.memory,
            near=self.near,
            request_shutdown=self.shutdowns.append,
            request_reboot=self._reboot,
            clock=self.clock.now,
            timer=self.clock.timer,
            random=lambda n: bytes(i & 0xFF for i in range(1, n + 1)),
            deterministic=deterministic,
            warn=self.warnings.append,
        )

    def _reboot(self) -> None:
        self.reboots += 1
