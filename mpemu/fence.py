"""A full memory fence for Python code that shares memory with other processes.

CPython's stores to a memoryview of u64 are single aligned 8-byte moves. x86-64 keeps them in order (TSO) with one
exception: a load may overtake an older store of the same processor. That is just what a sleeper and its waker must not
allow (Dekker): "announce sleep, then look again" against "publish, then look who sleeps". :func:`full_fence` stands
between the two: it takes and releases a lock nobody else uses, whose atomic compare-exchange is a LOCK-prefixed
instruction on x86, and those order all memory accesses (Intel SDM vol. 3, 9.2.5). It costs less than 0.1 us; a system
call would do too, but takes five times as long.

Elsewhere (aarch64 is not TSO, and its compare-exchange is only an acquire) both the stores and the fence need a native
helper; until there is one, importing this module on another machine is an error rather than a lost wake-up.
"""

from __future__ import annotations

import platform
import threading

from mpemu.errors import HostError

if platform.machine() not in ("x86_64", "AMD64"):
    raise HostError(f"mpemu runs on x86-64 hosts only so far, this one is {platform.machine()}: it has no fence for it")

_lock = threading.Lock()
_acquire, _release = _lock.acquire, _lock.release


def full_fence() -> None:
    """No memory access of this thread crosses this point, in either direction."""
    if _acquire(False):
        _release()
    else:  # another thread, or the code that a signal handler interrupted, is in here
        threading.Lock().acquire()
