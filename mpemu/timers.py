"""Timers of the coordinator, per clock.

``RealtimeClock`` is the host's monotonic time, ``HostClock`` its wall clock (ns since 1970), ``VirtualClock`` the
machine's own time, which stands still while the machine is stopped and, in deterministic mode, is stepped by the vCPUs.
A timer never fires before its deadline, and a periodic one that arms itself from its last deadline doesn't drift.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

from mpemu.messages import NO_DEADLINE


class Timer:
    """A one-shot timer; made by :meth:`TimerClock.timer`. ``deadline`` is None while it isn't armed."""

    def __init__(self, clock: TimerClock, callback: Callable[[], None], name: str) -> None:
        self._clock, self.callback, self.name = clock, callback, name
        self.deadline: int | None = None
        self.ticket = 0

    def arm(self, deadline_ns: int) -> None:
        """Fire once at or after ``deadline_ns`` of the clock; replaces an earlier deadline."""
        self._clock.enter(self, deadline_ns)

    def cancel(self) -> None:
        """Don't fire."""
        if self.deadline is not None:
            self.deadline = None
            self._clock.changed()


class TimerClock:
    """A clock with timers. ``on_change`` is called whenever the earliest deadline may be another one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._tickets = count(1)
        self.on_change: Callable[[], None] = lambda: None
        self.run: Callable[[str, Callable[[], None]], None] = lambda name, callback: callback()
        """How callbacks are called; the loop puts its watchdog here."""

    def now(self) -> int:
        """Time in ns."""
        raise NotImplementedError

    def timer(self, callback: Callable[[], None], name: str = "") -> Timer:
        return Timer(self, callback, name or getattr(callback, "__qualname__", repr(callback)))

    def enter(self, timer: Timer, deadline_ns: int) -> None:
        timer.deadline, timer.ticket = deadline_ns, next(self._tickets)
        heapq.heappush(self._heap, (deadline_ns, timer.ticket, timer))
        self.changed()

    def changed(self) -> None:
        """Drop cancelled entries at the front and tell who waits for the earliest."""
        heap = self._heap
        while heap and (heap[0][2].deadline is None or heap[0][2].ticket != heap[0][1]):
            heapq.heappop(heap)
        self.on_change()

    def earliest(self) -> int | None:
        """The earliest deadline, or None."""
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Call the callbacks whose time has come, earliest first. Those they arm have their turn the next time."""
        now, last = self.now(), next(self._tickets)
        heap, due = self._heap, []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        for deadline, ticket, timer in due:
            if timer.deadline == deadline and timer.ticket == ticket < last:  # else cancelled or armed anew meanwhile
                timer.deadline = None
                self.run(timer.name, timer.callback)
        self.changed()

    def host_deadline(self) -> tuple[int, int] | None:
        """(time.CLOCK_..., ns): when the host should call :meth:`run_due`; None: not by time."""
        raise NotImplementedError


class RealtimeClock(TimerClock):
    def now(self) -> int:
        return time.monotonic_ns()

    def host_deadline(self) -> tuple[int, int] | None:
        earliest = self.earliest()
        return None if earliest is None else (time.CLOCK_MONOTONIC, earliest)


class HostClock(TimerClock):
    def now(self) -> int:
        return time.time_ns()

    def host_deadline(self) -> tuple[int, int] | None:
        earliest = self.earliest()
        return None if earliest is None else (time.CLOCK_REALTIME, earliest)


class VirtualClock(TimerClock):
    """The machine's time in ns, from 0 at its start: runs between :meth:`start` and :meth:`stop`."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch: int | None = None
        self._frozen = 0

    @property
    def epoch(self) -> int | None:
        """CLOCK_MONOTONIC ns at virtual time 0, or None while stopped."""
        return self._epoch

    def now(self) -> int:
        return self._frozen if self._epoch is None else time.monotonic_ns() - self._epoch

    def start(self) -> None:
        if self._epoch is None:
            self._epoch = time.monotonic_ns() - self._frozen
            self.on_change()

    def stop(self) -> None:
        if self._epoch is not None:
            self._frozen, self._epoch = self.now(), None
            self.on_change()

    def host_deadline(self) -> tuple[int, int] | None:
        earliest = self.earliest()
        if earliest is None or self._epoch is None:
            return None
        return time.CLOCK_MONOTONIC, self._epoch + earliest


class SteppedClock(VirtualClock):
    """Deterministic mode: time is what the run loop says it is."""

    def now(self) -> int:
        return self._frozen

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def host_deadline(self) -> tuple[int, int] | None:
        return None

    def advance(self, now: int) -> None:
        """It is ``now`` (never earlier than before): run what is due, also what callbacks arm for this very moment."""
        self._frozen = max(self._frozen, now)
        while (earliest := self.earliest()) is not None and earliest <= self._frozen:
            self.run_due()

    def next_deadline(self) -> int:
        """The earliest deadline for a message: NO_DEADLINE if there is none."""
        earliest = self.earliest()
        return NO_DEADLINE if earliest is None else earliest
