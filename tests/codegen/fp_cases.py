"""Operations and operands for the floating-point tests: specials, boundaries and their neighbours, then random ones."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from mpemu.isa.fp import FORMATS, INTEGERS

MODES = range(5)
ROUNDED = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}
PLAIN = {"min": 2, "max": 2, "eq": 2, "lt": 2, "le": 2, "class": 1}

Operation = tuple[str, str, str]
"""(op, fmt, to)"""


def operations() -> list[Operation]:
    names = list(FORMATS)
    found = [(op, f, "") for f in names for op in (*ROUNDED, *PLAIN)]
    found += [("cvt", a, b) for a in names for b in names if a != b]
    found += [("cvt", f, i) for f in names for i in INTEGERS]
    found += [("cvt", i, f) for f in names for i in INTEGERS]
    return found


def kinds(operation: Operation) -> list[str]:
    """Type names of the operands."""
    op, fmt, _ = operation
    return [fmt] * (ROUNDED | PLAIN | {"cvt": 1})[op]


def rounds(operation: Operation) -> bool:
    return operation[0] not in PLAIN


@functools.cache
def edges(kind: str) -> list[int]:
    """Operands where things change."""
    if kind in INTEGERS:
        width = INTEGERS[kind].width
        near = {
            (1 << n) + d for n in (0, 1, 10, 11, 15, 16, 23, 24, 25, 31, 32, 52, 53, 54, 62, 63, 64) for d in (-1, 0, 1)
        }
        near |= (
            {-x for x in near}
            | {(1 << width) - (1 << n) for n in (5, 7, 8, 10, 11, 40)}
            | {0x7FF0, 0xFFE8, 65504, 65520}
        )
        return sorted({x % (1 << width) for x in near})
    f = FORMATS[kind]
    one = f.bias << f.fraction
    points = {0, 1, 2, 3, f.quiet, (1 << f.fraction) - 1, 1 << f.fraction, f.infinity, f.largest, f.largest - 1}
    points |= {f.infinity + 1, f.nan, f.nan + 1, f.nan - 1, f.sign - 1}
    for n in (
        -f.fraction - 2,
        -f.fraction - 1,
        -f.fraction,
        -2,
        -1,
        0,
        1,
        8,
        15,
        16,
        31,
        32,
        63,
        64,
        f.fraction,
        f.fraction + 1,
    ):
        p = one + (n << f.fraction)
        if 0 < p < f.infinity:
            points |= {p - 1, p, p + 1, p + f.quiet, p + f.quiet - 1, p + f.quiet + 1}
    for narrow in FORMATS.values():  # where conversions to narrower formats under- and overflow
        for n in (
            narrow.emin,
            narrow.emin - narrow.fraction,
            narrow.emin - narrow.fraction - 1,
            narrow.bias,
            narrow.bias + 1,
        ):
            p = (f.bias + n) << f.fraction
            if 0 < p < f.infinity and narrow.width < f.width:
                half = 1 << (f.fraction - narrow.fraction - 1)
                points |= {p - 1, p, p + 1, p + half, p - half, p - half + 1, p - half - 1, p - (half >> 1)}
    return sorted({p & (f.sign - 1) for p in points} | {p & (f.sign - 1) | f.sign for p in points})


def random_operand(kind: str, r: random.Random) -> int:
    """Uniform bits half of the time; else few significant bits, so that ties and cancellation happen."""
    if kind in INTEGERS:
        width = INTEGERS[kind].width
        value = r.getrandbits(width) >> r.randrange(width)
        return value if r.random() < 0.5 else -value % (1 << width)
    f = FORMATS[kind]
    choice = r.random()
    if choice < 0.4:
        return r.getrandbits(f.width)
    exponent = f.bias + r.randint(-f.fraction - 2, f.fraction + 2) if choice < 0.9 else r.randrange(3)
    exponent = min(max(exponent, 0), (1 << f.exponent) - 2)
    fraction = r.getrandbits(f.fraction)
    if choice < 0.8:
        keep = r.randrange(f.fraction + 1)
        fraction &= ((1 << keep) - 1) << (f.fraction - keep)
        if r.random() < 0.5:
            fraction ^= 1
    return r.getrandbits(1) << (f.width - 1) | exponent << f.fraction | fraction


def operands(operation: Operation, samples: int, seed: int = 1) -> Iterator[tuple[int, ...]]:
    """All edges of one operand; a sample of the edges of several; then as many random ones."""
    r = random.Random(f"{seed} {operation}")
    types = kinds(operation)
    if len(types) == 1:
        yield from ((x,) for x in edges(types[0]))
    else:
        for _ in range(samples):
            yield tuple(r.choice(edges(t)) for t in types)
    for _ in range(samples):
        yield tuple(random_operand(t, r) for t in types)


def related(operation: Operation, samples: int, seed: int = 1) -> Iterator[tuple[int, ...]]:
    """For sums: operands that cancel almost or exactly, where results are subnormal or zero."""
    op, fmt, _ = operation
    if op not in ("add", "sub", "fma"):
        return
    f, r = FORMATS[fmt], random.Random(f"{seed} {operation}")
    one = f.bias << f.fraction
    for _ in range(samples):
        x = random_operand(fmt, r)
        y = (x ^ f.sign) + r.randint(-2, 2) & f.mask
        yield (x, y) if op != "fma" else (x, one + r.randint(-2, 2), y)
