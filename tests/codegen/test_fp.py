"""Native floating point gives the oracle's results and flags: all operations, rounding modes and ways to give them."""

from __future__ import annotations

from itertools import chain

import pytest
from fp_cases import MODES, Operation, operands, operations, related, rounds
from fp_native import Native, undefined_symbols

from mpemu.codegen import host
from mpemu.isa import softfloat
from mpemu.isa.fp import DYN, NV, NX

SAMPLES = 120
STATIC = ("add", "cvt")
"""Operations compiled with every static rounding mode too; the code that tells them apart is the same for all."""


def variants() -> list[tuple[Operation, int | None]]:
    found: list[tuple[Operation, int | None]] = [(o, v) for o in operations() for v in (None, DYN)]
    return found + [(o, rm) for o in operations() if o[0] in STATIC for rm in MODES]


@pytest.fixture(scope="module")
def native() -> Native:
    return Native(variants())


@pytest.mark.parametrize("operation", operations(), ids=" ".join)
def test_native_equals_oracle(native: Native, operation: Operation) -> None:
    op, fmt, to = operation
    for xs in chain(operands(operation, SAMPLES), related(operation, SAMPLES)):
        for rm in MODES if rounds(operation) else (0,):
            expected = softfloat.evaluate(op, fmt, xs, rm, to)
            # (variant, rm argument, frm): dynamic; given at run time; static, with the same and with another frm
            ways = [(DYN, DYN, rm), (None, DYN, rm), (None, rm, rm), (None, rm, (rm + 1) % 5)]
            if op in STATIC:
                ways += [(rm, rm, rm), (rm, rm, (rm + 2) % 5)]
            for way in ways:
                got = native.call(operation, way[0], xs, way[1], way[2])
                assert got == expected, (operation, [hex(x) for x in xs], rm, way)


def test_flags_accrue_and_are_never_lost(native: Native) -> None:
    one, three = 0x3FF0000000000000, 0x4008000000000000
    for frm in MODES:
        assert native.call(("div", "d", ""), DYN, (one, three), DYN, frm, flags=NV)[1] == NV | NX
        assert native.call(("add", "d", ""), DYN, (one, three), DYN, frm, flags=NV)[1] == NV


def test_a_hart_of_zeros_is_masked_and_its_flags_can_be_read_at_rest(native: Native) -> None:
    native.hart.fcsr_host = 0
    native.call(("div", "d", ""), DYN, (0x3FF0000000000000, 0), DYN, 0)
    assert host.native().flags_of(native.hart.fcsr_host) == 8


def test_generated_code_needs_nothing_from_outside(native: Native) -> None:
    assert list(undefined_symbols(native.object)) == []
