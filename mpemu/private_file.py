"""Files that nobody but the user may have written, because what they hold will be executed: compiled code.

A file is read only if it is a regular one, the user's own and not writable by others; what it holds stands behind a
magic string and a SHA-256 checksum (:func:`seal`). It is written under another name and renamed, so whoever reads sees
all of it or nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_DIGEST = 32
ABANDONED_S = 3600.0
"""Age at which a temporary file must be that of a process that was killed."""


class Refused(Exception):
    """The file is not one to be trusted; the message names it and says why."""


def seal(magic: bytes, body: bytes) -> bytes:
    """``body`` with its checksum, behind ``magic``."""
    return magic + hashlib.sha256(body).digest() + body


def unseal(path: Path, magic: bytes, data: bytes) -> memoryview:
    """What was sealed in ``data``, the bytes of ``path``. Refused if it is anything else."""
    if not data.startswith(magic):
        raise Refused(f"{path}: not a code file of this version")
    start = len(magic) + _DIGEST
    body = memoryview(data)[start:]
    if hashlib.sha256(body).digest() != data[len(magic) : start]:
        raise Refused(f"{path}: damaged (checksum)")
    return body


def read_private(path: Path) -> bytes:
    """All of a file. FileNotFoundError if there is none, Refused if it is not a regular file of the user alone."""
    descriptor = _open(path)
    try:
        return read_opened(descriptor, path)
    finally:
        os.close(descriptor)


def read_opened(descriptor: int, path: Path) -> bytes:
    """The same of a file that is open, by whatever name; ``path`` is for messages. Others may read by it meanwhile."""
    try:
        status = os.fstat(descriptor)
        _check(path, status)
        return os.pread(descriptor, status.st_size, 0)
    except OSError as error:
        raise Refused(f"{path}: can't be read: {error.strerror}") from None


def _open(path: Path) -> int:
    """Links aren't followed, and a FIFO or device in the file's place is not waited for."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except OSError as error:
        why = "a symbolic link, not a file" if error.errno == errno.ELOOP else error.strerror
        raise Refused(f"{path}: {why}") from None


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path}: not a regular file")
    check_owner(path, status)


def check_owner(path: Path, status: os.stat_result) -> None:
    """Refused if somebody else than the user owns or may write what has ``status``."""
    if status.st_uid != os.geteuid():
        raise Refused(f"{path}: belongs to user {status.st_uid}, not to you")
    if status.st_mode & 0o022:
        raise Refused(f"{path}: others may write it (mode {stat.S_IMODE(status.st_mode):o})")


def write_private(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step, mode 600. OSError; then nothing has changed."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def remove_abandoned(directory: Path, name: str = "") -> None:
    """Remove temporary files that a killed process has left, those for ``name`` or all."""
    for old in directory.glob(f".{name}.*" if name else ".*.*"):
        with suppress(OSError):  # somebody else may be cleaning up too
            if old.lstat().st_mtime < time.time() - ABANDONED_S:
                old.unlink()
