"""Floating point by integers gives what the oracle gives: evaluated on constants, without LLVM."""

from __future__ import annotations

from itertools import chain

import pytest
from fp_cases import MODES, Operation, kinds, operands, operations, related, rounds
from fp_native import width

from mpemu.codegen import fp_exact
from mpemu.isa import softfloat
from mpemu.isa.value import Value


@pytest.mark.parametrize("operation", operations(), ids=" ".join)
def test_exact_equals_oracle(operation: Operation) -> None:
    op, fmt, to = operation
    for xs in chain(operands(operation, 10), related(operation, 10)):
        values = tuple(Value(x, width(k)) for x, k in zip(xs, kinds(operation), strict=True))
        for rm in MODES if rounds(operation) else (0,):
            result, flags = fp_exact.evaluate(op, fmt, values, Value(rm, 64), to)
            expected = softfloat.evaluate(op, fmt, xs, rm, to)
            assert (result.constant, flags.constant) == expected, (operation, [hex(x) for x in xs], rm)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown floating-point operation 'rem'"):
        fp_exact.evaluate("rem", "d", (Value(0, 64), Value(0, 64)), Value(0, 64))
