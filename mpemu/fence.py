"""Memory fences for Python code that shares memory with other processes.

CPython's stores to a memoryview of u64 are single aligned 8-byte moves. What others see of their order is the host's
affair, and there are two things to ask for:

- :func:`full_fence`: no access crosses it. "Announce sleep, then look again" against "publish, then look who sleeps"
  (Dekker) needs it on every host.
- :func:`order_fence`: the same, but a later load may overtake an earlier store. "Write, then say so" and "see that it
  is said, then read" need it.

x86-64 keeps all but the former by itself (TSO), so there order_fence does nothing. Its full_fence takes and releases a
lock nobody else uses, whose atomic compare-exchange is a LOCK-prefixed instruction, and those order all memory accesses
(Intel SDM vol. 3, 9.2.5). It costs less than 0.1 us; a system call would do too, but takes five times as long.

aarch64 promises nothing, and its compare-exchange is only an acquire: both are a function of machine code here,
`dmb ish` and `ret`, called through ctypes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import threading
from collections.abc import Callable

from mpemu.errors import HostError
from mpemu.shm import map_memory

__all__ = ["full_fence", "order_fence"]

_DMB_ISH, _RET = 0xD503_3BBF, 0xD65F_03C0

_lock = threading.Lock()
_acquire, _release = _lock.acquire, _lock.release


def _locked() -> None:
    if _acquire(False):
        _release()
    else:  # another thread, or the code that a signal handler interrupted, is in here
        threading.Lock().acquire()


def _nothing() -> None:
    pass


def machine_code(*words: int) -> Callable[[], object]:
    """A function of these instruction words, mapped read-execute for the life of the process. HostError."""
    try:
        fd = os.memfd_create("mpemu-fence", os.MFD_CLOEXEC)
        try:
            os.write(fd, b"".join(word.to_bytes(4, "little") for word in words))
            address = map_memory(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"this system does not let a program map code that it generated: {error}") from error
    return ctypes.PYFUNCTYPE(None)(address)


def fences(architecture: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """(full_fence, order_fence) of a host, as platform.machine() has it. HostError if there are none."""
    match architecture:
        case "x86_64":
            return _locked, _nothing
        case "aarch64":
            native = machine_code(_DMB_ISH, _RET)
            return native, native
    raise HostError(f"mpemu runs on x86-64 and aarch64 hosts, this one is {architecture}: it has no fences for it")


full_fence, order_fence = fences(platform.machine())
