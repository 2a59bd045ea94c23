"""Opening the host files behind disks and flash, with errors for the user."""

from __future__ import annotations

import fcntl
import os
import stat

from mpemu.errors import GuestImageError


def open_image(path: str, readonly: bool, who: str) -> tuple[int, int]:
    """(descriptor, size in bytes) of a regular file or block device. GuestImageError names ``who`` wants it.

    The descriptor holds a lock, shared or exclusive: two guests that write to one file system destroy it.
    """
    try:
        fd = os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        hint = "" if readonly else " for writing (readonly: true would do without)"
        raise GuestImageError(f"{who}: {path} can't be opened{hint}: {error.strerror}") from error
    except OSError as error:
        raise GuestImageError(f"{who}: {path} can't be opened: {error.strerror}") from error
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        os.close(fd)
        raise GuestImageError(f"{who}: {path} is neither a file nor a block device")
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if readonly else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise GuestImageError(
            f"{who}: {path} is in use by another machine, or another device of this one; readonly images can be shared"
        ) from None
    except OSError:  # a file system without locks
        pass
    os.set_blocking(fd, True)
    return fd, os.lseek(fd, 0, os.SEEK_END)
