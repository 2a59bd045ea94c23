"""The file in which a blob of machine code is kept: magic, checksum, symbols, code. What is damaged never runs."""

from __future__ import annotations

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


def read_blob(path: Path) -> BlobFile:
    """Read and check a blob. FileNotFoundError if there is none; BlobError if it is damaged or somebody else's."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BlobError(f"{path}: not a regular file")
        if status.st_uid != os.geteuid():
            raise BlobError(f"{path}: belongs to user {status.st_uid}, not to you")
        if status.st_mode & 0o022:
            raise BlobError(f"{path}: others may write it (mode {stat.S_IMODE(status.st_mode):o})")
        data = file.read()
    if not data.startswith(MAGIC):
        raise BlobError(f"{path}: not a code file of this version")
    digest, body = data[len(MAGIC) : len(MAGIC) + _DIGEST], data[len(MAGIC) + _DIGEST :]
    if hashlib.sha256(body).digest() != digest:
        raise BlobError(f"{path}: damaged (checksum)")
    content = msgpack.unpackb(body)
    return BlobFile(content["code"], content["symbols"])
