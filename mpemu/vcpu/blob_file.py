"""The file in which a blob of machine code is kept: magic, checksum, symbols, code. What is damaged never runs."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgpack  # type: ignore[import-untyped]

MAGIC = b"mpemu-blob-1\n"
_DIGEST = 32


class BlobError(Exception):
    """The file is not a blob that may be run; the message says why."""


@dataclass(frozen=True)
class BlobFile:
    """Machine code and the offset of every symbol in it."""

    code: bytes
    symbols: dict[str, int]


def encode_blob(code: bytes, symbols: dict[str, int]) -> bytes:
    body: bytes = msgpack.packb({"symbols": symbols, "code": code})
    return MAGIC + hashlib.sha256(body).digest() + body


def _open(path: Path) -> int:
    """Links aren't followed, and a FIFO or device in the file's place is not waited for."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except OSError as error:
        why = "a symbolic link, not a file" if error.errno == errno.ELOOP else error.strerror
        raise BlobError(f"{path}: {why}") from None


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BlobError(f"{path}: not a regular file")
    if status.st_uid != os.geteuid():
        raise BlobError(f"{path}: belongs to user {status.st_uid}, not to you")
    if status.st_mode & 0o022:
        raise BlobError(f"{path}: others may write it (mode {stat.S_IMODE(status.st_mode):o})")


def read_blob(path: Path) -> BlobFile:
    """Read and check a blob. FileNotFoundError if there is none; BlobError if it is damaged or somebody else's."""
    descriptor = _open(path)
    try:
        _check(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
    finally:
        os.close(descriptor)
    if not data.startswith(MAGIC):
        raise BlobError(f"{path}: not a code file of this version")
    digest, body = data[len(MAGIC) : len(MAGIC) + _DIGEST], data[len(MAGIC) + _DIGEST :]
    if hashlib.sha256(body).digest() != digest:
        raise BlobError(f"{path}: damaged (checksum)")
    try:
        content = msgpack.unpackb(body)
        return BlobFile(content["code"], content["symbols"])
    except (ValueError, TypeError, KeyError) as error:
        raise BlobError(f"{path}: not what a code file holds ({error})") from None
