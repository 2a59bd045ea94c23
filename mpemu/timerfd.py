"""Linux timerfd: absolute timers with ns deadlines as descriptors (timerfd_create(2)).

Python has them in ``os`` since 3.13; this covers the versions before.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_ABSTIME, _CANCEL_ON_SET = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class _Itimerspec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


class TimerFd:
    """A one-shot timer on ``clock_id`` (time.CLOCK_MONOTONIC or CLOCK_REALTIME).

    The descriptor is readable from the deadline on, never before it; with CLOCK_REALTIME also when somebody sets the
    host's clock, as the deadline may lie behind us then.
    """

    def __init__(self, clock_id: int) -> None:
        self._flags = _ABSTIME | (_CANCEL_ON_SET if clock_id == time.CLOCK_REALTIME else 0)
        self._fd: int = _libc.timerfd_create(clock_id, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            self._fail("timerfd_create")

    def _fail(self, call: str) -> None:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")

    def fileno(self) -> int:
        return self._fd

    def arm(self, deadline_ns: int | None) -> None:
        """Fire at ``deadline_ns`` of the clock (at once if that is past); None: don't."""
        spec = _Itimerspec()
        if deadline_ns is not None:
            spec.value_s, spec.value_ns = divmod(max(deadline_ns, 1), 1_000_000_000)  # 0 would disarm
        if _libc.timerfd_settime(self._fd, self._flags, ctypes.byref(spec), None) < 0:
            self._fail("timerfd_settime")

    def clear(self) -> None:
        """Not readable any more until it is armed again."""
        with suppress(BlockingIOError, OSError):  # ECANCELED: the host's clock was set
            os.read(self._fd, 8)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
