"""Loading: ELF, Linux Image, gzip, raw, placement as QEMU's, and files that are not what they should be."""

from __future__ import annotations

import gzip
import mmap
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpemu.isa.instructions  # noqa: F401  (fills the table)
from mpemu.boot.elf import read_elf
from mpemu.boot.fdt import Chosen
from mpemu.boot.image import linux_header, read_image, unpack
from mpemu.boot.plan import BootFiles, BootPlan, plan_boot
from mpemu.boot.rom import boot_rom
from mpemu.devicetree import Node, flatten
from mpemu.errors import GuestImageError
from mpemu.isa.registry import decode

BASE, MIB = 0x8000_0000, 1 << 20
RAM = 512 * MIB


def elf(
    segments: list[tuple[int, bytes, int]],
    entry: int,
    symbols: dict[str, int] | None = None,
    machine: int = 243,
    vaddr_shift: int = 0,
) -> bytes:
    """A RISC-V executable: (physical address, contents, size in memory), symbols."""
    names = b"\0" + b"".join(n.encode() + b"\0" for n in symbols or {})
    table = bytes(24)
    for name, value in (symbols or {}).items():
        table += struct.pack("<IBBHQQ", names.index(name.encode() + b"\0"), 0x10, 0, 1, value, 8)
    shstr = b"\0.symtab\0.strtab\0.shstrtab\0"
    position = 64 + 56 * len(segments)
    headers, body = b"", b""
    for address, data, size in segments:
        offset = position + len(body)
        headers += struct.pack("<IIQQQQQQ", 1, 7, offset, address + vaddr_shift, address, len(data), size, 8)
        body += data
    at = position + len(body)
    sections = bytes(64)
    for index, (name, kind, data, link, entsize) in enumerate(
        ((1, 2, table, 2, 24), (9, 3, names, 0, 0), (17, 3, shstr, 0, 0)), 1
    ):
        sections += struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, len(data), link, index and 1, 8, entsize)
        body += data
        at += len(data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, at, 0, 64, 56, len(segments), 64, len(sections) // 64, 3
    )
    return head + headers + body + sections


def linux(size: int = 4096, image_size: int = 0x20_0000) -> bytes:
    head = struct.pack("<IIQQQIIQ8s4sI", 0x6F, 0, 0x20_0000, image_size, 0, 2, 0, 0, b"RISCV\0\0\0", b"RSC\x05", 0)
    return head.ljust(size, b"\x13")


def tree(chosen: Chosen) -> bytes:
    return flatten(Node("", {}, [Node("chosen", chosen.properties())]))


def plan(tmp_path: Path, size: int = RAM, **files: bytes) -> BootPlan:
    paths = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        paths[name] = str(tmp_path / name)
    return plan_boot(BootFiles(**paths), Chosen("a"), BASE, size, tree)


class Ram:
    def __init__(self, size: int) -> None:
        self.ram_base, self.ram_size, self.data = BASE, size, mmap.mmap(-1, size)

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.data[address - BASE : address - BASE + len(data)] = data


def test_elf_segments_and_symbols() -> None:
    data = elf([(BASE, b"code", 4), (BASE + 0x1000, b"d", 0x100)], BASE, {"tohost": BASE + 0x1000, "other": 1})
    image = read_elf(data, "t")
    assert image.entry == BASE and image.end == BASE + 0x1100 and image.symbols == {"tohost": BASE + 0x1000}
    assert [(s.address, s.data, s.size) for s in image.segments] == [(BASE, b"code", 4), (BASE + 0x1000, b"d", 0x100)]


def test_virtual_entry_becomes_physical() -> None:
    assert read_elf(elf([(BASE, b"code", 4)], BASE + 0x1000_0000, vaddr_shift=0x1000_0000), "t").entry == BASE


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x7fELF", "malformed"),
        (elf([(BASE, b"x", 1)], BASE, machine=62), "x64, 64 bit; this machine runs RISC-V"),
        (elf([], BASE), "nothing to load"),
        (elf([(BASE, b"xx", 1)], BASE), "does not lie within the file"),
        (elf([(BASE, b"x" * 100, 100)], BASE)[:130], "does not lie within the file"),
    ],
)
def test_bad_elf_files_say_what_is_wrong(data: bytes, text: str) -> None:
    with pytest.raises(GuestImageError, match=f"kernel k: .*{text}"):
        read_elf(data, "kernel k")


