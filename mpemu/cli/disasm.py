"""``mpemu disasm``: the code of an ELF file or raw image, by capstone; what it lacks comes from mpemu's own table."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import click

from mpemu.errors import GuestImageError

EXECUTABLE = 0x4  # SHF_EXECINSTR
LARGEST = 1 << 30


@dataclass(frozen=True)
class Line:
    """One instruction. ``symbol`` is set where one begins."""

    address: int
    bytes: str
    text: str
    symbol: str = ""


@click.command("disasm", short_help="Disassemble an ELF file or a raw image.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--base", default="0x80000000", metavar="ADDRESS", help="Where a raw image lies.  [default: 0x80000000]")
@click.option("--symbol", metavar="NAME", help="Only the code of this symbol.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per instruction and line.")
def disasm(file: Path, base: str, symbol: str | None, as_json: bool) -> None:
    """Disassemble FILE: the executable sections of an ELF file, or all of a raw image."""
    data = _read(file)
    try:
        address = int(base, 0)
    except ValueError:
        raise click.BadParameter(f"{base} is not an address such as 0x80000000", param_hint="--base") from None
    if data[:4] == b"\x7fELF":
        parts, symbols = _elf(data, str(file))
    else:
        parts, symbols = [(address, data)], {}
    if symbol is not None:
        parts = [_cut(parts, symbols, symbol, str(file))]
    for start, code in parts:
        for line in lines(code, start, symbols):
            if as_json:
                click.echo(json.dumps(asdict(line)))
            else:
                if line.symbol:
                    click.echo(f"\n{line.symbol}:")
                click.echo(f"{line.address:16x}  {line.bytes:<8}  {line.text}")


def lines(code: bytes, address: int, symbols: dict[int, str]) -> Iterator[Line]:
    """The instructions in ``code``, which lies at ``address``."""
    import capstone

    from mpemu.isa.disasm import disassemble

    engine = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    offset = 0
    while offset + 2 <= len(code):
        size = 4 if code[offset] & 3 == 3 and offset + 4 <= len(code) else 2
        raw, here = code[offset : offset + size], address + offset
        word = int.from_bytes(raw, "little")
        found = next(engine.disasm_lite(raw, here, 1), None)
        text = f"{found[2]} {found[3]}".strip() if found else disassemble(word, pc=here) or f".{size}byte {word:#x}"
        yield Line(here, f"{word:0{2 * size}x}", text, symbols.get(here, ""))
        offset += size


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST:
            raise GuestImageError(f"{file}: larger than {LARGEST >> 20} MiB: this is no program")
        return file.read_bytes()
    except OSError as error:
        raise GuestImageError(f"{file}: {error.strerror}") from error


def _elf(data: bytes, name: str) -> tuple[list[tuple[int, bytes]], dict[int, str]]:
    """(address, code) of the executable sections, and symbol names by address."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    try:
        elf = ELFFile(BytesIO(data))
        if elf.get_machine_arch() != "RISC-V":
            raise GuestImageError(f"{name}: an ELF file for {elf.get_machine_arch()}, not for RISC-V")
        parts: list[tuple[int, bytes]] = []
        symbols: dict[int, str] = {}
        for section in elf.iter_sections():
            if section["sh_flags"] & EXECUTABLE and section["sh_type"] == "SHT_PROGBITS":
                parts.append((section["sh_addr"], section.data()))
            if isinstance(section, SymbolTableSection):
                for entry in section.iter_symbols():
                    named = entry.name and not entry.name.startswith((".L", "$"))  # $x and $d mark code and data
                    if named and entry["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE", "STT_OBJECT"):
                        symbols.setdefault(entry["st_value"], entry.name)
    except (ELFError, ConstructError, ValueError, KeyError, IndexError, OverflowError, AttributeError, TypeError) as e:
        raise GuestImageError(f"{name}: malformed ELF file: {e or type(e).__name__}") from e
    if not parts:
        raise GuestImageError(f"{name}: this ELF file has no executable section")
    return parts, symbols


def _cut(parts: list[tuple[int, bytes]], symbols: dict[int, str], symbol: str, name: str) -> tuple[int, bytes]:
    """The part from a symbol to the next one."""
    start = next((address for address, text in symbols.items() if text == symbol), None)
    holder = next((p for p in parts if start is not None and p[0] <= start < p[0] + len(p[1])), None)
    if start is None or holder is None:
        from mpemu.config_errors import nearest

        raise GuestImageError(f"{name}: no code has the symbol {symbol}{nearest(symbol, symbols.values())}")
    addresses = sorted(symbols)
    following = bisect_right(addresses, start)
    end = addresses[following] if following < len(addresses) else holder[0] + len(holder[1])
    return start, holder[1][start - holder[0] : end - holder[0]]
