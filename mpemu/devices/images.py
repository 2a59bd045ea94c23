"""Opening the host files behind disks and flash, with errors for the user."""

from __future__ import annotations

import os
import stat

from mpemu.errors import GuestImageError


def open_image(path: str, readonly: bool, who: str) -> tuple[int, int]:
    """(descriptor, size in bytes) of a regular file or block device. GuestImageError names ``who`` wants it."""
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
    os.set_blocking(fd, True)
    return fd, os.lseek(fd, 0, os.SEEK_END)
