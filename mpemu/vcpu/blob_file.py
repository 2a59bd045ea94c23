"""The file in which a blob of machine code is kept: magic, checksum, symbols, code. What is damaged never runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgpack  # type: ignore[import-untyped]

from mpemu.private_file import Refused, read_private, seal, unseal

MAGIC = b"mpemu-blob-1\n"


class BlobError(Exception):
    """The file is not a blob that may be run; the message says why."""


@dataclass(frozen=True)
class BlobFile:
    """Machine code and the offset of every symbol in it."""

    code: bytes
    symbols: dict[str, int]

    @property
    def digest(self) -> str:
        """Names the machine code, for what is linked against it."""
        return hashlib.sha256(msgpack.packb([self.code, sorted(self.symbols.items())])).hexdigest()


def encode_blob(code: bytes, symbols: dict[str, int]) -> bytes:
    body: bytes = msgpack.packb({"symbols": symbols, "code": code})
    return seal(MAGIC, body)


def read_blob(path: Path) -> BlobFile:
    """Read and check a blob. FileNotFoundError if there is none; BlobError if it is damaged or somebody else's."""
    try:
        body = unseal(path, MAGIC, read_private(path))
    except Refused as error:
        raise BlobError(str(error)) from None
    try:
        content = msgpack.unpackb(body)
        return BlobFile(content["code"], content["symbols"])
    except (ValueError, TypeError, KeyError) as error:
        raise BlobError(f"{path}: not what a code file holds ({error})") from None
