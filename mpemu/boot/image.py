"""Kernel and firmware files: ELF, Linux Image (Documentation/arch/riscv/boot-image-header.rst), gzip of either, raw.

The result is the same for all of them, :class:`ElfImage`: segments at physical addresses and an entry.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from mpemu.boot.elf import ElfImage, Segment, is_elf, read_elf
from mpemu.errors import GuestImageError

LINUX_MAGIC2 = b"RSC\x05"
_LINUX_HEADER = struct.Struct("<IIQQQIIQ8s4sI")
LARGEST = 4 << 30


@dataclass(frozen=True)
class LinuxHeader:
    """The fields of the Image header that matter: offset from the start of RAM, size in memory with bss."""

    text_offset: int
    image_size: int


def read_file(path: str | os.PathLike[str], what: str) -> bytes:
    """The whole file. Raises :class:`GuestImageError`; ``what`` is "kernel", "firmware"..."""
    try:
        found = Path(path).stat()
        if stat.S_ISCHR(found.st_mode):  # /dev/zero never ends
            raise GuestImageError(f"{what}: {path} is a device, not a file")
        if found.st_size > LARGEST:
            raise GuestImageError(f"{what}: {path} is larger than {LARGEST >> 30} GiB")
        data = Path(path).read_bytes()
    except OSError as error:
        raise GuestImageError(f"{what}: {path} can't be read: {error.strerror}") from error
    return data


def unpack(data: bytes, name: str, limit: int = LARGEST) -> bytes:
    """``data``, decompressed if it is gzip. A file that unpacks to more than ``limit`` bytes is refused."""
    if data[:2] != b"\x1f\x8b":
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise GuestImageError(f"{name}: damaged gzip data: {error}") from error
    if len(plain) > limit:
        raise GuestImageError(f"{name}: unpacks to more than {limit >> 20} MiB; give the machine more memory")
    if not unpacker.eof:
        raise GuestImageError(f"{name}: the gzip data ends early; is the download complete?")
    return plain


def linux_header(data: bytes) -> LinuxHeader | None:
    """The header of a RISC-V Linux Image, or None if ``data`` isn't one."""
    if len(data) < _LINUX_HEADER.size:
        return None
    _, _, text_offset, image_size, _, _, _, _, _, magic2, _ = _LINUX_HEADER.unpack_from(data)
    if magic2 != LINUX_MAGIC2:
        return None
    return LinuxHeader(text_offset, image_size)


def read_image(data: bytes, name: str, default: int, ram_base: int, limit: int = LARGEST) -> ElfImage:
    """An image of any kind. ``default`` is where a raw one goes; ``limit`` bounds what gzip may unpack to.

    A Linux Image goes to its text offset from the start of RAM, but to ``default`` if that is behind firmware.
    """
    data = unpack(data, name, limit)
    if not data:
        raise GuestImageError(f"{name}: the file is empty")
    if is_elf(data):
        return read_elf(data, name)
    header = linux_header(data)
    if header is not None:
        address = default
        if default == ram_base:
            address = ram_base + header.text_offset
        size = max(header.image_size, len(data))
        return ElfImage(address, (Segment(address, data, size),))
    return ElfImage(default, (Segment(default, data, len(data)),))
