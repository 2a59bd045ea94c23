"""Random and extreme operands of instructions, for the tests that go through the whole table."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mpemu.isa.csr_table import CSR_NAMES
from mpemu.isa.registry import Field, Insn

ROUNDING_MODES = (0, 1, 2, 3, 4, 7)


def printed_fields(i: Insn) -> set[str]:
    return set(re.findall(r"\{(\w+)", i.asm))


def values(field: Field, rng: random.Random) -> int:
    """A value that the field can hold; the extremes and zero often."""
    low = min(bit for _, _, bit in field.parts)
    top = 1 << field.width
    bits = rng.choice((0, top - 1, top >> 1, (top >> 1) - 1, *(rng.randrange(top) for _ in range(6))))
    bits = bits >> low << low
    return bits - top if field.signed and bits >= top >> 1 else bits


def operands(i: Insn, rng: random.Random) -> dict[str, int]:
    """Fields that mean something are random; those that hardware ignores and assemblers leave 0 are left out."""
    chosen = {}
    for name, field in i.pattern.fields.items():
        if name == "rm":
            chosen[name] = rng.choice(ROUNDING_MODES) if name in printed_fields(i) else 0
        elif name == "fm":
            chosen[name] = 0  # only fence.tso, an instruction of its own here, has another
        elif name == "csr":
            chosen[name] = rng.choice((*CSR_NAMES, rng.randrange(1 << 12)))
        elif name in i.operands or name in printed_fields(i):
            chosen[name] = values(field, rng)
    if chosen.get("pred") == 1 and not chosen["succ"]:
        chosen["succ"] = 1  # fence w, 0 is pause
    return chosen


def encodings(i: Insn, count: int, rng: random.Random) -> Iterator[tuple[dict[str, int], int]]:
    """``count`` times (operands, instruction word); once if there are no operands."""
    for _ in range(count if operands(i, rng) else 1):
        chosen = operands(i, rng)
        yield chosen, i.pattern.encode(**chosen)
