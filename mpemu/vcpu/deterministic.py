"""Deterministic execution: one process runs all harts in turn, on a clock made of retired instructions.

Who comes next and for how many instructions follows from the seed alone. Time passes as if the harts that are awake ran
side by side: a turn of n ns among k harts advances the clock by n/k. A turn takes 1 ns per instruction, and 1 us for
each far MMIO access: a driver that polls a device until a time-out should not do so a million times. A hart that spins
on another one, or on the clock (PAUSE), gives its turn away; that turn takes at least 1 us.

When all harts wait, the clock jumps to the next deadline (a hart's timer or a device's); without any, the process
sleeps until the coordinator raises a line, which is the one thing that isn't repeatable (console input). Virtual time
passes the devices' next deadline only between two turns, and there the coordinator runs their timers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NoReturn

from mpemu.addresses import NS_PER_TICK
from mpemu.channel import VCpuPort
from mpemu.fence import full_fence
from mpemu.layout import LINES
from mpemu.memory import MachineMemory
from mpemu.messages import NO_DEADLINE, TimersDue
from mpemu.vcpu.exits import ExitReason
from mpemu.vcpu.protocol import Engine
from mpemu.vcpu.vcpu import VCpu

DEFAULT_QUANTUM = 20_000
MMIO_NS = SPIN_NS = 1_000

# mip bits of the interrupt lines (privileged spec, 3.1.9); kick and stop end a wait whatever mie says.
MIP_BIT = {"ssip": 1, "msip": 3, "stip": 5, "mtip": 7, "seip": 9, "meip": 11}
_STOP = LINES.index("stop")


class DeterministicVCpu(VCpu):
    """``quantum`` is the mean length of a turn in instructions; lengths vary between its half and one and a half."""

    def __init__(
        self,
        memory: MachineMemory,
        port: VCpuPort,
        engines: Sequence[Engine],
        harts: Sequence[int],
        seed: int = 0,
        quantum: int = DEFAULT_QUANTUM,
    ) -> None:
        super().__init__(memory, port, engines, harts)
        self._seed, self._quantum, self._boots = seed, quantum, 0
        self._now = self._fraction = 0
        self.forget()

    def forget(self) -> None:
        """A reset begins anew with the seed; time goes on."""
        self._boots += 1
        self._random = random.Random(self._seed)
        self._waiting = [False] * len(self.engines)

    def run(self) -> NoReturn:
        self.park()
        while True:
            awake = [i for i in range(len(self.engines)) if self._awake(i)]
            if not awake:
                self._idle()
                continue
            self._random.shuffle(awake)
            for index in awake:
                if not self._turn(index, len(awake)):
                    break

    # -- running
    def _turn(self, index: int, awake: int) -> bool:
        """Let one hart run its quantum, or until it waits. False: the harts were reset meanwhile, begin again."""
        engine, boots = self.engines[index], self._boots
        hart = engine.hart
        began = hart.instret
        end = hart.quantum_end = began + self._random.randint(self._quantum // 2, self._quantum * 3 // 2)
        hart.slice_end = min(hart.slice_end, hart.quantum_end)
        self._waiting[index] = False
        extra = 0
        while True:
            reason = engine.run()
            if reason == ExitReason.QUANTUM:
                if hart.quantum_end < end:  # native code moved it: the hart spins
                    extra += max(0, SPIN_NS - (hart.instret - began))
                break
            if reason == ExitReason.MMIO:
                self.far_mmio(index)
                extra += MMIO_NS
            elif reason == ExitReason.WFI:
                self._waiting[index] = True
                break
            elif reason == ExitReason.STOP:
                self.park()
                if self._boots != boots:
                    return False
            elif reason != ExitReason.KICK:
                self.unexpected(index, reason)
        ns, self._fraction = divmod(hart.instret - began + extra + self._fraction, awake)
        self._advance(self._now + ns)
        return True

    def _awake(self, index: int) -> bool:
        """Whether a hart has something to do: not in WFI, or what it waited for is there (privileged spec, 3.3.3)."""
        if not self._waiting[index]:
            return True
        hart = self.engines[index].hart
        lines = hart.lines
        if lines[_STOP] or self.memory.machine.clock_value >= hart.deadline:
            return True
        pending = hart.mip
        for position, name in enumerate(LINES):
            if lines[position] and name in MIP_BIT:
                pending |= 1 << MIP_BIT[name]
        return bool(pending & hart.mie)

    # -- time
    def _advance(self, now: int) -> None:
        """It is ``now``; the devices' timers that are due run before any hart does."""
        self._now = now
        self.memory.machine.clock_value = now // NS_PER_TICK
        while self._now >= self.deadline:
            self.deadline = self.port.call(TimersDue(self._now)).deadline

    def _idle(self) -> None:
        """All harts wait: go on at the next deadline, or sleep until somebody raises a line."""
        ticks = min(engine.hart.deadline for engine in self.engines)
        next_timer = NO_DEADLINE if ticks >= NO_DEADLINE // NS_PER_TICK else ticks * NS_PER_TICK
        following = min(next_timer, self.deadline)
        if following != NO_DEADLINE:
            self._advance(max(self._now, following))
            return
        for engine in self.engines:
            engine.hart.asleep = 1
        full_fence()
        if not any(self._awake(i) for i in range(len(self.engines))):
            self.port.wait()
        for engine in self.engines:
            engine.hart.asleep = 0
