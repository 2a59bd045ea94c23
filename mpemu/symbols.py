"""Names for the addresses of guest code, from ELF files and from tables such as Linux's System.map."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mpemu.boot.elf import is_elf
from mpemu.boot.image import read_file
from mpemu.errors import GuestImageError

_EXECUTABLE = 4  # SHF_EXECINSTR


@dataclass(frozen=True, order=True)
class Function:
    """Code from address ``start`` to ``end``, exclusive."""

    start: int
    end: int
    name: str


class Symbols:
    """Functions, found by address; of those at one address the longest counts."""

    def __init__(self, functions: Iterable[Function]) -> None:
        best: dict[int, Function] = {}
        for function in functions:
            if function.start not in best or function.end > best[function.start].end:
                best[function.start] = function
        self._functions = sorted(best.values())
        self._starts = [function.start for function in self._functions]

    def __len__(self) -> int:
        return len(self._functions)

    def find(self, address: int) -> Function | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._functions[index].end:
            return None
        return self._functions[index]


def read_symbols(path: Path) -> list[Function]:
    """The functions of an ELF file for RISC-V, or of lines such as ``ffffffff80002000 T _start``. GuestImageError."""
    data = read_file(path, "symbols")
    if is_elf(data):
        return elf_functions(data, str(path))
    found = _table(data, str(path))
    if not found:
        raise GuestImageError(f"{path}: neither an ELF file nor a table of symbols such as System.map")
    return found


def elf_functions(data: bytes, name: str) -> list[Function]:
    """GuestImageError if that is no sound ELF file for RISC-V; one that is stripped has none."""
    try:
        elf = ELFFile(BytesIO(data))
        if elf.get_machine_arch() != "RISC-V":
            raise GuestImageError(f"{name}: an ELF file for {elf.get_machine_arch()}, not for RISC-V")
        code = {
            index: (section["sh_addr"], section["sh_addr"] + section["sh_size"])
            for index, section in enumerate(elf.iter_sections())
            if section["sh_flags"] & _EXECUTABLE
        }
        sized: list[Function] = []
        marks: dict[int, str] = {}
        for table in elf.iter_sections():
            if not isinstance(table, SymbolTableSection):
                continue
            for symbol in table.iter_symbols():
                named = symbol.name and not symbol.name.startswith((".L", "$"))  # $x and $d mark code and data
                if not named or symbol["st_shndx"] not in code:
                    continue
                start, size = symbol["st_value"], symbol["st_size"]
                if size:
                    sized.append(Function(start, start + size, symbol.name))
                elif symbol["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE"):
                    marks.setdefault(start, symbol.name)
        return sized + _up_to_the_next(marks, {f.start for f in sized} | {end for _, end in code.values()})
    except (ELFError, ConstructError, ValueError, KeyError, IndexError, OverflowError, AttributeError, TypeError) as e:
        raise GuestImageError(f"{name}: malformed ELF file: {e or type(e).__name__}") from e


def _table(data: bytes, name: str) -> list[Function]:
    starts: dict[int, str] = {}
    others: set[int] = set()
    for line in data.decode(errors="replace").splitlines():
        words = line.split()
        try:
            address, kind, symbol = int(words[0], 16), words[1], words[2]
        except (ValueError, IndexError):
            return []
        if kind in "tTwW" and not symbol.startswith((".L", "$")):
            starts.setdefault(address, symbol)
        else:
            others.add(address)
    return _up_to_the_next(starts, others)


def _up_to_the_next(starts: dict[int, str], limits: set[int]) -> list[Function]:
    """Functions without a size end where something else begins."""
    borders = sorted(limits | starts.keys())
    found = []
    for start, name in starts.items():
        index = bisect_right(borders, start)
        if index < len(borders):
            found.append(Function(start, borders[index], name))
    return found
