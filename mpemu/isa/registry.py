"""The instruction table: patterns as the manual prints them, bodies beside them.

A pattern lists fields from bit 31 (or 15) down to 0: groups of binary digits, register fields (``rd rs1 rs2 rs3``
integer, ``fd fs1 fs2 fs3`` floating point, with a prime, ``rd'``, for the three-bit forms), ``rm aq rl csr``, and
immediates with the bits they carry, exactly as in the instruction listings of the unprivileged manual:
``imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011``. An immediate is sign-extended if its name is ``imm``, zero-extended if
it is ``uimm``, ``shamt``... A register may be listed with bits too: ``rd[4:1] 0`` is an even one. Bits of a value that
no token mentions are zero.

Decoder, disassembler, record layout and documentation are derived from this table; nothing else knows an encoding.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Body = Callable[..., None]

X_FIELDS = frozenset({"rd", "rs1", "rs2", "rs3"})
F_FIELDS = frozenset({"fd", "fs1", "fs2", "fs3"})
_WIDTHS = {**dict.fromkeys(X_FIELDS | F_FIELDS, 5), "rm": 3, "aq": 1, "rl": 1, "csr": 12}
_TOKEN = re.compile(r"(?P<name>[a-z]\w*)(?P<prime>')?(?:\[(?P<bits>[\d:|]+)\])?$")


@dataclass(frozen=True)
class Field:
    """One operand: which instruction bits make it up. ``parts`` are (instruction low bit, width, value low bit)."""

    name: str
    parts: tuple[tuple[int, int, int], ...]
    signed: bool = False
    bias: int = 0

    @property
    def width(self) -> int:
        """Bits of the value, the unmentioned low ones included."""
        return max(low + width for _, width, low in self.parts)

    def extract(self, word: int) -> int:
        value = 0
        for source, width, low in self.parts:
            value |= ((word >> source) & ((1 << width) - 1)) << low
        if self.signed and value >> (self.width - 1):
            value -= 1 << self.width
        return value + self.bias

    def insert(self, value: int) -> int:
        """The instruction bits that hold ``value``; ValueError if it does not fit."""
        word = 0
        for source, width, low in self.parts:
            word |= (((value - self.bias) >> low) & ((1 << width) - 1)) << source
        if self.extract(word) != value:
            raise ValueError(f"{value} does not fit the field {self.name}")
        return word


@dataclass(frozen=True)
class Pattern:
    """An encoding: fixed bits (``word & mask == match``) and fields. ``length`` is 2 or 4 bytes."""

    text: str
    length: int
    mask: int
    match: int
    fields: dict[str, Field]

    @classmethod
    def parse(cls, text: str, length: int) -> Pattern:
        position, mask, match = 8 * length, 0, 0
        parts: dict[str, list[tuple[int, int, int]]] = {}
        primes: dict[str, bool] = {}
        for token in text.split():
            if set(token) <= {"0", "1"}:
                position -= len(token)
                mask |= ((1 << len(token)) - 1) << position
                match |= int(token, 2) << position
                continue
            found = _TOKEN.match(token)
            if not found:
                raise ValueError(f"pattern {text!r}: can't read {token!r}")
            name = found["name"]
            primes[name] = bool(found["prime"])
            if found["bits"]:
                ranges = [tuple(map(int, r.split(":"))) for r in found["bits"].split("|")]
            else:
                width = 3 if found["prime"] else _WIDTHS.get(name, 0)
                if not width:
                    raise ValueError(f"pattern {text!r}: say which bits {name} has, as in {name}[5:0]")
                ranges = [(width - 1, 0)]
            for r in ranges:
                high, low = (r[0], r[-1])
                position -= high - low + 1
                parts.setdefault(name, []).append((position, high - low + 1, low))
        if position:
            raise ValueError(f"pattern {text!r} has {8 * length - position} bits, not {8 * length}")
        fields = {n: Field(n, tuple(p), n == "imm", 8 if primes[n] else 0) for n, p in parts.items()}
        return cls(text, length, mask, match, fields)

    def matches(self, word: int) -> bool:
        return word & self.mask == self.match

    def extract(self, word: int) -> dict[str, int]:
        return {name: field.extract(word) for name, field in self.fields.items()}

    def encode(self, **operands: int) -> int:
        word = self.match
        for name, field in self.fields.items():
            word |= field.insert(operands.get(name, field.bias))
        return word


@dataclass(frozen=True, eq=False)
class Insn:
    """An instruction: its encoding, its assembly operands, the extension that brings it, and what it does."""

    name: str
    pattern: Pattern
    asm: str
    ext: str
    body: Body
    ends_block: bool
    doc: str

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Field names in the order of the body's parameters."""
        return tuple(inspect.signature(self.body).parameters)[1:]


@dataclass(frozen=True)
class Compressed:
    """A 16-bit encoding and the base instruction it stands for. ``operands`` map base fields to a field or an int."""

    name: str
    pattern: Pattern
    base: str
    operands: dict[str, str | int]
    ext: str
    nonzero: tuple[str, ...]
    asm: str

    def expand(self, halfword: int) -> dict[str, int] | None:
        """The base instruction's operands; None where the encoding is reserved (a field that must not be zero is)."""
        fields = self.pattern.extract(halfword)
        if any(fields[name] == 0 for name in self.nonzero):
            return None
        return {k: fields[v] if isinstance(v, str) else v for k, v in self.operands.items()}


INSNS: dict[str, Insn] = {}
COMPRESSED: list[Compressed] = []


