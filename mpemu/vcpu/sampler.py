"""Has the kernel interrupt this vCPU process whenever it has used so much CPU time: see mpemu/codegen/sampler.py.

The kernel looks at such timers at its clock ticks, so there are at most some 250 to 1,000 samples per second of CPU
time (its CONFIG_HZ), whatever the period. A hart that sleeps is not sampled.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable

_SA_SIGINFO, _SA_RESTART = 4, 0x1000_0000
_CLOCK_THREAD_CPUTIME_ID = 3
_SIGEV_THREAD_ID = 4

RUNNING = ctypes.c_uint64()
"""Host address of the HART that this process runs, 0 before it has run any."""


class _SigAction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_uint64),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_uint64),
    )


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_uint64),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


def start_sampling(handler: int, period_ns: int) -> Callable[[], None]:
    """Call the signal handler at address ``handler`` after each ``period_ns`` of this thread's CPU time, until the
    result is called. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timer_create"):  # glibc before 2.34
        libc = ctypes.CDLL("librt.so.1", use_errno=True)
    action = _SigAction(handler, flags=_SA_SIGINFO | _SA_RESTART)
    event = _SigEvent(ctypes.addressof(RUNNING), signal.SIGPROF, _SIGEV_THREAD_ID, threading.get_native_id())
    timer = ctypes.c_void_p()
    interval = (ctypes.c_long * 4)(*divmod(period_ns, 10**9) * 2)  # struct itimerspec: interval, value
    failed = (
        libc.sigaction(signal.SIGPROF, ctypes.byref(action), None)
        or libc.timer_create(_CLOCK_THREAD_CPUTIME_ID, ctypes.byref(event), ctypes.byref(timer))
        or libc.timer_settime(timer, 0, interval, None)
    )
    if failed:
        raise OSError(ctypes.get_errno(), "harts can't be sampled")
    return lambda: libc.timer_delete(timer) and None
