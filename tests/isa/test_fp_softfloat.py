"""The exact oracle against Python's own arithmetic, and against the corners that the manuals spell out."""

from __future__ import annotations

import math
import random
import struct

import pytest

from mpemu.isa.fp import DZ, FORMATS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF
from mpemu.isa.softfloat import evaluate

H, S, D = FORMATS["h"], FORMATS["s"], FORMATS["d"]
LETTER = {"h": ("<e", "<H"), "s": ("<f", "<I"), "d": ("<d", "<Q")}
ONE = {"h": 0x3C00, "s": 0x3F800000, "d": 0x3FF0000000000000}


def number(bits: int, fmt: str) -> float:
    as_float, as_int = LETTER[fmt]
    return float(struct.unpack(as_float, struct.pack(as_int, bits))[0])


def bits(value: float, fmt: str) -> int:
    """To nearest even; an overflow is infinity, as IEEE 754 has it."""
    as_float, as_int = LETTER[fmt]
    try:
        return int(struct.unpack(as_int, struct.pack(as_float, value))[0])
    except OverflowError:
        return FORMATS[fmt].infinity | (FORMATS[fmt].sign if value < 0 else 0)


def finite(r: random.Random, fmt: str) -> int:
    f = FORMATS[fmt]
    while True:
        x = r.getrandbits(f.width)
        if x & f.infinity != f.infinity:
            return x


@pytest.mark.parametrize("fmt", ["h", "s", "d"])
def test_arithmetic_rounds_to_nearest_as_python_does(fmt: str) -> None:
    # Doubles have more than twice the bits of singles and halves, so rounding twice is harmless there.
    r = random.Random(fmt)
    for _ in range(2000):
        a, b = finite(r, fmt), finite(r, fmt)
        x, y = number(a, fmt), number(b, fmt)
        expected = {"add": x + y, "sub": x - y, "mul": x * y, "sqrt": math.sqrt(abs(x))}
        if y:
            expected["div"] = x / y
        for op, value in expected.items():
            operands = [a & ~FORMATS[fmt].sign] if op == "sqrt" else [a, b]
            assert evaluate(op, fmt, operands)[0] == bits(value, fmt), (op, hex(a), hex(b))


def test_conversions_round_to_nearest_as_python_does() -> None:
    r = random.Random(1)
    for _ in range(5000):
        a = finite(r, "d")
        if r.random() < 0.7:  # into the range of halves
            a = (a & ~D.infinity) | r.randint(D.bias - 28, D.bias + 18) << D.fraction
        for to in ("h", "s"):
            assert evaluate("cvt", "d", [a], RNE, to)[0] == bits(number(a, "d"), to)
        i = r.getrandbits(64)
        assert evaluate("cvt", "lu", [i], RNE, "d")[0] == bits(float(i), "d")


@pytest.mark.parametrize("fmt", ["h", "s", "d"])
def test_the_rounding_modes_differ_where_they_should(fmt: str) -> None:
    f, one = FORMATS[fmt], ONE[fmt]
    half_ulp = one - ((f.fraction + 1) << f.fraction)
    up = {RNE: 0, RTZ: 0, RDN: 0, RUP: 1, RMM: 1}
    down = {RNE: 0, RTZ: 0, RDN: 1, RUP: 0, RMM: 1}  # magnitudes
    for rm in range(5):
        assert evaluate("add", fmt, [one, half_ulp], rm) == (one + up[rm], NX)
        assert evaluate("add", fmt, [one | f.sign, half_ulp | f.sign], rm) == ((one | f.sign) + down[rm], NX)
        overflowed = f.infinity if rm in (RNE, RUP, RMM) else f.largest
        assert evaluate("add", fmt, [f.largest, f.largest], rm) == (overflowed, OF | NX)


@pytest.mark.parametrize("fmt", ["h", "s", "d"])
def test_tininess_is_detected_after_rounding(fmt: str) -> None:
    f = FORMATS[fmt]
    least_normal, one = 1 << f.fraction, ONE[fmt]
    # Just below the least normal number, by less than half an ulp even of an unbounded exponent: rounds up, not tiny.
    nearly = evaluate("fma", fmt, [1, evaluate("sub", fmt, [one, one - 2])[0], least_normal], RNE)
    assert nearly == (least_normal, NX)
    # Three quarters of an ulp below one times the least normal: rounds to it, but tiny with an unbounded exponent.
    assert evaluate("mul", fmt, [least_normal, one - 1], RNE) == (least_normal, UF | NX)
    # An exact subnormal is no underflow.
    assert evaluate("div", fmt, [least_normal, one + (1 << f.fraction)], RNE) == (least_normal >> 1, 0)


