"""Floating point by integers, in the guest language: every format, every rounding mode, exact results and flags.

The road of what the host's FPU does not do itself: roundTiesToAway (RMM), a static rounding mode other than the current
one, most of half precision. Straight-line code over guest values, without branches, loops or wide divisions, so that it
needs no run-time library. Given constants it computes at once, which is how its tests run without LLVM.

A finite nonzero number is unpacked to ``(-1)**sign * significand * 2**(exponent - 63)``, the leading one of the 64-bit
significand at bit 63. Results reach :func:`round_pack` in that form too, with bit 0 *sticky*: it stands for everything
nonzero below. 53 bits of precision and the bits that rounding looks at leave nine bits to spare.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpemu.isa.fp import DZ, FORMATS, INTEGERS, NV, NX, OF, RDN, RMM, RNE, RUP, UF, Format, Integer
from mpemu.isa.value import Value

Result = tuple[Value, Value]
"""(bit pattern, flags); flags have 64 bits."""

NO_FLAGS = Value(0, 64)
_NONZERO_BELOW_ALL = -(1 << 20)
"""The exponent that a zero pretends to have when numbers are aligned."""


@dataclass(frozen=True)
class Number:
    """An operand taken apart. All but ``exponent`` (signed) and ``significand`` have 1 bit."""

    sign: Value
    exponent: Value
    significand: Value
    nan: Value
    signalling: Value
    infinite: Value
    zero: Value


def flag(condition: Value, value: int) -> Value:
    """The flag bits ``value`` where ``condition`` holds."""
    return condition.mux(Value(value, 64), 0)


def unpack(bits: Value, fmt: Format) -> Number:
    word = bits.zext(64)
    magnitude = word & (fmt.mask ^ fmt.sign)
    fraction = magnitude & ((1 << fmt.fraction) - 1)
    biased = magnitude >> fmt.fraction
    subnormal = biased == 0
    raw = subnormal.mux(fraction, fraction | (1 << fmt.fraction))
    shift = raw.clz() & 63
    exponent = subnormal.mux(Value(1, 64), biased) - shift - (fmt.bias + fmt.fraction - 63)
    nan = magnitude.gtu(fmt.infinity)
    return Number(
        sign=bits.bit(fmt.width - 1),
        exponent=exponent,
        significand=raw << shift,
        nan=nan,
        signalling=nan & ((word & fmt.quiet) == 0),
        infinite=magnitude == fmt.infinity,
        zero=magnitude == 0,
    )


def shift_right_jam(value: Value, amount: Value) -> Value:
    """``value >> amount`` (a 64-bit unsigned amount of any size), with what falls off jammed into bit 0."""
    most = value.width - 1
    clamped = amount.gtu(most).mux(Value(most, 64), amount)
    clamped = clamped.zext(value.width) if value.width > 64 else clamped
    shifted = value >> clamped
    return shifted | ((shifted << clamped) != value).zext(value.width)


def _jam_high(value: Value) -> Value:
    """The high 64 of 128 bits, with the rest jammed into bit 0."""
    return value.bits(127, 64) | (value.lo(64) != 0).zext(64)


def _rounds_away(rm: Value, sign: Value, odd: Value, rest: Value, half: int) -> Value:
    """1 bit: whether a truncated magnitude goes up; ``rest`` are the discarded bits, ``half`` is their middle."""
    some = rest != 0
    nearest = rest.gtu(half) | ((rest == half) & ((rm == RMM) | odd))
    directed = ((rm == RDN) & sign | (rm == RUP) & ~sign) & some
    return ((rm == RNE) | (rm == RMM)).mux(nearest, directed)


def round_pack(sign: Value, exponent: Value, significand: Value, rm: Value, fmt: Format) -> Result:
    """Round a nonzero number to the format."""
    drop = 63 - fmt.fraction
    below, half = (1 << drop) - 1, 1 << (drop - 1)

    def rounded(bits: Value) -> Value:
        kept = bits >> drop
        return kept + _rounds_away(rm, sign, kept.bit(0), bits & below, half).zext(64)

    subnormal = exponent.lt(fmt.emin)
    aligned = subnormal.mux(shift_right_jam(significand, fmt.emin - exponent), significand)
    kept = rounded(aligned)
    inexact = (aligned & below) != 0
    # Tiny: below the normal range if exponents were unbounded; rounding may carry into it.
    carried = rounded(significand).bit(fmt.fraction + 1)
    tiny = subnormal & ~((exponent == fmt.emin - 1) & carried)
    # The hidden bit, or a carry out of the fraction, increments the exponent field.
    field = subnormal.mux(Value(0, 64), exponent + (fmt.bias - 1))
    magnitude = (field << fmt.fraction) + kept
    overflow = magnitude.geu(fmt.infinity)
    to_infinity = (rm == RNE) | (rm == RMM) | (sign.mux(Value(RDN, 64), RUP) == rm)
    limit = to_infinity.mux(Value(fmt.infinity, 64), fmt.largest)
    flags = flag(inexact, NX) | flag(inexact & tiny, UF)
    bits = overflow.mux(limit, magnitude) | sign.mux(Value(fmt.sign, 64), 0)
    return bits.lo(fmt.width), overflow.mux(Value(OF | NX, 64), flags)


def _signed(sign: Value, magnitude: int, fmt: Format) -> Value:
    """A constant magnitude with a run-time sign."""
    return sign.mux(Value(magnitude | fmt.sign, fmt.width), magnitude)


def _choose(result: Result, *cases: tuple[Value, Value | int, Value]) -> Result:
    """``result`` overridden by the first case (condition, bits, flags) that holds."""
    bits, flags = result
    for condition, other, other_flags in reversed(cases):
        bits, flags = condition.mux(other, bits), condition.mux(other_flags, flags)
    return bits, flags


@dataclass(frozen=True)
class _Term:
    """A finite summand: ``(-1)**sign * significand * 2**(exponent - 127)``, leading one at bit 127, or zero."""

    sign: Value
    exponent: Value
    significand: Value


def _sum(a: _Term, b: _Term, rm: Value, fmt: Format) -> Result:
    """The rounded sum of two finite terms whose low 20 bits are zero."""
    swap = a.exponent.lt(b.exponent) | ((a.exponent == b.exponent) & a.significand.ltu(b.significand))
    sign = swap.mux(b.sign, a.sign)
    exponent = swap.mux(b.exponent, a.exponent)
    large = swap.mux(b.significand, a.significand) >> 1  # room for the carry
    distance = exponent - swap.mux(a.exponent, b.exponent)
    small = shift_right_jam(swap.mux(a.significand, b.significand) >> 1, distance)
    total = (a.sign == b.sign).mux(large + small, large - small)
    zeros = total.clz() & 127
    result = round_pack(sign, exponent + 1 - zeros.lo(64), _jam_high(total << zeros), rm, fmt)
    zero_sign = (a.sign == b.sign).mux(a.sign, rm == RDN)
    return _choose(result, (total == 0, _signed(zero_sign, 0, fmt), NO_FLAGS))


def _term(number: Number) -> _Term:
    exponent = number.zero.mux(Value(_NONZERO_BELOW_ALL, 64), number.exponent)
    return _Term(number.sign, exponent, number.significand.zext(128) << 64)


def _product(a: Number, b: Number) -> _Term:
    """The exact product of two finite numbers (106 bits)."""
    product = a.significand.zext(128) * b.significand.zext(128)
    high = product.bit(127)
    exponent = a.exponent + b.exponent + high.zext(64)
    exponent = (a.zero | b.zero).mux(Value(_NONZERO_BELOW_ALL, 64), exponent)
    return _Term(a.sign ^ b.sign, exponent, high.mux(product, product << 1))


def add(x: Value, y: Value, rm: Value, fmt: Format) -> Result:
    a, b = unpack(x, fmt), unpack(y, fmt)
    opposed = a.infinite & b.infinite & (a.sign ^ b.sign)
    invalid = a.signalling | b.signalling | opposed
    return _choose(
        _sum(_term(a), _term(b), rm, fmt),
        (a.nan | b.nan | opposed, fmt.nan, flag(invalid, NV)),
        (a.infinite, x, NO_FLAGS),
        (b.infinite, y, NO_FLAGS),
    )


def mul(x: Value, y: Value, rm: Value, fmt: Format) -> Result:
    a, b = unpack(x, fmt), unpack(y, fmt)
    product = _product(a, b)
    undefined = (a.infinite & b.zero) | (a.zero & b.infinite)
    return _choose(
        round_pack(product.sign, product.exponent, _jam_high(product.significand), rm, fmt),
        (a.nan | b.nan | undefined, fmt.nan, flag(a.signalling | b.signalling | undefined, NV)),
        (a.infinite | b.infinite, _signed(product.sign, fmt.infinity, fmt), NO_FLAGS),
        (a.zero | b.zero, _signed(product.sign, 0, fmt), NO_FLAGS),
    )


def fma(x: Value, y: Value, z: Value, rm: Value, fmt: Format) -> Result:
    a, b, c = unpack(x, fmt), unpack(y, fmt), unpack(z, fmt)
    product = _product(a, b)
    undefined = (a.infinite & b.zero) | (a.zero & b.infinite)
    nan = a.nan | b.nan | c.nan
    infinite = a.infinite | b.infinite
    opposed = ~nan & infinite & c.infinite & (product.sign ^ c.sign)
    invalid = a.signalling | b.signalling | c.signalling | undefined | opposed
    return _choose(
        _sum(product, _term(c), rm, fmt),
        (nan | undefined | opposed, fmt.nan, flag(invalid, NV)),
        (infinite, _signed(product.sign, fmt.infinity, fmt), NO_FLAGS),
        (c.infinite, z, NO_FLAGS),
    )


def div(x: Value, y: Value, rm: Value, fmt: Format) -> Result:
    a, b = unpack(x, fmt), unpack(y, fmt)
    sign = a.sign ^ b.sign
    # Long division in digits of 11 bits: the remainder has 53, so 64-bit divisions do.
    divisor = (b.significand >> 11) | b.zero.zext(64)
    dividend = a.significand >> 11
    first = dividend.geu(divisor)
    quotient, remainder = first.zext(64), dividend - first.mux(divisor, 0)
    digits = -(-(fmt.fraction + 2) // 11)
    for _ in range(digits):
        shifted = remainder << 11
        digit = shifted.udiv(divisor)
        quotient, remainder = (quotient << 11) + digit, shifted - digit * divisor
    quotient = quotient << (63 - 11 * digits)  # leading one at bit 63, or 62 if the first digit is 0
    significand = first.mux(quotient, quotient << 1) | (remainder != 0).zext(64)
    exponent = a.exponent - b.exponent - 1 + first.zext(64)
    undefined = (a.infinite & b.infinite) | (a.zero & b.zero)
    return _choose(
        round_pack(sign, exponent, significand, rm, fmt),
        (a.nan | b.nan | undefined, fmt.nan, flag(a.signalling | b.signalling | undefined, NV)),
        (a.infinite, _signed(sign, fmt.infinity, fmt), NO_FLAGS),
        (b.zero, _signed(sign, fmt.infinity, fmt), Value(DZ, 64)),
        (a.zero | b.infinite, _signed(sign, 0, fmt), NO_FLAGS),
    )


def sqrt(x: Value, rm: Value, fmt: Format) -> Result:
    a = unpack(x, fmt)
    # Digit by digit on a radicand with two integer bits, in [1, 4).
    radicand = a.exponent.bit(0).mux(a.significand, a.significand >> 1)
    root, remainder = Value(0, 64), Value(0, 64)
    bits = fmt.fraction + 3
    for i in range(bits):
        remainder = remainder << 2
        if i < 32:
            remainder = remainder | ((radicand >> (62 - 2 * i)) & 3)
        trial = (root << 2) | 1
        fits = remainder.geu(trial)
        remainder = remainder - fits.mux(trial, 0)
        root = (root << 1) | fits.zext(64)
    significand = (root << (64 - bits)) | (remainder != 0).zext(64)
    undefined = a.sign & ~a.zero
    return _choose(
        round_pack(Value(0, 1), a.exponent.sra(1), significand, rm, fmt),
        (a.nan | undefined, fmt.nan, flag(a.signalling | (undefined & ~a.nan), NV)),
        (a.infinite | a.zero, x, NO_FLAGS),
    )


def less(x: Value, y: Value) -> Value:
    """1 bit: x < y for two numbers (not NaNs) by their bits, with -0 below +0."""
    last = x.width - 1
    # Flipping the magnitude of negative numbers orders them as signed integers.
    return (x ^ (x.sra(last) >> 1)).lt(y ^ (y.sra(last) >> 1))


def least_or_greatest(op: str, x: Value, y: Value) -> Value:
    """The minimum or maximum of two numbers (not NaNs)."""
    return less(x, y).mux(x, y) if op == "min" else less(x, y).mux(y, x)


def min_max(op: str, x: Value, y: Value, fmt: Format) -> Result:
    a, b = unpack(x, fmt), unpack(y, fmt)
    bits = a.nan.mux(b.nan.mux(Value(fmt.nan, fmt.width), y), b.nan.mux(x, least_or_greatest(op, x, y)))
    return bits, flag(a.signalling | b.signalling, NV)


def compare(op: str, x: Value, y: Value, fmt: Format) -> Result:
    a, b = unpack(x, fmt), unpack(y, fmt)
    zeros, nan = a.zero & b.zero, a.nan | b.nan
    equal = (x == y) | zeros
    below = less(x, y) & ~zeros
    holds = {"eq": equal, "lt": below, "le": below | equal}[op]
    invalid = a.signalling | b.signalling if op == "eq" else nan
    return (holds & ~nan).zext(64), flag(invalid, NV)


def classify(x: Value, fmt: Format) -> Value:
    a = unpack(x, fmt)
    subnormal = (x & fmt.infinity) == 0
    negative = subnormal.mux(Value(1 << 2, 64), 1 << 1)
    positive = subnormal.mux(Value(1 << 5, 64), 1 << 6)
    negative = a.zero.mux(Value(1 << 3, 64), a.infinite.mux(Value(1 << 0, 64), negative))
    positive = a.zero.mux(Value(1 << 4, 64), a.infinite.mux(Value(1 << 7, 64), positive))
    nan = a.signalling.mux(Value(1 << 8, 64), 1 << 9)
    return a.nan.mux(nan, a.sign.mux(negative, positive))


def from_integer(x: Value, integer: Integer, rm: Value, fmt: Format) -> Result:
    word = x.sext(64) if integer.signed else x.zext(64)
    sign = word.bit(63) if integer.signed else Value(0, 1)
    magnitude = sign.mux(-word, word)
    shift = magnitude.clz() & 63
    result = round_pack(sign, 63 - shift, magnitude << shift, rm, fmt)
    return _choose(result, (word == 0, Value(0, fmt.width), NO_FLAGS))


def to_integer(x: Value, integer: Integer, rm: Value, fmt: Format) -> Result:
    a = unpack(x, fmt)
    # 64 bits of integer over 64 bits of fraction; exponents above 63 are far out of range of everything.
    fixed = shift_right_jam(a.significand.zext(128) << 64, a.exponent.gt(63).mux(Value(0, 64), 63 - a.exponent))
    whole, rest = fixed.bits(127, 64), fixed.lo(64)
    magnitude = whole.zext(128) + _rounds_away(rm, a.sign, whole.bit(0), rest, 1 << 63).zext(128)
    limit = a.sign.mux(Value(-integer.least, 128), integer.greatest)
    invalid = a.nan | a.infinite | (~a.zero & (a.exponent.gt(63) | magnitude.gtu(limit)))
    value = a.sign.mux(-magnitude, magnitude).lo(integer.width)
    saturated = (a.sign & ~a.nan).mux(Value(integer.least, integer.width), integer.greatest)
    return _choose(
        (value, flag(rest != 0, NX)),
        (invalid, saturated, Value(NV, 64)),
        (a.zero, Value(0, integer.width), NO_FLAGS),
    )


def convert_format(x: Value, source: Format, rm: Value, to: Format) -> Result:
    a = unpack(x, source)
    return _choose(
        round_pack(a.sign, a.exponent, a.significand, rm, to),
        (a.nan, to.nan, flag(a.signalling, NV)),
        (a.infinite, _signed(a.sign, to.infinity, to), NO_FLAGS),
        (a.zero, _signed(a.sign, 0, to), NO_FLAGS),
    )


def evaluate(op: str, fmt: str, operands: tuple[Value, ...], rm: Value, to: str = "") -> Result:
    """The operation of ``Hart.fp``: (result, flags). ``rm`` (64 bits) is one of the five modes, never DYN."""
    if op == "cvt":
        if fmt in INTEGERS:
            return from_integer(operands[0], INTEGERS[fmt], rm, FORMATS[to])
        if to in INTEGERS:
            return to_integer(operands[0], INTEGERS[to], rm, FORMATS[fmt])
        return convert_format(operands[0], FORMATS[fmt], rm, FORMATS[to])
    f = FORMATS[fmt]
    match op:
        case "add":
            return add(operands[0], operands[1], rm, f)
        case "sub":
            return add(operands[0], operands[1] ^ f.sign, rm, f)
        case "mul":
            return mul(operands[0], operands[1], rm, f)
        case "div":
            return div(operands[0], operands[1], rm, f)
        case "sqrt":
            return sqrt(operands[0], rm, f)
        case "fma":
            return fma(operands[0], operands[1], operands[2], rm, f)
        case "min" | "max":
            return min_max(op, operands[0], operands[1], f)
        case "eq" | "lt" | "le":
            return compare(op, operands[0], operands[1], f)
        case "class":
            return classify(operands[0], f), NO_FLAGS
    raise ValueError(f"unknown floating-point operation {op!r}")
