"""ELF files for the guest: segments and symbols, with nothing in the file believed before it is checked.

System V ABI, chapter 4 and 5, and the RISC-V psABI; parsing by pyelftools.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mpemu.errors import GuestImageError

MAX_SEGMENTS = 1024
MAX_SYMBOLS = 2_000_000


@dataclass(frozen=True)
class Segment:
    """``data`` goes to physical ``address``; behind it, up to ``size``, come zeros."""

    address: int
    data: bytes
    size: int


@dataclass(frozen=True)
class ElfImage:
    """What there is to load, where to start, and the symbols asked for."""

    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first address behind all segments."""
        return max((s.address + s.size for s in self.segments), default=0)


INTERESTING = ("tohost", "fromhost", "begin_signature", "end_signature")


def is_elf(data: bytes) -> bool:
    return data[:4] == b"\x7fELF"


def read_elf(data: bytes, name: str, symbols: tuple[str, ...] = INTERESTING) -> ElfImage:
    """Parse a RISC-V 64-bit executable. ``name`` is for messages. Raises :class:`GuestImageError`."""
    try:
        return _read(data, name, symbols)
    except GuestImageError:
        raise
    except (ELFError, ConstructError, ValueError, KeyError, IndexError, OverflowError, AttributeError, TypeError) as e:
        # pyelftools meets malformed headers with whatever error its parsing happens to run into
        raise GuestImageError(f"{name}: malformed ELF file: {e or type(e).__name__}") from e


def _read(data: bytes, name: str, symbols: tuple[str, ...]) -> ElfImage:
    if not is_elf(data):
        raise GuestImageError(f"{name}: not an ELF file")
    elf = ELFFile(BytesIO(data))
    if elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] != "EM_RISCV":
        raise GuestImageError(
            f"{name}: an ELF file for {elf.get_machine_arch()}, {elf.elfclass} bit; this machine runs RISC-V, 64 bit"
        )
    if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise GuestImageError(f"{name}: an ELF file of type {elf['e_type']}; only executables can be loaded")
    count = elf["e_phnum"]
    if count > MAX_SEGMENTS or elf["e_phoff"] + count * elf["e_phentsize"] > len(data):
        raise GuestImageError(f"{name}: the table of {count} program headers does not lie within the file")
    segments = []
    for header in (elf.get_segment(i).header for i in range(count)):
        if header.p_type != "PT_LOAD" or not header.p_memsz:
            continue
        if header.p_filesz > header.p_memsz or header.p_offset + header.p_filesz > len(data):
            raise GuestImageError(f"{name}: the segment for {header.p_paddr:#x} does not lie within the file")
        content = data[header.p_offset : header.p_offset + header.p_filesz]
        segments.append(Segment(header.p_paddr, content, header.p_memsz))
    if not segments:
        raise GuestImageError(f"{name}: the ELF file has nothing to load")
    return ElfImage(_physical_entry(elf), tuple(segments), _symbols(elf, len(data), symbols))


def _physical_entry(elf: ELFFile) -> int:
    """Where the entry is loaded: it is given as a virtual address."""
    entry: int = elf["e_entry"]
    for segment in elf.iter_segments("PT_LOAD"):
        header = segment.header
        if header.p_vaddr <= entry < header.p_vaddr + header.p_memsz:
            return entry - int(header.p_vaddr) + int(header.p_paddr)
    return entry


def _symbols(elf: ELFFile, size: int, wanted: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    if elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"] > size:
        return found  # a truncated section table matters to nobody but us
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection) and section["sh_offset"] + section["sh_size"] <= size:
            if not section["sh_entsize"] or section.num_symbols() > MAX_SYMBOLS:
                continue
            for symbol in section.iter_symbols():
                if symbol.name in wanted and symbol["st_shndx"] != "SHN_UNDEF":
                    found.setdefault(symbol.name, symbol["st_value"])
    return found