@pytest.mark.parametrize("fmt", ["h", "s", "d"])
def test_invalid_operations_and_nans(fmt: str) -> None:
    f, one = FORMATS[fmt], ONE[fmt]
    quiet, signalling = f.nan | 1 | f.sign, f.infinity | 1
    inf, zero = f.infinity, 0
    assert evaluate("add", fmt, [quiet, one]) == (f.nan, 0)
    assert evaluate("add", fmt, [signalling, one]) == (f.nan, NV)
    assert evaluate("sub", fmt, [inf, inf]) == (f.nan, NV)
    assert evaluate("mul", fmt, [zero, inf]) == (f.nan, NV)
    assert evaluate("div", fmt, [zero, zero]) == (f.nan, NV)
    assert evaluate("div", fmt, [one, zero | f.sign]) == (inf | f.sign, DZ)
    assert evaluate("sqrt", fmt, [one | f.sign]) == (f.nan, NV)
    assert evaluate("sqrt", fmt, [f.sign]) == (f.sign, 0)
    assert evaluate("fma", fmt, [inf, zero, quiet]) == (f.nan, NV)
    assert evaluate("fma", fmt, [quiet, one, one]) == (f.nan, 0)
    assert evaluate("min", fmt, [quiet, one]) == (one, 0)
    assert evaluate("max", fmt, [one, signalling]) == (one, NV)
    assert evaluate("min", fmt, [quiet, quiet]) == (f.nan, 0)
    assert evaluate("min", fmt, [0, f.sign]) == (f.sign, 0)
    assert evaluate("max", fmt, [f.sign, 0]) == (0, 0)
    assert evaluate("eq", fmt, [quiet, one]) == (0, 0)
    assert evaluate("eq", fmt, [signalling, one]) == (0, NV)
    assert evaluate("lt", fmt, [quiet, one]) == (0, NV)
    assert evaluate("eq", fmt, [0, f.sign]) == (1, 0)


@pytest.mark.parametrize("fmt", ["h", "s", "d"])
def test_an_exact_zero_sum_has_the_sign_of_the_rounding_mode(fmt: str) -> None:
    f, one = FORMATS[fmt], ONE[fmt]
    for rm in range(5):
        assert evaluate("sub", fmt, [one, one], rm) == (f.sign if rm == RDN else 0, 0)
        assert evaluate("add", fmt, [f.sign, f.sign], rm) == (f.sign, 0)
        assert evaluate("fma", fmt, [one, f.sign, 0], rm) == (f.sign if rm == RDN else 0, 0)


def test_integers_saturate_and_are_invalid_but_not_inexact() -> None:
    big, minus = bits(3e9 + 0.5, "d"), bits(-1.5, "d")
    assert evaluate("cvt", "d", [big], RTZ, "w") == (0x7FFFFFFF, NV)
    assert evaluate("cvt", "d", [big], RTZ, "wu") == (3000000000, NX)
    assert evaluate("cvt", "d", [minus], RTZ, "wu") == (0, NV)
    assert evaluate("cvt", "d", [minus], RTZ, "w") == (0xFFFFFFFF, NX)
    assert evaluate("cvt", "d", [bits(-0.5, "d")], RTZ, "lu") == (0, NX)
    assert evaluate("cvt", "d", [bits(-0.5, "d")], RDN, "lu") == (0, NV)
    assert evaluate("cvt", "d", [D.nan | D.sign], RTZ, "l") == ((1 << 63) - 1, NV)
    assert evaluate("cvt", "d", [D.infinity | D.sign], RTZ, "l") == (1 << 63, NV)
    assert evaluate("cvt", "s", [bits(-(2.0**31), "s")], RTZ, "w") == (1 << 31, 0)


def test_classes() -> None:
    for f in FORMATS.values():
        s = f.sign
        data = [s | f.infinity, s | 1 << f.fraction, s | 1, s, 0, 1, f.largest, f.infinity, f.infinity | 1, f.nan | s]
        assert [evaluate("class", f.name, [x]) for x in data] == [(1 << i, 0) for i in range(10)]


def test_an_unknown_operation_or_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown floating-point operation 'rem'"):
        evaluate("rem", "d", [0, 0])
    with pytest.raises(ValueError, match="5 is not a rounding mode"):
        evaluate("div", "d", [ONE["d"], ONE["d"] + 1], 5)
