"""Machines of fake engines, for tests."""

from __future__ import annotations

from collections.abc import Callable

from mpemu.loop import MainLoop
from mpemu.machine import Machine, Parts, Start
from mpemu.memory import MachineMemory
from mpemu.timers import SteppedClock
from mpemu.vcpu.pool import VCpuPool
from tests.vcpu.fake_engine import FakeEngine, Program

POWER, REBOOT, COUNTER = 0x10_0000, 0x10_0004, 0x20_0000
MIB = 1 << 20


class NothingThere(Exception):
    pass


class FakeBus:
    """POWER ends the machine with the stored code, REBOOT reboots, COUNTER counts its loads; the rest isn't there."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.log: list[tuple[int, int]] = []
        self.count = self.resets = 0

    def read(self, address: int, size: int) -> int:
        if address == COUNTER:
            self.count += 1
            return self.count
        if address == COUNTER + 4:
            raise RuntimeError("a bug in a device")
        raise NothingThere

    def write(self, address: int, size: int, value: int) -> None:
        assert self.machine is not None
        self.log.append((address, value))
        if address == POWER:
            self.machine.request_shutdown(value)
        elif address == REBOOT:
            self.machine.request_reboot()
        elif address != COUNTER:
            raise NothingThere

    def reset(self) -> None:
        self.resets += 1


def build(
    program: Program,
    harts: int = 2,
    deterministic: bool = False,
    seed: int = 0,
    quantum: int = 1000,
    load: Callable[[MachineMemory], None] = lambda memory: None,
) -> tuple[Machine, FakeBus]:
    memory = MachineMemory(harts, MIB)
    pool = VCpuPool(memory, lambda memory, i: FakeEngine(memory, i, program), deterministic, seed, quantum)
    pool.start()
    loop = MainLoop(SteppedClock() if deterministic else None)
    bus = FakeBus()

    def load_all() -> Start:
        load(memory)
        return Start(memory.ram_base, 0x1111, 0x2222)

    machine = Machine(Parts(memory, pool, loop, bus, (NothingThere,), load_all, [bus]))
    bus.machine = machine
    return machine, bus
