"""From files to memory contents: what goes where, and where the harts start.

Placement is QEMU's (hw/riscv/boot.c): firmware at the start of RAM, a kernel image at the next 2 MiB boundary behind
it, the initrd half of RAM, at most 128 MiB, above the kernel's entry, the device tree at the top of RAM below 3 GiB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from mpemu.addresses import BOOT_ROM
from mpemu.boot.elf import ElfImage, Segment
from mpemu.boot.fdt import Chosen, with_chosen
from mpemu.boot.image import read_file, read_image
from mpemu.boot.rom import INFO_ADDRESS, ROM_SIZE, boot_rom
from mpemu.errors import GuestImageError

MIB = 1 << 20
KERNEL_ALIGNMENT = 2 * MIB
DTB_LIMIT = 3072 * MIB
PAGE = 4096


class BootMemory(Protocol):
    """Guest RAM as the loader needs it (mpemu/memory.py)."""

    ram_base: int
    ram_size: int

    def write(self, address: int, data: bytes | memoryview) -> None: ...


@dataclass(frozen=True)
class BootFiles:
    """Paths, each optional; ``dtb`` replaces the tree made from the configuration."""

    firmware: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    dtb: str | None = None


@dataclass(frozen=True)
class Piece:
    """Something in RAM: ``what`` for messages, contents, and ``size`` with the zeros behind them."""

    what: str
    address: int
    data: bytes
    size: int


@dataclass(frozen=True)
class BootPlan:
    """The result. Harts start at ``start``, in the ROM. One may also begin at ``entry`` at once, with what the ROM
    loads: hart number, ``dtb_address`` and ``info_address`` in a0, a1 and a2."""

    pieces: tuple[Piece, ...]
    rom: bytes
    entry: int
    dtb: bytes
    dtb_address: int
    symbols: dict[str, int]
    start: int = BOOT_ROM
    info_address: int = INFO_ADDRESS

    def load(self, memory: BootMemory) -> None:
        """Put everything into RAM, which is all zeros. Again for every reboot."""
        for piece in self.pieces:
            memory.write(piece.address, piece.data)


TreeMaker = Callable[[Chosen], bytes]
"""Makes the blob of the machine's own device tree."""


def plan_boot(files: BootFiles, chosen: Chosen, ram_base: int, ram_size: int, make_tree: TreeMaker) -> BootPlan:
    """Read the files and decide what goes where; the initrd is added to ``chosen``. Raises :class:`GuestImageError`."""
    pieces: list[Piece] = []
    symbols: dict[str, int] = {}
    firmware: ElfImage | None = None
    kernel: ElfImage | None = None
    if files.firmware:
        firmware = _read(files.firmware, "firmware", ram_base, ram_base, ram_size, pieces)
        symbols |= firmware.symbols
    if files.kernel:
        default = _align_up(firmware.end, KERNEL_ALIGNMENT) if firmware else ram_base
        kernel = _read(files.kernel, "kernel", default, ram_base, ram_size, pieces)
        symbols |= kernel.symbols
    first = firmware or kernel
    if files.initrd:
        if kernel is None:
            raise GuestImageError(f"initrd: {files.initrd} is for a kernel, and none is given")
        data = read_file(files.initrd, "initrd")
        start = _align_up(kernel.entry + min(ram_size // 2, 128 * MIB), PAGE)
        if data:
            chosen = replace(chosen, initrd=(start, start + len(data)))
            pieces.append(Piece("initrd", start, data, len(data)))
    own = read_file(files.dtb, "dtb") if files.dtb else b""
    dtb = with_chosen(own, chosen, f"dtb {files.dtb}") if files.dtb else make_tree(chosen)
    _check(pieces, ram_base, ram_size)
    dtb_address = _place_dtb(len(dtb), ram_base, ram_size, pieces)
    pieces.append(Piece("device tree", dtb_address, dtb, len(dtb)))
    entry = first.entry if first else ram_base
    next_address = kernel.entry if firmware and kernel else 0
    rom = boot_rom(entry, dtb_address, next_address)
    return BootPlan(tuple(pieces), rom, entry, dtb, dtb_address, symbols)


def _read(path: str, what: str, default: int, base: int, size: int, pieces: list[Piece]) -> ElfImage:
    image = read_image(read_file(path, what), f"{what} {path}", default, base, size)
    pieces += [_piece(f"{what} {path}", segment) for segment in image.segments]
    inside = any(s.address <= image.entry < s.address + s.size for s in image.segments)
    if image.entry % 2:
        raise GuestImageError(f"{what} {path}: the entry {image.entry:#x} is an odd address")
    if not inside:
        raise GuestImageError(f"{what} {path}: the entry {image.entry:#x} is in none of its segments")
    return image


def _piece(what: str, segment: Segment) -> Piece:
    return Piece(what, segment.address, segment.data, segment.size)


def _place_dtb(size: int, base: int, ram_size: int, pieces: list[Piece]) -> int:
    """As high as possible, aligned to 2 MiB; in a machine too small for that, to a page."""
    end = base + ram_size
    if base < DTB_LIMIT:
        end = min(end, max(DTB_LIMIT, base + size))
    for alignment in (KERNEL_ALIGNMENT, PAGE):
        address = (end - size) // alignment * alignment
        if address >= base and all(address >= p.address + p.size or p.address >= address + size for p in pieces):
            return address
    raise GuestImageError(f"the device tree ({size} bytes) finds no place in {ram_size >> 10} KiB of RAM; give it more")


def _check(pieces: list[Piece], base: int, size: int) -> None:
    """Everything lies in RAM, and nothing overlaps."""
    for piece in pieces:
        last = piece.address + piece.size - 1
        if piece.address < base or last >= base + size:
            raise GuestImageError(
                f"{piece.what}: {piece.address:#x}..{last:#x} is not RAM, which is {base:#x}..{base + size - 1:#x} on "
                f"this machine; link it elsewhere, or give the machine more memory"
            )
    pieces = sorted(pieces, key=lambda p: p.address)
    for lower, upper in pairwise(pieces):
        if upper.address < lower.address + lower.size:
            hint = "" if upper.what == lower.what else "; give the machine more memory"
            raise GuestImageError(
                f"{upper.what} at {upper.address:#x} overlaps {lower.what}, which takes {lower.address:#x}.."
                f"{lower.address + lower.size - 1:#x}{hint}"
            )


def _align_up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


assert len(boot_rom(0, 0, 0)) == ROM_SIZE
