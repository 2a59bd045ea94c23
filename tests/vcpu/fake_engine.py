"""An engine without native code: a hart's program is a Python generator. It keeps the contract of vcpu/protocol.py."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from mpemu.layout import LINES
from mpemu.memory import CLOCK_VIRTUAL, MachineMemory
from mpemu.vcpu.exits import ExitReason

STOP = LINES.index("stop")


@dataclass(frozen=True)
class Load:
    """Yields the value, or None for a bus error."""

    address: int
    size: int = 4


@dataclass(frozen=True)
class Store:
    address: int
    value: int
    size: int = 4


@dataclass(frozen=True)
class Work:
    """Retire this many instructions."""

    count: int = 1


@dataclass(frozen=True)
class Wait:
    """WFI."""


@dataclass(frozen=True)
class Spin:
    """PAUSE in a spin loop: gives a deterministic turn away."""


@dataclass(frozen=True)
class Exit:
    """Leave with this reason."""

    reason: ExitReason


Action = Load | Store | Work | Wait | Spin | Exit
Program = Callable[["FakeEngine"], Generator[Action, Any, None]]


class FakeEngine:
    def __init__(self, memory: MachineMemory, index: int, program: Program) -> None:
        self.memory, self.index, self.program = memory, index, program
        self.hart = memory.hart(index)
        self._steps: Generator[Action, Any, None] | None = None
        self._pending: Action | None = None

    def reset(self, *, pc: int, a0: int, a1: int) -> None:
        hart = self.hart
        hart.pc, hart.priv, hart.satp = pc, 3, 0
        hart.x[10], hart.x[11] = a0, a1
        hart.instret = hart.slice_end = hart.mmio_latch = 0
        hart.quantum_end = hart.deadline = (1 << 64) - 1
        for line in range(STOP):
            hart.lines[line] = 0
        self._steps, self._pending = self.program(self), None

    def run(self) -> ExitReason:
        reason = self._run()
        self.hart.exits[reason] += 1
        self.hart.exit_reason = reason
        return reason

    def _run(self) -> ExitReason:
        hart = self.hart
        assert self._steps is not None, "run before reset"
        while True:
            if hart.lines[STOP]:
                return ExitReason.STOP
            if hart.instret >= hart.quantum_end:
                return ExitReason.QUANTUM
            result: object = None
            match self._pending:
                case Load() if hart.mmio_latch:
                    result = hart.mmio_value if hart.mmio_latch == 1 else None
                    hart.mmio_latch, self._pending = 0, None
                case Store() if hart.mmio_latch:
                    hart.mmio_latch, self._pending = 0, None
            if self._pending is None:
                hart.instret += 1
                try:
                    self._pending = self._steps.send(result)
                except StopIteration:
                    self._pending = Wait()
                    self._steps = forever(self)
                    next(self._steps)
            match self._pending:
                case Load() as load:
                    hart.mmio_address, hart.mmio_size, hart.mmio_write = load.address, load.size, 0
                    return ExitReason.MMIO
                case Store() as store:
                    hart.mmio_address, hart.mmio_size, hart.mmio_write = store.address, store.size, 1
                    hart.mmio_value = store.value
                    return ExitReason.MMIO
                case Work(count):
                    hart.instret += count - 1
                    self._pending = None
                case Spin():
                    hart.quantum_end = hart.instret
                    self._pending = None
                case Exit(reason):
                    self._pending = None
                    return reason
                case Wait():
                    self._pending = None
                    if not any(hart.lines) and self.memory.machine.clock_mode != CLOCK_VIRTUAL:
                        self._sleep()
                    return ExitReason.WFI

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self.memory.wake_fds[self.index], select.POLLIN)
        while not any(self.hart.lines):
            poll.poll()
            os.eventfd_read(self.memory.wake_fds[self.index])


def forever(engine: FakeEngine) -> Generator[Action, Any, None]:
    """Wait for interrupts."""
    while True:
        yield Wait()


def busy(engine: FakeEngine) -> Generator[Action, Any, None]:
    """1: j 1b"""
    while True:
        yield Work()
        time.sleep(0)  # be nice to the test's machine
