"""A machine that runs: its vCPUs, its clock, its run state, and how it ends.

The board (board.py) makes the parts; this is their life. Devices, signals and the timeout only *request* something; it
happens when the loop comes around, with all harts parked. Reset and power-on are the same thing: RAM is cleared and
loaded anew, devices and harts go to their reset state.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Protocol

from mpemu.addresses import NS_PER_TICK
from mpemu.errors import InternalError, Interrupted, MpemuError, RunTimeout, Terminated, VCpuCrashed, guest_exit_code
from mpemu.loop import MainLoop
from mpemu.memory import CLOCK_FROZEN, CLOCK_RUNNING, CLOCK_VIRTUAL, MachineMemory
from mpemu.messages import NO_DEADLINE, Message, MmioRead, MmioWrite, Reply, TimersDue
from mpemu.report import hart_report
from mpemu.runstate import RunState, RunStates
from mpemu.statistics import MachineStatistics, gather
from mpemu.timers import SteppedClock
from mpemu.vcpu.pool import VCpuPool

STOP_PATIENCE_NS = 10_000_000_000
"""A hart that has not parked this long after it was asked to never will."""


class Access(Protocol):
    """Physical accesses outside RAM (devices/bus.py); ``errors`` are the exceptions that mean an access fault."""

    def read(self, address: int, size: int) -> int: ...
    def write(self, address: int, size: int, value: int) -> None: ...


class Resettable(Protocol):
    def reset(self) -> None: ...


@dataclass(frozen=True)
class Start:
    """Where the harts begin: a0 is the hart's number."""

    pc: int
    a1: int = 0
    a2: int = 0


@dataclass
class Parts:
    """What the board made. ``load()`` fills RAM, which is all zeros, and says where to start; again at each reset."""

    memory: MachineMemory
    pool: VCpuPool
    loop: MainLoop
    bus: Access
    bus_errors: tuple[type[Exception], ...]
    load: Callable[[], Start]
    devices: list[Resettable] = field(default_factory=list)


