"""A POSIX shared-memory segment that has no name for longer than two system calls.

The coordinator creates a segment, unlinks its name at once and only then gives it a size: whenever the process is
killed, at worst an empty name stays behind, never memory. vCPU processes inherit the mapping through fork, so nobody
ever needs the name. Names are made with O_EXCL from random bytes: two machines don't meet.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
from contextlib import suppress

import posix_ipc  # type: ignore[import-not-found]

from mpemu.errors import SharedMemoryError

SHM_DIRECTORY = "/dev/shm"
NAME_PREFIX = "/mpemu-"
PAGE = mmap.PAGESIZE


def check_room(size: int, purpose: str, directory: str = SHM_DIRECTORY) -> None:
    """Raise :class:`SharedMemoryError` if ``size`` bytes don't fit in the file system of the segments.

    A segment's pages are only taken when they are touched, and touching one that isn't there is a SIGBUS in whoever
    does: so this is asked beforehand.
    """
    try:
        host = os.statvfs(directory)
    except OSError as error:
        raise SharedMemoryError(f"{directory}: {error.strerror}: POSIX shared memory needs a tmpfs there") from None
    free = host.f_bavail * host.f_frsize
    if host.f_blocks and size > free:  # f_blocks 0: a tmpfs without a limit
        raise SharedMemoryError(
            f"{purpose} needs {_mib(size)} MiB of shared memory, but {directory} has {_mib(free)} MiB free: give the "
            f"guest less memory (memory: in the config, --memory), or enlarge it (mount -o remount,size=4G {directory} "
            "or, in a container, --shm-size=4g)"
        )


def _mib(size: int) -> int:
    return -(-size // (1 << 20))


class Segment:
    """Zeroed shared memory, ``size`` bytes rounded up to pages, mapped read-write here and in children forked later.

    ``map`` is the mmap object, ``address`` where it is. :meth:`close` gives the memory back as soon as no view of it is
    alive any more.
    """

    def __init__(self, purpose: str, size: int, keep_descriptor: bool = False) -> None:
        """``keep_descriptor``: for a program that is not forked; it stays open as ``descriptor``."""
        self.purpose = purpose
        self.descriptor = -1
        self.size = -(-size // PAGE) * PAGE
        check_room(self.size, purpose)
        fd = _open_unnamed(purpose)
        try:
            os.ftruncate(fd, self.size)
            self.map = mmap.mmap(fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise SharedMemoryError(f"{purpose}: {_mib(self.size)} MiB of shared memory: {error.strerror}") from None
        finally:
            if keep_descriptor:
                self.descriptor = fd
            else:
                os.close(fd)
        with suppress(OSError):
            self.map.madvise(mmap.MADV_DONTDUMP)  # a core file of a vCPU should not hold the guest
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def zero(self) -> None:
        """All bytes zero again; the pages go back to the host."""
        try:
            self.map.madvise(mmap.MADV_REMOVE)
        except OSError:  # not every kernel and file system punches holes
            ctypes.memset(self.address, 0, self.size)

    def close(self) -> None:
        """Unmap, or leave that to the last view that goes away."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        with suppress(BufferError):
            self.map.close()


class MemoryFile:
    """Zeroed shared memory of its own, ``size`` bytes rounded up to pages, committed as it is touched; mapped
    read-write here and in children forked later, and by whoever gets the ``descriptor``. It has no name and is in no
    file system: the room in /dev/shm is no limit."""

    def __init__(self, name: str, size: int) -> None:
        self.size = -(-size // PAGE) * PAGE
        try:
            self.descriptor = os.memfd_create(f"mpemu-{name}", os.MFD_CLOEXEC)
            os.ftruncate(self.descriptor, self.size)
            self.map = mmap.mmap(self.descriptor, self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise SharedMemoryError(f"{name}: {_mib(self.size)} MiB of shared memory: {error.strerror}") from None
        with suppress(OSError):
            self.map.madvise(mmap.MADV_DONTDUMP)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def close(self) -> None:
        """Unmap, or leave that to the last view that goes away."""
        os.close(self.descriptor)
        with suppress(BufferError):
            self.map.close()


def map_memory(address: int | None, size: int, protection: int, flags: int, fd: int) -> int:
    """mmap(2): the address. Python's mmap module neither takes one nor tells that of what is not writable. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    found: int | None = libc.mmap(address, size, protection, flags, fd, 0)
    if found is None or found == ctypes.c_size_t(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _open_unnamed(purpose: str) -> int:
    """A descriptor of a new, empty segment whose name is gone already."""
    while True:
        name = NAME_PREFIX + secrets.token_hex(8)
        try:
            memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=0)
        except posix_ipc.ExistentialError:
            continue
        except (OSError, posix_ipc.Error) as error:
            raise SharedMemoryError(f"{purpose}: POSIX shared memory can't be created: {error}") from None
        posix_ipc.unlink_shared_memory(name)
        fd: int = memory.fd
        return fd
