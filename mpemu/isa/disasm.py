"""Text of instructions, from the instruction table. Spelling is the GNU assembler's, number format is capstone's.

    disassemble(0x00C58533)                    "add a0, a1, a2"
    disassemble(0xFE0518E3, pc=0x8000_0010)    "bnez a0, 0x80000000"

``asm`` templates of the table hold fields in braces: registers by ABI name, integers, and with a format after a colon
``pc`` (a target), ``upper`` (bits 31..12), ``iorw`` (a fence set). A rounding mode is printed unless it is dynamic.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from mpemu.isa import instructions, registry  # noqa: F401  (the former fills the table)
from mpemu.isa.csr_table import CSR_NAMES
from mpemu.isa.fp import DYN, ROUNDING_NAMES
from mpemu.isa.registry import F_FIELDS, F_NAMES, X_FIELDS, X_NAMES, Insn

_FIELD = re.compile(r"(, )?\{(\w+)(?::(\w+))?\}")

Condition = Mapping[str, int | str]


class Alias(NamedTuple):
    """A pseudo-instruction: what ``base`` is called where its fields are as ``condition`` says.

    A field must be a number, or the same as another field.
    """

    base: str
    condition: Condition
    name: str
    asm: str


ALIASES: tuple[Alias, ...] = (
    Alias("addi", {"rd": 0, "rs1": 0, "imm": 0}, "nop", ""),
    Alias("addi", {"rs1": 0}, "li", "{rd}, {imm}"),
    Alias("addi", {"imm": 0}, "mv", "{rd}, {rs1}"),
    Alias("addiw", {"imm": 0}, "sext.w", "{rd}, {rs1}"),
    Alias("add.uw", {"rs2": 0}, "zext.w", "{rd}, {rs1}"),
    Alias("xori", {"imm": -1}, "not", "{rd}, {rs1}"),
    Alias("sub", {"rs1": 0}, "neg", "{rd}, {rs2}"),
    Alias("subw", {"rs1": 0}, "negw", "{rd}, {rs2}"),
    Alias("sltiu", {"imm": 1}, "seqz", "{rd}, {rs1}"),
    Alias("sltu", {"rs1": 0}, "snez", "{rd}, {rs2}"),
    Alias("slt", {"rs2": 0}, "sltz", "{rd}, {rs1}"),
    Alias("slt", {"rs1": 0}, "sgtz", "{rd}, {rs2}"),
    Alias("jal", {"rd": 0}, "j", "{imm:pc}"),
    Alias("jal", {"rd": 1}, "jal", "{imm:pc}"),
    Alias("jalr", {"rd": 0, "rs1": 1, "imm": 0}, "ret", ""),
    Alias("jalr", {"rd": 0, "imm": 0}, "jr", "{rs1}"),
    Alias("jalr", {"rd": 1, "imm": 0}, "jalr", "{rs1}"),
    Alias("beq", {"rs2": 0}, "beqz", "{rs1}, {imm:pc}"),
    Alias("bne", {"rs2": 0}, "bnez", "{rs1}, {imm:pc}"),
    Alias("bge", {"rs1": 0}, "blez", "{rs2}, {imm:pc}"),
    Alias("bge", {"rs2": 0}, "bgez", "{rs1}, {imm:pc}"),
    Alias("blt", {"rs2": 0}, "bltz", "{rs1}, {imm:pc}"),
    Alias("blt", {"rs1": 0}, "bgtz", "{rs2}, {imm:pc}"),
    Alias("fence", {"fm": 0, "pred": 15, "succ": 15}, "fence", ""),
    Alias("sfence.vma", {"rs1": 0, "rs2": 0}, "sfence.vma", ""),
    Alias("sfence.vma", {"rs2": 0}, "sfence.vma", "{rs1}"),
    *(
        Alias(f"{base}.{fmt}", {"fs1": "fs2"}, f"{alias}.{fmt}", "{fd}, {fs1}")
        for fmt in "hsd"
        for base, alias in (("fsgnj", "fmv"), ("fsgnjn", "fneg"), ("fsgnjx", "fabs"))
    ),
    Alias("csrrs", {"csr": 1, "rs1": 0}, "frflags", "{rd}"),
    Alias("csrrs", {"csr": 2, "rs1": 0}, "frrm", "{rd}"),
    Alias("csrrs", {"csr": 3, "rs1": 0}, "frcsr", "{rd}"),
    Alias("csrrs", {"csr": 0xC00, "rs1": 0}, "rdcycle", "{rd}"),
    Alias("csrrs", {"csr": 0xC01, "rs1": 0}, "rdtime", "{rd}"),
    Alias("csrrs", {"csr": 0xC02, "rs1": 0}, "rdinstret", "{rd}"),
    *(
        Alias(base, {"csr": csr, **condition}, f"fs{name}{suffix}", operands)
        for csr, name in ((1, "flags"), (2, "rm"), (3, "csr"))
        for base, suffix, source in (("csrrw", "", "{rs1}"), ("csrrwi", "i", "{uimm}"))
        if not (csr == 3 and suffix)
        for condition, operands in (({"rd": 0}, source), ({}, f"{{rd}}, {source}"))
    ),
    Alias("csrrs", {"rs1": 0}, "csrr", "{rd}, {csr}"),
    Alias("csrrw", {"rd": 0}, "csrw", "{csr}, {rs1}"),
    Alias("csrrs", {"rd": 0}, "csrs", "{csr}, {rs1}"),
    Alias("csrrc", {"rd": 0}, "csrc", "{csr}, {rs1}"),
    Alias("csrrwi", {"rd": 0}, "csrwi", "{csr}, {uimm}"),
    Alias("csrrsi", {"rd": 0}, "csrsi", "{csr}, {uimm}"),
    Alias("csrrci", {"rd": 0}, "csrci", "{csr}, {uimm}"),
)
"""Pseudo-instructions, the first match counts. Unprivileged ISA, "RISC-V Assembly Programmer's Handbook"."""


def disassemble(word: int, pc: int | None = None, exts: frozenset[str] | None = None) -> str | None:
    """The text of the instruction in the low bits of ``word``, or None if it is none of ``exts`` (None: all).

    Targets are absolute if ``pc`` is given, else offsets.
    """
    if word & 3 != 3:
        short = registry.decode_compressed(word, exts)
        return None if short is None else _text(short.name, short.asm, short.pattern.extract(word), pc)
    decoded = registry.decode(word, exts)
    if decoded is None:
        return None
    insn, _, _ = decoded
    fields = insn.pattern.extract(word)
    for alias in _aliases().get(insn.name, ()):
        if _holds(alias.condition, fields):
            return _text(alias.name, alias.asm, fields, pc)
    return _text(insn.name + _ordering(insn, fields), insn.asm, fields, pc)


@functools.cache
def _aliases() -> dict[str, list[Alias]]:
    grouped: dict[str, list[Alias]] = {}
    for alias in ALIASES:
        grouped.setdefault(alias.base, []).append(alias)
    return grouped


def _holds(condition: Condition, fields: dict[str, int]) -> bool:
    return all(fields[k] == (fields[v] if isinstance(v, str) else v) for k, v in condition.items())


def _ordering(insn: Insn, fields: dict[str, int]) -> str:
    """``.aq``, ``.rl`` or ``.aqrl`` behind the name of an atomic."""
    letters = "".join(name for name in ("aq", "rl") if fields.get(name))
    return f".{letters}" if letters else ""


def _text(name: str, asm: str, fields: dict[str, int], pc: int | None) -> str:
    def operand(found: re.Match[str]) -> str:
        text = _operand(found[2], found[3] or "", fields[found[2]], pc)
        return text and (found[1] or "") + text

    operands = _FIELD.sub(operand, asm)
    return f"{name} {operands}" if operands else name


def _operand(field: str, form: str, value: int, pc: int | None) -> str:
    if field in X_FIELDS:
        return X_NAMES[value]
    if field in F_FIELDS:
        return F_NAMES[value]
    if field == "rm":
        return "" if value == DYN else ROUNDING_NAMES.get(value, f"rm{value}")
    if field == "csr":
        return CSR_NAMES.get(value, hex(value))
    match form:
        case "upper":
            return _integer(value >> 12 & 0xFFFFF)
        case "iorw":
            return "".join(letter for bit, letter in zip((8, 4, 2, 1), "iorw", strict=True) if value & bit) or "0"
        case "pc" if pc is not None:
            return hex((pc + value) & (1 << 64) - 1)
    return _integer(value)


def _integer(value: int) -> str:
    """Decimal up to 9, then hexadecimal, as capstone has it."""
    return str(value) if abs(value) < 10 else hex(value)
