"""The file in which a blob of machine code is kept: magic, checksum, symbols, code. What is damaged never runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]

from mpemu.private_file import Refused, read_opened, read_private, seal, unseal

MAGIC = b"mpemu-blob-2\n"


class BlobError(Exception):
    """The file is not a blob that may be run; the message says why."""


class Patch(NamedTuple):
    """At offset ``place`` of a stencil's code: the value of ``symbol`` plus ``addend``, by the host's relocation
    ``kind``."""

    place: int
    kind: int
    symbol: str
    addend: int


class Stencil(NamedTuple):
    """Code with holes (codegen/stencils.py)."""

    code: bytes
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class BlobFile:
    """Machine code, the offset of every symbol in it, and stencils by name (none where the host has none)."""

    code: bytes
    symbols: dict[str, int]
    stencils: dict[str, Stencil] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names the machine code, for what is linked against it."""
        return hashlib.sha256(msgpack.packb([self.code, sorted(self.symbols.items())])).hexdigest()


def encode_blob(blob: BlobFile) -> bytes:
    body: bytes = msgpack.packb({"symbols": blob.symbols, "code": blob.code, "stencils": blob.stencils})
    return seal(MAGIC, body)


def read_blob(path: Path, descriptor: int | None = None) -> BlobFile:
    """Read and check a blob: the file at ``path``, or what was there and is open as ``descriptor``. FileNotFoundError
    if there is none; BlobError if it is damaged or somebody else's."""
    try:
        data = read_private(path) if descriptor is None else read_opened(descriptor, path)
        body = unseal(path, MAGIC, data)
    except Refused as error:
        raise BlobError(str(error)) from None
    try:
        content = msgpack.unpackb(body)
        stencils = {
            name: Stencil(code, tuple(Patch(*patch) for patch in patches))
            for name, (code, patches) in content["stencils"].items()
        }
        return BlobFile(content["code"], content["symbols"], stencils)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BlobError(f"{path}: not what a code file holds ({error})") from None
