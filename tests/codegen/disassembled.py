"""The functions of an object file as text, and where they branch to."""

from __future__ import annotations

import io
from collections.abc import Iterator

import capstone
from elftools.elf.elffile import ELFFile

_MODES = {
    "EM_X86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    "EM_AARCH64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
}


class Disassembly:
    """Of ``object_file``'s functions; ``linked`` (image, symbols), if given, is where their code is taken from."""

    def __init__(self, object_file: bytes, linked: tuple[bytes, dict[str, int]] | None = None) -> None:
        elf = ELFFile(io.BytesIO(object_file))
        self._disassembler = capstone.Cs(*_MODES[elf.header.e_machine])
        self._code: dict[str, tuple[bytes, int]] = {}
        self.undefined: list[str] = []
        for symbol in elf.get_section_by_name(".symtab").iter_symbols():
            if symbol["st_shndx"] == "SHN_UNDEF":
                self.undefined += filter(None, [symbol.name])
            elif symbol["st_info"]["type"] == "STT_FUNC":
                at, size = symbol["st_value"], symbol["st_size"]
                data = elf.get_section(symbol["st_shndx"]).data()
                if linked:
                    data, at = linked[0], linked[1][symbol.name]
                self._code[symbol.name] = data[at : at + size], at

    @property
    def functions(self) -> list[str]:
        return list(self._code)

    def start(self, name: str) -> int:
        return self._code[name][1]

    def function(self, name: str) -> list[str]:
        """Its instructions, as "mnemonic operands"; all of it must be code."""
        data, start = self._code[name]
        lines = [(size, f"{m} {o}".strip()) for _, size, m, o in self._disassembler.disasm_lite(data, start)]
        assert sum(size for size, _ in lines) == len(data), f"{name}: not all of it is code"
        return [text for _, text in lines]

    def branches(self, name: str) -> Iterator[tuple[str, int]]:
        """(mnemonic, target) of direct branches out of the function (aarch64)."""
        data, start = self._code[name]
        for _, _, mnemonic, operands in self._disassembler.disasm_lite(data, start):
            if mnemonic in ("b", "bl") or mnemonic.startswith("b."):
                target = int(operands.removeprefix("#"), 0)
                if not start <= target < start + len(data):
                    yield mnemonic, target