@settings(deadline=None)
@given(st.data())
def test_damaged_elf_files_end_in_a_message(data: st.DataObject) -> None:
    blob = bytearray(elf([(BASE, b"code" * 8, 64)], BASE, {"tohost": BASE}))
    for position in data.draw(st.lists(st.integers(0, len(blob) - 1), min_size=1, max_size=6)):
        blob[position] = data.draw(st.integers(0, 255))
    blob = blob[: data.draw(st.integers(0, len(blob)))]
    try:
        read_image(bytes(blob), "kernel k", BASE, BASE)
    except GuestImageError as error:
        assert str(error).startswith("kernel k: ")


def test_gzip_is_unpacked_and_bombs_and_damage_are_refused() -> None:
    packed = gzip.compress(linux())
    assert unpack(packed, "k") == linux()
    with pytest.raises(GuestImageError, match="ends early"):
        unpack(packed[:-20], "k")
    with pytest.raises(GuestImageError, match="damaged gzip"):
        unpack(b"\x1f\x8b\x08\x00" + b"\xff" * 40, "k")
    with pytest.raises(GuestImageError, match="more than 1 MiB"):
        unpack(gzip.compress(bytes(4 * MIB)), "k", MIB)


def test_linux_header() -> None:
    header = linux_header(linux())
    assert header is not None and header.text_offset == 0x20_0000 and header.image_size == 0x20_0000
    assert linux_header(b"short") is None and linux_header(bytes(100)) is None


def test_firmware_and_linux_as_qemu_places_them(tmp_path: Path) -> None:
    found = plan(tmp_path, firmware=b"fw" * 50_000, kernel=gzip.compress(linux()), initrd=b"cpio" * 100)
    where = {p.what.split()[0]: p.address for p in found.pieces}
    assert where["firmware"] == BASE and where["kernel"] == BASE + 2 * MIB
    assert where["initrd"] == BASE + 2 * MIB + 128 * MIB
    assert found.dtb_address == BASE + RAM - 2 * MIB == where["device"]
    assert found.entry == BASE and b"linux,initrd-start" in found.dtb
    assert struct.unpack_from("<6Q", found.rom, 0x28) == (0x4942534F, 2, BASE + 2 * MIB, 1, 0, (1 << 64) - 1)
    ram = Ram(RAM)
    found.load(ram)
    assert ram.data[2 * MIB : 2 * MIB + 4096] == linux() and ram.data[:4] == b"fwfw"


def test_device_tree_stays_below_3_gib(tmp_path: Path) -> None:
    assert plan(tmp_path, size=4096 * MIB, kernel=b"raw").dtb_address == 3072 * MIB - 2 * MIB


def test_raw_image_in_a_tiny_machine(tmp_path: Path) -> None:
    found = plan(tmp_path, size=64 * 1024, kernel=b"\x13\0\0\0" * 100)
    assert found.entry == BASE and BASE + 400 <= found.dtb_address <= BASE + 60 * 1024


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"kernel": b""}, "kernel .*: the file is empty"),
        ({"kernel": elf([(0x1000, b"x", 4)], 0x1000)}, r"0x1000\.\.0x1003 is not RAM"),
        ({"kernel": elf([(BASE, b"x", 4)], BASE + 8)}, "entry 0x80000008 is in none of its segments"),
        ({"kernel": linux(image_size=1 << 60)}, "is not RAM"),
        ({"firmware": b"f" * 100, "kernel": elf([(BASE, b"x", 4)], BASE)}, "overlaps firmware"),
        ({"kernel": b"k" * 100, "initrd": b"i" * (16 * MIB)}, "initrd: .* is not RAM"),
        ({"initrd": b"i"}, "for a kernel, and none is given"),
        ({"kernel": b"k", "dtb": b"no tree"}, "dtb .*: the device tree is damaged|not a flattened"),
    ],
)
def test_what_can_not_be_loaded_is_explained(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    with pytest.raises(GuestImageError, match=text):
        plan(tmp_path, size=16 * MIB, **files)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match=r"kernel: /no/such can't be read: No such file"):
        plan_boot(BootFiles(kernel="/no/such"), Chosen(), BASE, RAM, tree)


def test_boot_rom_disassembles_to_what_qemu_has() -> None:
    rom = boot_rom(BASE, 0x9000_0000, BASE + 2 * MIB)
    words = struct.unpack_from("<6I", rom)
    names = [found[0].name for w in words if (found := decode(w))]
    assert names == ["auipc", "addi", "csrrs", "ld", "ld", "jalr"]
    assert [hex(w) for w in words] == ["0x297", "0x2828613", "0xf1402573", "0x202b583", "0x182b283", "0x28067"]
    assert struct.unpack_from("<QQ", rom, 0x18) == (BASE, 0x9000_0000)
