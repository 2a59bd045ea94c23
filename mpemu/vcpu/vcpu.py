"""The vCPU's side of a machine, common to both ways to execute: park, obey commands, pass far MMIO on.

A vCPU is *parked* from its start until the first Resume, and again from each raised ``stop`` line until the next one.
Commands are read while it is parked and at no other time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from mpemu.channel import VCpuPort
from mpemu.layout import HART
from mpemu.memory import MachineMemory
from mpemu.messages import NO_DEADLINE, Failed, MmioRead, MmioWrite, Parked, Quit, Reset, Resume
from mpemu.vcpu.exits import EXIT_DOCS, ExitReason
from mpemu.vcpu.protocol import Engine

ADDRESS, SIZE, WRITE, VALUE, LATCH = (
    HART.offset[name] // 8 for name in ("mmio_address", "mmio_size", "mmio_write", "mmio_value", "mmio_latch")
)
LATCH_VALUE, LATCH_BUS_ERROR = 1, 2
A2 = 12
FAILED_EXIT_CODE = 70
LONGEST_TEXT = 3000
"""Characters of a failure's text; the end of a traceback is the interesting part."""


class Leave(BaseException):
    """Ends the process with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class VCpu:
    """``engines`` run the harts ``harts`` of this process, in the same order."""

    def __init__(self, memory: MachineMemory, port: VCpuPort, engines: Sequence[Engine], harts: Sequence[int]) -> None:
        self.memory, self.port = memory, port
        self.engines, self.harts = list(engines), list(harts)
        self._words = [memory.words(hart) for hart in harts]
        self.deadline = NO_DEADLINE
        """Virtual ns of the devices' next timer; deterministic mode only."""

    def run(self) -> NoReturn:
        """Until :class:`Leave`."""
        raise NotImplementedError

    def park(self) -> None:
        """Tell the coordinator that nothing runs here, and obey it until it says Resume."""
        self.port.send(Parked())
        while True:
            command = self.port.receive()
            match command:
                case None:
                    self.port.wait()
                case Resume():
                    self.deadline = command.deadline
                    return
                case Reset():
                    self._reset(command)
                    self.port.send(Parked())
                case Quit():
                    raise Leave(0)
                case _:
                    self.fail(self.harts[0], f"{type(command).__name__} is no command")

    def _reset(self, command: Reset) -> None:
        engine = self.engines[self.harts.index(command.hart)]
        engine.reset(pc=command.pc, a0=command.a0, a1=command.a1)
        engine.hart.x[A2] = command.a2
        self.forget()

    def forget(self) -> None:
        """A hart was reset: drop what is known about it."""

    def far_mmio(self, index: int) -> None:
        """Have the coordinator do engine ``index``'s far access, and latch the reply for the same instruction."""
        words, hart = self._words[index], self.harts[index]
        if words[WRITE]:
            reply = self.port.call(MmioWrite(hart, words[ADDRESS], words[SIZE], words[VALUE]))
        else:
            reply = self.port.call(MmioRead(hart, words[ADDRESS], words[SIZE]))
        words[VALUE] = reply.value
        words[LATCH] = LATCH_BUS_ERROR if reply.error else LATCH_VALUE
        self.deadline = reply.deadline

    def fail(self, hart: int, text: str) -> NoReturn:
        """Report that this process can't go on, and leave."""
        self.port.send(Failed(hart, text[-LONGEST_TEXT:]))
        raise Leave(FAILED_EXIT_CODE)

    def unexpected(self, index: int, reason: ExitReason) -> NoReturn:
        """An exit that no run loop handles."""
        self.fail(self.harts[index], f"exit {reason.name}: {EXIT_DOCS[reason]}")


class ParallelVCpu(VCpu):
    """A process with one hart."""

    def run(self) -> NoReturn:
        run = self.engines[0].run
        self.park()
        while True:
            reason = run()
            if reason == ExitReason.MMIO:
                self.far_mmio(0)
            elif reason == ExitReason.STOP:
                self.park()
            elif reason != ExitReason.WFI and reason != ExitReason.KICK:
                self.unexpected(0, reason)
