"""Turns LLVM's object file into a blob that runs wherever it is mapped.

All symbols are defined in the module and dso_local, so every relocation is relative between sections of the object.
They are resolved here; what is left has none and can be mapped read-execute by any number of processes.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from mpemu.codegen.host import Host, host_of
from mpemu.codegen.interpreter import FIRST_SECTION
from mpemu.codegen.stencils import CONSTANT, Exit
from mpemu.vcpu.blob_file import Patch, Stencil

OFFSETS = "handler_offsets"
"""The table that the linker fills: a u32 per handler, its offset in the blob."""
_ALLOC = 2
_ALIGN = 64


class LinkError(Exception):
    """The object has something that a blob can't have; a bug in the generator."""


@dataclass(frozen=True)
class Blob:
    """Linked code: bytes, the offset of every symbol, and the alignment that it must have where it runs."""

    data: bytes
    symbols: dict[str, int]
    alignment: int


def _rank(name: str) -> int:
    return 0 if name == FIRST_SECTION else 1 if name.startswith(".text") else 2


def _open(object_file: bytes) -> tuple[Host, list[Any], list[Any]]:
    """Of an object file: the host that it is for, sections, symbols. LinkError."""
    elf = ELFFile(io.BytesIO(object_file))
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise LinkError("the object has no symbol table")
    host = host_of(elf.header.e_machine.removeprefix("EM_").lower())
    return host, list(elf.iter_sections()), list(table.iter_symbols())


def link(object_file: bytes) -> Blob:
    """Lay out the sections, code first, and apply relocations. LinkError if something is not in the module."""
    host, sections, symbols = _open(object_file)
    wanted = [
        i
        for i, s in enumerate(sections)
        if s["sh_flags"] & _ALLOC and s["sh_size"] and s.name not in (".eh_frame", ".note.GNU-stack")
    ]
    base: dict[int, int] = {}
    image = bytearray()
    for i in sorted(wanted, key=lambda i: _rank(sections[i].name)):
        image += host.PADDING * (-len(image) % _ALIGN)
        base[i] = len(image)
        section = sections[i]
        image += bytes(section["sh_size"]) if section["sh_type"] == "SHT_NOBITS" else section.data()

    alignment = _ALIGN
    for section in sections:
        if isinstance(section, RelocationSection) and section["sh_info"] in base:
            for r in section.iter_relocations():
                symbol = symbols[r["r_info_sym"]]
                if symbol["st_shndx"] not in base:
                    raise LinkError(f"{symbol.name or sections[section['sh_info']].name}: not in the module")
                target = base[symbol["st_shndx"]] + symbol["st_value"] + r["r_addend"]
                place = base[section["sh_info"]] + r["r_offset"]
                try:
                    alignment = max(alignment, host.relocate(image, r["r_info_type"], place, target))
                except ValueError as error:
                    name = symbol.name or sections[symbol["st_shndx"]].name
                    raise LinkError(f"{error} against {name}") from None

    offsets = {s.name: base[s["st_shndx"]] + s["st_value"] for s in symbols if s.name and s["st_shndx"] in base}
    return Blob(bytes(image), offsets, alignment)


def link_interpreter(object_file: bytes, handlers: tuple[str, ...]) -> Blob:
    """Link, and fill the table of the handlers' offsets; the first of them must lie at offset 0."""
    linked = link(object_file)
    offsets = linked.symbols
    if absent := [name for name in (*handlers, OFFSETS) if name not in offsets]:
        raise LinkError(f"no symbol {', '.join(absent)}")
    if offsets[handlers[0]] != 0:
        raise LinkError(f"{handlers[0]} is not at offset 0")
    image = bytearray(linked.data)
    for n, name in enumerate(handlers):
        struct.pack_into("<I", image, offsets[OFFSETS] + 4 * n, offsets[name])
    return Blob(bytes(image), offsets, linked.alignment)


_MERGE = 0x10


def extract_stencils(object_file: bytes, names: Sequence[str]) -> dict[str, Stencil]:
    """The functions ``names`` as stencils. Left out are those of which something can't be patched later."""
    host, sections, symbols = _open(object_file)
    wanted, found = set(names), dict[str, Stencil]()
    for index, section in enumerate(sections):
        relocations = [
            r
            for s in sections
            if isinstance(s, RelocationSection) and s["sh_info"] == index
            for r in s.iter_relocations()
        ]
        relocations.sort(key=lambda r: r["r_offset"])
        offsets, code = [r["r_offset"] for r in relocations], section.data()
        for symbol in symbols:
            if symbol["st_shndx"] != index or symbol.name not in wanted:
                continue
            start, end = symbol["st_value"], symbol["st_value"] + symbol["st_size"]
            mine = relocations[bisect_left(offsets, start) : bisect_left(offsets, end)]
            patches = [_patch(r, start, symbols, sections, host) for r in mine]
            if all(patches):
                found[symbol.name] = Stencil(code[start:end], tuple(p for p in patches if p))
    return found


def _patch(relocation: Any, start: int, symbols: list[Any], sections: list[Any], host: Host) -> Patch | None:
    symbol, kind = symbols[relocation["r_info_sym"]], relocation["r_info_type"]
    place, addend = relocation["r_offset"] - start, relocation["r_addend"]
    if symbol["st_shndx"] == "SHN_UNDEF":
        # a hole is a constant, what is jumped to is not
        return Patch(place, kind, symbol.name, addend) if host.is_relative(kind) == (symbol.name in set(Exit)) else None
    section = sections[symbol["st_shndx"]]
    if not section["sh_flags"] & _MERGE or not host.is_relative(kind):
        return None
    value = section.data()[symbol["st_value"] :][: section["sh_entsize"]]
    return Patch(place, kind, CONSTANT + value.hex(), addend)