class Machine:
    """Use it as a context manager: on leaving, every process, descriptor and callback in ``closing`` is cleaned up."""

    def __init__(self, parts: Parts) -> None:
        self.memory, self.loop, self._parts = parts.memory, parts.loop, parts
        self.states = RunStates()
        self.closing = ExitStack()
        """Callbacks for the end, last in first out: the terminal's restoration, devices' close()."""
        self.crash_report = ""
        self._pool, self._bus, self._bus_errors = parts.pool, parts.bus, parts.bus_errors
        self._clock = parts.loop.virtual
        self._stepped = self._clock if isinstance(self._clock, SteppedClock) else None
        self._shutdown: int | None = None
        self._error: MpemuError | None = None
        self._reboot = self._pause = False
        self._then: list[Callable[[], None]] = []
        self._attend = self.loop.bottom_half(self._attend_requests, "requests of the machine")
        self._patience = self.loop.realtime.timer(self._out_of_patience, "harts that don't park")
        self._ran_ns = self._since = 0
        self._retired = [0] * self.memory.harts
        self._last_statistics: MachineStatistics | None = None
        self._freeze()
        self._pool.attach(self.loop, self._answer, self._all_parked, self._vcpu_failed)

    # -- requests, from anywhere in the loop
    def request_shutdown(self, code: int = 0) -> None:
        """End the machine; the first request's code counts. What the guest's power-off does."""
        if self._shutdown is None:
            self._shutdown = code
        self._attend.schedule()

    def request_reboot(self) -> None:
        self._reboot = True
        self._attend.schedule()

    def request_end(self, error: MpemuError) -> None:
        """End the machine, and have :meth:`run` raise ``error``. The second time: at once, without parking."""
        if self._error is not None:
            self.loop.quit()
        elif self._shutdown is None:
            self._error = error
            self.request_shutdown(error.exit_code)

    def pause(self, then: Callable[[], None] = lambda: None) -> None:
        """Stop all harts; ``then()`` is called when they are parked. :meth:`resume` goes on."""
        self._pause = True
        self._then.append(then)
        self._attend.schedule()

    def resume(self) -> None:
        """Go on after :meth:`pause`. Nothing if the machine isn't paused."""
        self._pause = False
        self._attend.schedule()

    # -- running
    def run(self, timeout_s: float | None = None, signals: bool = False) -> int:
        """Run until the machine ends, and give the process's exit code.

        Raises :class:`RunTimeout`, :class:`VCpuCrashed`, and with ``signals`` :class:`Interrupted` (SIGINT) and
        :class:`Terminated` (SIGTERM, SIGHUP), after the harts have been parked.
        """
        if signals:
            self.loop.on_signal(signal.SIGINT, lambda: self.request_end(Interrupted("interrupted")))
            hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)  # nohup
            for number in (signal.SIGTERM, *hang_up):
                self.loop.on_signal(number, lambda: self.request_end(Terminated("terminated by a signal")))
        if timeout_s is not None:
            timer = self.loop.realtime.timer(
                lambda: self.request_end(RunTimeout(f"the machine has not ended within {timeout_s:g} s")), "timeout"
            )
            timer.arm(monotonic_ns() + int(timeout_s * 1e9))
        self.loop.run()
        if self._error is not None:
            raise self._error
        return guest_exit_code(self._shutdown or 0)

    def statistics(self) -> MachineStatistics:
        """What the harts did so far; exact while they are parked, and at the end, also after :meth:`close`."""
        if self._last_statistics is not None:
            return self._last_statistics
        running = monotonic_ns() - self._since if self.states.now in (RunState.RUNNING, RunState.STOPPING) else 0
        return gather(self.memory, (self._ran_ns + running) / 1e9, self._retired)

    def ram_hash(self) -> str:
        """SHA-256 of guest RAM, in hex. While the harts are parked."""
        return hashlib.sha256(self.memory.ram).hexdigest()

    def close(self) -> None:
        """End the processes and give everything back; harmless the second time."""
        self._last_statistics = self.statistics()
        self._pool.close()
        self.closing.close()
        self.loop.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- run states
    def _attend_requests(self) -> None:
        """Bring the state a step further towards what is requested."""
        wanted = self._shutdown is not None or self._reboot
        match self.states.now:
            case RunState.RUNNING if wanted or self._pause:
                self.states.go(RunState.STOPPING)
                self._patience.arm(monotonic_ns() + STOP_PATIENCE_NS)
                self._pool.stop()
            case RunState.CREATED | RunState.PAUSED if self._pool.all_parked:
                self._attend_parked()
            case RunState.CREATED if self._shutdown is not None:  # don't wait for processes that have run nothing
                self.states.go(RunState.SHUTDOWN)
                self.loop.quit()

    def _all_parked(self) -> None:
        self._patience.cancel()
        match self.states.now:
            case RunState.STOPPING:
                self._freeze()
                self._ran_ns += monotonic_ns() - self._since
                self.states.go(RunState.PAUSED)
            case RunState.RESETTING:
                self.states.go(RunState.PAUSED)
            case RunState.CREATED:
                pass
            case _:
                return
        self._attend_parked()

    def _attend_parked(self) -> None:
        """Created or paused, with all harts parked: what now?"""
        if self._shutdown is not None:
            self.states.go(RunState.SHUTDOWN)
            self.loop.quit()
        elif self._reboot or self.states.now is RunState.CREATED:
            self._reset()
        elif self._pause:
            then, self._then = self._then, []
            for callback in then:
                callback()
        else:
            self._go()

    def _reset(self) -> None:
        """To the state after power-on; paused when the vCPUs have done their part."""
        self._reboot = False
        self.states.go(RunState.RESETTING)
        self._patience.arm(monotonic_ns() + STOP_PATIENCE_NS)
        for index in range(self.memory.harts):
            self._retired[index] += self.memory.hart(index).instret
            self.memory.hart(index).instret = 0
        for device in self._parts.devices:  # first: what they have in flight must not reach the new RAM
            device.reset()
        self.memory.reset_ram()
        self.memory.reset_reservations()
        start = self._parts.load()
        for index in range(self.memory.harts):
            self._pool.reset(index, start.pc, index, start.a1, start.a2)

    def _go(self) -> None:
        self._since = monotonic_ns()
        self._clock.start()
        machine = self.memory.machine
        if self._stepped:
            machine.clock_mode = CLOCK_VIRTUAL
        else:
            machine.clock_epoch = self._clock.epoch or 0
            machine.clock_mode = CLOCK_RUNNING
        self.states.go(RunState.RUNNING)
        self._pool.resume(self._deadline())

    def _freeze(self) -> None:
        """The machine's time stands still. In deterministic mode it does so by itself."""
        self._clock.stop()
        if not self._stepped:
            self.memory.machine.clock_value = self._clock.now() // NS_PER_TICK
            self.memory.machine.clock_mode = CLOCK_FROZEN

    def _out_of_patience(self) -> None:
        late = [h.harts[0] for h in self._pool.handles if not h.parked]
        if late:
            self._vcpu_failed(late[0], f"did not park within {STOP_PATIENCE_NS / 1e9:g} s")

    def _vcpu_failed(self, hart: int, why: str) -> None:
        """A vCPU process died or gave up: the end."""
        if self.states.ended:
            return
        self._ran_ns += monotonic_ns() - self._since if self._since else 0
        self.states.go(RunState.CRASHED)
        report = hart_report(self.memory, hart, why)
        self._error = VCpuCrashed(report.partition("\n")[0], report)
        self.loop.quit()

    # -- requests of vCPUs
    def _deadline(self) -> int:
        return self._stepped.next_deadline() if self._stepped else NO_DEADLINE

    def _answer(self, message: Message) -> Reply:
        """Carry out a request. What it made a device ask for is begun before the reply, so that the hart which powers
        the machine off executes nothing more, and every run with the same seed ends at the same instruction."""
        value, error = 0, False
        match message:
            case MmioRead() | MmioWrite():
                try:
                    value = self._access(message)
                except self._bus_errors:
                    error = True
                except Exception as failure:
                    raise self._device_bug(message, failure) from failure
            case TimersDue() if self._stepped:
                self._stepped.advance(message.now)
            case _:
                raise InternalError(f"a vCPU sent {type(message).__name__}, which nobody answers")
        if self._shutdown is not None or self._reboot:
            self._attend_requests()
        return Reply(value, error, self._deadline())

    def _access(self, message: MmioRead | MmioWrite) -> int:
        if isinstance(message, MmioRead):
            return self._bus.read(message.address, message.size)
        self._bus.write(message.address, message.size, message.value)
        return 0

    @staticmethod
    def _device_bug(message: MmioRead | MmioWrite, error: Exception) -> InternalError:
        kind = "load" if isinstance(message, MmioRead) else "store"
        return InternalError(
            f"the device model at {message.address:#x} failed on a {kind} of {message.size} bytes by hart "
            f"{message.hart}: {type(error).__name__}: {error}"
        )
