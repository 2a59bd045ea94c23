"""The exact oracle of floating point: plain integers, each operation computed exactly and rounded once.

Slow, and written to be obviously right rather than fast: a finite number is ``(-1)**sign * significand * 2**exponent``
with integers of any size, IEEE 754-2019 and the unprivileged ISA manual (chapters "F", "Zfh") say the rest. It is the
arithmetic of the reference model, and what the generated code is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpemu.isa.fp import DZ, FORMATS, INTEGERS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF, Format, Integer
from mpemu.isa.value import signed

Result = tuple[int, int]
"""(bit pattern, flags)"""


@dataclass(frozen=True)
class Number:
    """A datum taken apart. ``kind`` is "finite", "inf", "qnan" or "snan"; zero is finite with significand 0."""

    kind: str
    sign: int
    significand: int = 0
    exponent: int = 0

    @property
    def nan(self) -> bool:
        return self.kind in ("qnan", "snan")

    @property
    def zero(self) -> bool:
        return self.kind == "finite" and self.significand == 0

    @property
    def signed_significand(self) -> int:
        return -self.significand if self.sign else self.significand


def unpack(bits: int, fmt: Format) -> Number:
    sign = bits >> (fmt.width - 1)
    exponent = (bits & fmt.infinity) >> fmt.fraction
    fraction = bits & ((1 << fmt.fraction) - 1)
    if bits & fmt.infinity == fmt.infinity:
        return Number("inf" if not fraction else "qnan" if fraction & fmt.quiet else "snan", sign)
    if exponent:
        fraction |= 1 << fmt.fraction
    return Number("finite", sign, fraction, max(exponent, 1) - fmt.bias - fmt.fraction)


def _rounds_away(rm: int, sign: int, odd: bool, half: int) -> bool:
    """Whether an inexact value leaves its truncation ``odd``; ``half`` is -1, 0, 1: below, at, above the midpoint."""
    if rm == RNE:
        return half > 0 or (half == 0 and odd)
    if rm == RMM:
        return half >= 0
    if rm == RTZ:
        return False
    if rm in (RDN, RUP):
        return sign == (rm == RDN)
    raise ValueError(f"{rm} is not a rounding mode")


def round_scaled(significand: int, exponent: int, sticky: bool, unit: int, sign: int, rm: int) -> tuple[int, bool]:
    """Round ``significand * 2**exponent`` to a multiple of ``2**unit``: (the multiple, whether that was inexact).

    ``sticky`` says that the true value lies strictly between this and the next significand; ``exponent`` must then be
    well below ``unit``.
    """
    shift = unit - exponent
    if shift <= 0:
        assert not sticky
        return significand << -shift, False
    kept, rest = significand >> shift, significand & ((1 << shift) - 1)
    inexact = bool(rest) or sticky
    middle = 1 << (shift - 1)
    half = -1 if rest < middle else 1 if rest > middle or sticky else 0
    if inexact and _rounds_away(rm, sign, bool(kept & 1), half):
        kept += 1
    return kept, inexact


def pack(sign: int, significand: int, exponent: int, fmt: Format, rm: int, sticky: bool = False) -> Result:
    """Round a nonzero ``(-1)**sign * significand * 2**exponent`` (plus ``sticky``) to the format."""
    if sticky:  # room for the bits that rounding looks at
        extra = 2 * fmt.width
        significand, exponent = significand << extra, exponent - extra
    top = significand.bit_length() - 1 + exponent
    unbounded_unit = top - fmt.fraction
    unit = max(unbounded_unit, fmt.emin - fmt.fraction)
    kept, inexact = round_scaled(significand, exponent, sticky, unit, sign, rm)
    flags = NX if inexact else 0
    if inexact:
        # Tininess after rounding: would the result be below the normal range if exponents were unbounded?
        free, _ = round_scaled(significand, exponent, sticky, unbounded_unit, sign, rm)
        if free.bit_length() - 1 + unbounded_unit < fmt.emin:
            flags |= UF
    if kept >> (fmt.fraction + 1):  # the carry of rounding up; the bit lost is 0
        kept, unit = kept >> 1, unit + 1
    biased = unit + fmt.fraction + fmt.bias
    sign_bit = sign << (fmt.width - 1)
    if biased >= (1 << fmt.exponent) - 1:
        to_infinity = rm in (RNE, RMM) or rm == (RDN if sign else RUP)
        return sign_bit | (fmt.infinity if to_infinity else fmt.largest), OF | NX
    if not kept >> fmt.fraction:
        return sign_bit | kept, flags
    return sign_bit | (biased << fmt.fraction) | (kept & ((1 << fmt.fraction) - 1)), flags


def _zero(sign: int, fmt: Format) -> int:
    return sign << (fmt.width - 1)


def _infinity(sign: int, fmt: Format) -> int:
    return _zero(sign, fmt) | fmt.infinity


def _signalling(*numbers: Number) -> int:
    return NV if any(n.kind == "snan" for n in numbers) else 0


def _fma(a: Number, b: Number, c: Number, fmt: Format, rm: int) -> Result:
    sign = a.sign ^ b.sign
    invalid = (a.kind == "inf" and b.zero) or (a.zero and b.kind == "inf")
    if invalid or a.nan or b.nan or c.nan:
        return fmt.nan, NV if invalid else _signalling(a, b, c)
    if a.kind == "inf" or b.kind == "inf":
        return (fmt.nan, NV) if c.kind == "inf" and c.sign != sign else (_infinity(sign, fmt), 0)
    if c.kind == "inf":
        return _infinity(c.sign, fmt), 0
    product, exponent = a.significand * b.significand, a.exponent + b.exponent
    low = min(exponent, c.exponent)
    total = ((-product if sign else product) << (exponent - low)) + (c.signed_significand << (c.exponent - low))
    if total:
        return pack(int(total < 0), abs(total), low, fmt, rm)
    # An exact zero: the sign both terms share, else + (but - if rounding down).
    return _zero(sign if sign == c.sign else int(rm == RDN), fmt), 0


def _add(a: Number, b: Number, fmt: Format, rm: int) -> Result:
    return _fma(a, Number("finite", 0, 1, 0), b, fmt, rm)


def _mul(a: Number, b: Number, fmt: Format, rm: int) -> Result:
    return _fma(a, b, Number("finite", a.sign ^ b.sign), fmt, rm)


def _div(a: Number, b: Number, fmt: Format, rm: int) -> Result:
    sign = a.sign ^ b.sign
    if a.nan or b.nan:
        return fmt.nan, _signalling(a, b)
    if a.kind == "inf":
        return (fmt.nan, NV) if b.kind == "inf" else (_infinity(sign, fmt), 0)
    if b.kind == "inf":
        return _zero(sign, fmt), 0
    if b.zero:
        return (fmt.nan, NV) if a.zero else (_infinity(sign, fmt), DZ)
    if a.zero:
        return _zero(sign, fmt), 0
    scale = 2 * fmt.width
    quotient, remainder = divmod(a.significand << scale, b.significand)
    return pack(sign, quotient, a.exponent - b.exponent - scale, fmt, rm, bool(remainder))


def _sqrt(a: Number, fmt: Format, rm: int) -> Result:
    if a.nan:
        return fmt.nan, _signalling(a)
    if a.zero:
        return _zero(a.sign, fmt), 0
    if a.sign:
        return fmt.nan, NV
    if a.kind == "inf":
        return fmt.infinity, 0
    scale = 2 * fmt.width + (a.exponent & 1)
    radicand = a.significand << scale
    root = math.isqrt(radicand)
    return pack(0, root, (a.exponent - scale) // 2, fmt, rm, root * root != radicand)


def _order(bits: int, fmt: Format) -> int:
    """An int that orders numbers by value, -0 below +0."""
    magnitude = bits & ~fmt.sign
    return -magnitude - 1 if bits & fmt.sign else magnitude


def _min_max(op: str, bits: Sequence[int], fmt: Format) -> Result:
    a, b = (unpack(x, fmt) for x in bits)
    flags = _signalling(a, b)
    if a.nan or b.nan:
        return (fmt.nan if a.nan and b.nan else bits[a.nan]), flags
    return (min if op == "min" else max)(bits, key=lambda x: _order(x, fmt)), flags


def _compare(op: str, bits: Sequence[int], fmt: Format) -> Result:
    a, b = (unpack(x, fmt) for x in bits)
    if a.nan or b.nan:
        return 0, _signalling(a, b) if op == "eq" else NV
    if a.zero and b.zero:
        return int(op != "lt"), 0
    x, y = _order(bits[0], fmt), _order(bits[1], fmt)
    return int(x == y if op == "eq" else x < y if op == "lt" else x <= y), 0


def _class(bits: int, fmt: Format) -> int:
    number = unpack(bits, fmt)
    if number.nan:
        return 1 << (8 if number.kind == "snan" else 9)
    if number.kind == "inf":
        rank = 3
    elif number.zero:
        rank = 0
    else:
        rank = 2 if number.significand >> fmt.fraction else 1
    return 1 << (3 - rank if number.sign else 4 + rank)


def _to_integer(a: Number, integer: Integer, rm: int) -> Result:
    mask = (1 << integer.width) - 1
    if a.kind != "finite":
        return (integer.least if a.kind == "inf" and a.sign else integer.greatest) & mask, NV
    magnitude, inexact = round_scaled(a.significand, a.exponent, False, 0, a.sign, rm)
    value = -magnitude if a.sign else magnitude
    if value < integer.least:
        return integer.least & mask, NV
    if value > integer.greatest:
        return integer.greatest, NV
    return value & mask, NX if inexact else 0


def _convert(source: str, bits: int, to: str, rm: int) -> Result:
    if source in INTEGERS:
        integer = INTEGERS[source]
        value = signed(bits, integer.width) if integer.signed else bits
        return pack(int(value < 0), abs(value), 0, FORMATS[to], rm) if value else (0, 0)
    number = unpack(bits, FORMATS[source])
    if to in INTEGERS:
        return _to_integer(number, INTEGERS[to], rm)
    target = FORMATS[to]
    if number.nan:
        return target.nan, _signalling(number)
    if number.kind == "inf":
        return _infinity(number.sign, target), 0
    if number.zero:
        return _zero(number.sign, target), 0
    return pack(number.sign, number.significand, number.exponent, target, rm)


def evaluate(op: str, fmt: str, operands: Sequence[int], rm: int = RNE, to: str = "") -> Result:
    """The operation of ``Hart.fp`` on bit patterns: (result, the flags it raises). ``rm`` is one of the five modes."""
    if op == "cvt":
        return _convert(fmt, operands[0], to, rm)
    f = FORMATS[fmt]
    if op in ("min", "max"):
        return _min_max(op, operands, f)
    if op in ("eq", "lt", "le"):
        return _compare(op, operands, f)
    if op == "class":
        return _class(operands[0], f), 0
    numbers = [unpack(x, f) for x in operands]
    match op:
        case "add":
            return _add(numbers[0], numbers[1], f, rm)
        case "sub":
            negated = unpack(operands[1] ^ f.sign, f)
            return _add(numbers[0], negated, f, rm)
        case "mul":
            return _mul(numbers[0], numbers[1], f, rm)
        case "fma":
            return _fma(numbers[0], numbers[1], numbers[2], f, rm)
        case "div":
            return _div(numbers[0], numbers[1], f, rm)
        case "sqrt":
            return _sqrt(numbers[0], f, rm)
    raise ValueError(f"unknown floating-point operation {op!r}")
