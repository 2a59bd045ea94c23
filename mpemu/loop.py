"""The coordinator's main loop: descriptors, timers, bottom halves, workers. One callback at a time, on asyncio.

Callbacks must not block: whatever blocks goes to a worker (:meth:`MainLoop.submit`). One that takes longer than
``slow_ms`` is reported by name. An exception out of a callback ends :meth:`MainLoop.run`, which raises it. With nothing
to do the process sleeps without any wake-up.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, TypeVar

from mpemu.notifier import Notifier
from mpemu.timerfd import TimerFd
from mpemu.timers import HostClock, RealtimeClock, TimerClock, VirtualClock
from mpemu.workers import WorkerPool

T = TypeVar("T")
Callback = Callable[[], None]


class BottomHalf:
    """Work put off until the loop comes around: however often it was scheduled by then, it runs once."""

    def __init__(self, loop: MainLoop, callback: Callback, name: str) -> None:
        self._loop, self._callback, self._name = loop, callback, name
        self._scheduled = False

    def schedule(self) -> None:
        """From the loop's thread; descriptors that are ready have their turn before a second run."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.asyncio.call_soon(self._run)

    def cancel(self) -> None:
        self._scheduled = False

    def _run(self) -> None:
        if self._scheduled:
            self._scheduled = False
            self._loop.call(self._name, self._callback)


class MainLoop:
    """``virtual`` is the machine's clock (timers.py); ``on_slow(name, ms)`` hears of callbacks over ``slow_ms``."""

    def __init__(
        self,
        virtual: VirtualClock | None = None,
        slow_ms: float = 100.0,
        on_slow: Callable[[str, float], None] = lambda name, ms: None,
    ) -> None:
        self.asyncio = asyncio.new_event_loop()
        self._slow_ns, self._on_slow = int(slow_ms * 1e6), on_slow
        self._failure: BaseException | None = None
        self._timer_fds: list[TimerFd] = []
        self._workers: WorkerPool | None = None
        self._signals: dict[signal.Signals, Any] = {}
        self.realtime, self.host, self.virtual = RealtimeClock(), HostClock(), virtual or VirtualClock()
        for clock in (self.realtime, self.host, self.virtual):
            self._attach(clock)

    # -- descriptors
    def add_reader(self, fd: int, callback: Callback, name: str = "") -> None:
        """Call ``callback`` whenever ``fd`` is readable. It may remove itself, and others, inside the call."""
        self.asyncio.add_reader(fd, self.call, name or _name(callback), callback)

    def remove_reader(self, fd: int) -> None:
        self.asyncio.remove_reader(fd)

    def add_writer(self, fd: int, callback: Callback, name: str = "") -> None:
        """Call ``callback`` whenever ``fd`` is writable."""
        self.asyncio.add_writer(fd, self.call, name or _name(callback), callback)

    def remove_writer(self, fd: int) -> None:
        self.asyncio.remove_writer(fd)

    def on_notify(self, notifier: Notifier, callback: Callback, name: str = "") -> None:
        """Call ``callback`` after ``notifier`` was rung, by whatever process or thread; many rings may be one call."""

        def answer() -> None:
            if notifier.clear():
                callback()

        self.add_reader(notifier.fileno(), answer, name or _name(callback))

    # -- later
    def bottom_half(self, callback: Callback, name: str = "") -> BottomHalf:
        return BottomHalf(self, callback, name or _name(callback))

    def call_soon(self, callback: Callback, name: str = "") -> None:
        """Call ``callback`` once when the loop comes around. From the loop's thread."""
        self.asyncio.call_soon(self.call, name or _name(callback), callback)

    def submit(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run ``work`` in a worker thread; then ``done`` with its result, or with what it raised, in the loop."""
        if self._workers is None:
            self._workers = WorkerPool()
            self.add_reader(self._workers.bell.fileno(), self._workers.complete, "completion of work")
        self._workers.submit(work, done)

    def on_signal(self, number: signal.Signals, callback: Callback) -> None:
        """Call ``callback`` in the loop when the process gets the signal, until :meth:`close`. Main thread only."""
        self._signals.setdefault(number, signal.getsignal(number))
        self.asyncio.add_signal_handler(number, self.call, number.name, callback)

    # -- running
    def call(self, name: str, callback: Callback) -> None:
        """Run a callback: all of them come through here."""
        began = monotonic_ns()
        try:
            callback()
        except BaseException as error:
            if self._failure is None:
                self._failure = error
            self.quit()
        took = monotonic_ns() - began
        if took > self._slow_ns:
            self._on_slow(name, took / 1e6)

    def run(self) -> None:
        """Until :meth:`quit`, or until a callback raises: then raise that."""
        if self._failure is None:
            self.asyncio.run_forever()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def quit(self) -> None:
        self.asyncio.stop()

    def close(self) -> None:
        """Wait for workers, then give back all descriptors of the loop (not those that were added to it)."""
        if self.asyncio.is_closed():
            return
        for number, before in self._signals.items():
            self.asyncio.remove_signal_handler(number)
            signal.signal(number, before)
        if self._workers is not None:
            self.asyncio.remove_reader(self._workers.bell.fileno())
            self._workers.close()
        for timer in self._timer_fds:
            self.asyncio.remove_reader(timer.fileno())
            timer.close()
        self.asyncio.close()

    # -- clocks
    def _attach(self, clock: TimerClock) -> None:
        """Let the clock's earliest deadline wake the loop. The descriptor is made when a timer is first armed."""
        made: TimerFd | None = None
        armed: int | None = None

        def fire() -> None:
            nonlocal armed
            assert made is not None
            made.clear()
            armed = None
            clock.run_due()

        def change() -> None:
            nonlocal made, armed
            wanted = clock.host_deadline()
            if made is None:
                if wanted is None:
                    return
                made = TimerFd(wanted[0])
                self._timer_fds.append(made)
                self.asyncio.add_reader(made.fileno(), self._fire, fire)
            deadline = None if wanted is None else wanted[1]
            if deadline != armed:
                armed = deadline
                made.arm(deadline)

        clock.on_change, clock.run = change, self.call

    def _fire(self, fire: Callback) -> None:
        fire()  # each timer's callback is watched by its own name


def _name(callback: Callable[..., Any]) -> str:
    return getattr(callback, "__qualname__", repr(callback))