def insn(pattern: str, asm: str = "", *, ext: str, name: str = "", ends_block: bool = False) -> Callable[[Body], Body]:
    """Register ``body`` as an instruction. The name is the function's, ``_`` becoming ``.`` (``lr_w`` -> ``lr.w``)."""

    def register(body: Body) -> Body:
        mnemonic = name or body.__name__.strip("_").replace("_", ".")
        if mnemonic in INSNS:
            raise ValueError(f"instruction {mnemonic} is defined twice")
        parsed = Pattern.parse(pattern, 4)
        unknown = [p for p in tuple(inspect.signature(body).parameters)[1:] if p not in parsed.fields]
        if unknown:
            raise ValueError(f"{mnemonic}: the pattern has no field {', '.join(unknown)}")
        INSNS[mnemonic] = Insn(mnemonic, parsed, asm, ext, body, ends_block, inspect.getdoc(body) or "")
        return body

    return register


def compressed(name: str, pattern: str, asm: str, expansion: str, *, ext: str = "C", nonzero: str = "") -> None:
    """Register a 16-bit form. ``nonzero`` names fields whose zero is reserved, or another instruction.

    ``expansion`` is the base instruction and its operands: in ``lw rd rs1=2 imm=uimm``, rd is the field of that name.
    """
    base, *words = expansion.split()
    pairs = [word.partition("=") for word in words]
    operands = {key: int(source) if source.lstrip("-").isdigit() else source or key for key, _, source in pairs}
    COMPRESSED.append(Compressed(name, Pattern.parse(pattern, 2), base, operands, ext, tuple(nonzero.split()), asm))


@functools.cache
def _by_specificity(exts: frozenset[str] | None) -> tuple[list[Insn], list[Compressed]]:
    insns = [i for i in INSNS.values() if exts is None or i.ext in exts]
    short = [c for c in COMPRESSED if exts is None or (c.ext in exts and c.base in INSNS and INSNS[c.base].ext in exts)]
    insns.sort(key=lambda i: -i.pattern.mask.bit_count())
    short.sort(key=lambda c: -c.pattern.mask.bit_count())
    return insns, short


_KEYS = {4: 0x707F, 2: 0xE003}
"""By length: opcode and funct3, by which :func:`_candidates` are looked up."""


@functools.cache
def _candidates(exts: frozenset[str] | None, length: int, key: int) -> list[Any]:
    """The instructions (4 bytes) or forms (2) that may have these bits where _KEYS says, most specific first."""
    mask = _KEYS[length]
    every: list[Any] = list(_by_specificity(exts)[0 if length == 4 else 1])
    return [one for one in every if (one.pattern.match ^ key) & one.pattern.mask & mask == 0]


def decode(word: int, exts: frozenset[str] | None = None) -> tuple[Insn, dict[str, int], int] | None:
    """Decode the instruction in the low bits of ``word``: (instruction, operands, length in bytes), or None if illegal.

    ``exts`` restricts the table to these extensions (None: all). The plain search is the reference; the interpreter's
    native decoder is generated from the same table and tested against this one.
    """
    found = _decode(word, exts)
    return found and (found[0], dict(found[1]), found[2])


@functools.lru_cache(1 << 14)
def _decode(word: int, exts: frozenset[str] | None) -> tuple[Insn, dict[str, int], int] | None:
    if word & 3 == 3:
        for i in _candidates(exts, 4, word & _KEYS[4]):
            if i.pattern.matches(word & 0xFFFF_FFFF):
                return i, i.pattern.extract(word), 4
        return None
    form = decode_compressed(word, exts)
    if form is None:
        return None
    operands = form.expand(word & 0xFFFF)
    assert operands is not None
    return INSNS[form.base], operands, 2


def decode_compressed(word: int, exts: frozenset[str] | None = None) -> Compressed | None:
    """The 16-bit form in the low bits of ``word``, or None if they are reserved."""
    for form in _candidates(exts, 2, word & _KEYS[2]):
        if form.pattern.matches(word & 0xFFFF) and form.expand(word & 0xFFFF) is not None:
            found: Compressed = form
            return found
    return None


X_NAMES = (
    *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2"),
    *(f"s{n}" for n in range(2)),
    *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)),
    *(f"t{n}" for n in range(3, 7)),
)
"""ABI names of the integer registers by number."""

F_NAMES = (
    *(f"ft{n}" for n in range(8)),
    *(f"fs{n}" for n in range(2)),
    *(f"fa{n}" for n in range(8)),
    *(f"fs{n}" for n in range(2, 12)),
    *(f"ft{n}" for n in range(8, 12)),
)
"""ABI names of the floating-point registers by number."""


def x_number(name: str) -> int:
    """The number of an integer register by ABI name (``a0``) or number (``x10``)."""
    if name in X_NAMES:
        return X_NAMES.index(name)
    if name == "fp":
        return 8
    if name.startswith("x") and name[1:].isdigit() and int(name[1:]) < 32:
        return int(name[1:])
    raise ValueError(f"{name!r} is not an integer register")


def registers_read(i: Insn) -> Iterable[str]:
    """The integer register fields that the body may read."""
    return (f for f in i.pattern.fields if f in X_FIELDS and f != "rd")


def forget_cache() -> None:
    """For tests that register instructions of their own."""
    for cached in (_by_specificity, _candidates, _decode):
        cached.cache_clear()


def defaults(fields: dict[str, Field]) -> dict[str, Any]:
    """Operands that encode to zero bits."""
    return {name: field.bias for name, field in fields.items()}
