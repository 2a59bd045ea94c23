"""Guest values: fixed-width bit vectors on which instruction bodies compute.

A :class:`Value` whose ``raw`` is a Python int is a known constant, and every operation on constants is computed here,
in Python. That one evaluator serves twice: it is the arithmetic of the reference model (where everything is constant)
and the constant folding of the code generators. When an operand is not constant, the operation is handed to ``ops``,
which emits code and returns an opaque ``raw``.

Widths are explicit and never adjusted: mixing two widths is a TypeError that names both.
"""

from __future__ import annotations

from typing import Any, Protocol

Operand = "Value | int"


class Ops(Protocol):
    """What a code generator provides for values that are not constants. ``raw`` is an int or its own handle."""

    def binary(self, op: str, a: Any, b: Any, width: int) -> Any: ...
    def unary(self, op: str, a: Any, width: int) -> Any: ...
    def compare(self, predicate: str, a: Any, b: Any, width: int) -> Any: ...
    def cast(self, kind: str, a: Any, width: int, to: int) -> Any: ...
    def select(self, condition: Any, a: Any, b: Any, width: int) -> Any: ...


def signed(raw: int, width: int) -> int:
    """The two's-complement reading of ``raw``."""
    return raw - (1 << width) if raw >> (width - 1) else raw


def _sdiv(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def fold_binary(op: str, a: int, b: int, width: int) -> int:
    """``a op b`` modulo 2**width. Shift amounts must be below the width, divisors nonzero (bodies guard both)."""
    match op:
        case "add":
            result = a + b
        case "sub":
            result = a - b
        case "mul":
            result = a * b
        case "and":
            result = a & b
        case "or":
            result = a | b
        case "xor":
            result = a ^ b
        case "shl":
            result = a << b
        case "lshr":
            result = a >> b
        case "ashr":
            result = signed(a, width) >> b
        case "udiv":
            result = a // b
        case "urem":
            result = a % b
        case "sdiv":
            result = _sdiv(signed(a, width), signed(b, width))
        case "srem":
            sa, sb = signed(a, width), signed(b, width)
            result = sa - sb * _sdiv(sa, sb)
        case _:
            raise ValueError(f"unknown binary operation {op!r}")
    return result & ((1 << width) - 1)


def fold_unary(op: str, a: int, width: int) -> int:
    match op:
        case "ctlz":
            return width - a.bit_length()
        case "cttz":
            return width if a == 0 else (a & -a).bit_length() - 1
        case "ctpop":
            return a.bit_count()
        case "bswap":
            return int.from_bytes(a.to_bytes(width // 8, "little"), "big")
        case "bitreverse":
            return int(format(a, f"0{width}b")[::-1], 2)
    raise ValueError(f"unknown unary operation {op!r}")


def fold_compare(predicate: str, a: int, b: int, width: int) -> int:
    if predicate[0] == "s":
        a, b = signed(a, width), signed(b, width)
    match predicate:
        case "eq":
            return int(a == b)
        case "ne":
            return int(a != b)
        case "ult" | "slt":
            return int(a < b)
        case "ule" | "sle":
            return int(a <= b)
    raise ValueError(f"unknown predicate {predicate!r}")


class Value:
    """A guest value of ``width`` bits. Immutable; operators return new values. Python ints mix in as constants."""

    __slots__ = ("ops", "raw", "width")
    __hash__ = None  # type: ignore[assignment]  # == builds a guest value, so a Value can't be a key

    def __init__(self, raw: Any, width: int, ops: Ops | None = None) -> None:
        self.raw = raw & ((1 << width) - 1) if isinstance(raw, int) else raw
        self.width = width
        self.ops = ops

    # -- building blocks
    @property
    def constant(self) -> int | None:
        """The value if it is known while code is generated, else None."""
        return self.raw if isinstance(self.raw, int) else None

    def _coerce(self, other: Value | int, what: str) -> Value:
        if isinstance(other, Value):
            if other.width != self.width:
                raise TypeError(f"{what}: widths differ, {self.width} and {other.width} bits; extend or truncate one")
            return other
        if isinstance(other, int):
            return Value(other, self.width)
        raise TypeError(f"{what}: {other!r} is neither a guest value nor an int")

    def _binary(self, op: str, other: Value | int) -> Value:
        b = self._coerce(other, op)
        if isinstance(self.raw, int) and isinstance(b.raw, int):
            return Value(fold_binary(op, self.raw, b.raw, self.width), self.width)
        ops = self.ops or b.ops
        assert ops is not None
        return Value(ops.binary(op, self.raw, b.raw, self.width), self.width, ops)

    def _unary(self, op: str) -> Value:
        if isinstance(self.raw, int):
            return Value(fold_unary(op, self.raw, self.width), self.width)
        assert self.ops is not None
        return Value(self.ops.unary(op, self.raw, self.width), self.width, self.ops)

    def _compare(self, predicate: str, other: Value | int) -> Value:
        b = self._coerce(other, predicate)
        if isinstance(self.raw, int) and isinstance(b.raw, int):
            return Value(fold_compare(predicate, self.raw, b.raw, self.width), 1)
        ops = self.ops or b.ops
        assert ops is not None
        return Value(ops.compare(predicate, self.raw, b.raw, self.width), 1, ops)

    def _cast(self, kind: str, to: int) -> Value:
        if to == self.width:
            return self
        if isinstance(self.raw, int):
            return Value(signed(self.raw, self.width) if kind == "sext" else self.raw, to)
        assert self.ops is not None
        return Value(self.ops.cast(kind, self.raw, self.width, to), to, self.ops)

    def __bool__(self) -> bool:
        raise TypeError(
            "a guest value is not known while code is generated: write `with h.when(cond):` or `cond.mux(a, b)`"
        )

    def __repr__(self) -> str:
        return (
            f"Value({self.raw:#x}, {self.width})" if isinstance(self.raw, int) else f"Value({self.raw}, {self.width})"
        )

    # -- arithmetic and logic
    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    __radd__, __rmul__, __rand__, __ror__, __rxor__ = __add__, __mul__, __and__, __or__, __xor__

    def __rsub__(self, other: int) -> Value:
        return Value(other, self.width)._binary("sub", self)

    def __neg__(self) -> Value:
        return Value(0, self.width)._binary("sub", self)

    def __invert__(self) -> Value:
        return self._binary("xor", (1 << self.width) - 1)

    def __lshift__(self, amount: Value | int) -> Value:
        """Shift left. The amount must be below the width (mask it first)."""
        return self._binary("shl", amount)

    def __rshift__(self, amount: Value | int) -> Value:
        """Logical shift right. The amount must be below the width."""
        return self._binary("lshr", amount)

    def sra(self, amount: Value | int) -> Value:
        """Arithmetic shift right. The amount must be below the width."""
        return self._binary("ashr", amount)

    def udiv(self, other: Value | int) -> Value:
        """Unsigned quotient; the divisor must not be zero."""
        return self._binary("udiv", other)

    def urem(self, other: Value | int) -> Value:
        return self._binary("urem", other)

    def sdiv(self, other: Value | int) -> Value:
        """Signed quotient, rounded towards zero; the divisor must not be zero, nor the quotient overflow."""
        return self._binary("sdiv", other)

    def srem(self, other: Value | int) -> Value:
        return self._binary("srem", other)

    # -- comparisons: 1-bit values
    def __eq__(self, other: Value | int) -> Value:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: Value | int) -> Value:  # type: ignore[override]
        return self._compare("ne", other)

    def lt(self, other: Value | int) -> Value:
        """Signed less than."""
        return self._compare("slt", other)

    def le(self, other: Value | int) -> Value:
        return self._compare("sle", other)

    def gt(self, other: Value | int) -> Value:
        return self._coerce(other, "gt")._compare("slt", self)

    def ge(self, other: Value | int) -> Value:
        return self._coerce(other, "ge")._compare("sle", self)

    def ltu(self, other: Value | int) -> Value:
        """Unsigned less than."""
        return self._compare("ult", other)

    def leu(self, other: Value | int) -> Value:
        return self._compare("ule", other)

    def gtu(self, other: Value | int) -> Value:
        return self._coerce(other, "gtu")._compare("ult", self)

    def geu(self, other: Value | int) -> Value:
        return self._coerce(other, "geu")._compare("ule", self)

    # -- widths and bits
    def sext(self, to: int = 64) -> Value:
        return self._cast("sext", to)

    def zext(self, to: int = 64) -> Value:
        return self._cast("zext", to)

    def lo(self, width: int) -> Value:
        """The low ``width`` bits."""
        return self._cast("trunc", width)

    def bits(self, high: int, low: int) -> Value:
        """Bits high..low inclusive, as a value of high-low+1 bits."""
        shifted = self >> low if low else self
        return shifted.lo(high - low + 1)

    def bit(self, n: int) -> Value:
        """Bit n as a 1-bit value."""
        return self.bits(n, n)

    def mux(self, a: Value | int, b: Value | int) -> Value:
        """``a`` where this 1-bit value is 1, else ``b``. Both are evaluated, one of them is a Value."""
        if self.width != 1:
            raise TypeError(f"mux: the condition has {self.width} bits, not 1")
        if isinstance(a, int):
            if isinstance(b, int):
                raise TypeError("mux: give one side a width, e.g. Value(1, 64)")
            a = b._coerce(a, "mux")
        b = a._coerce(b, "mux")
        if isinstance(self.raw, int):
            return a if self.raw else b
        assert self.ops is not None
        return Value(self.ops.select(self.raw, a.raw, b.raw, a.width), a.width, self.ops)

    def clz(self) -> Value:
        """Leading zeros; the width for 0."""
        return self._unary("ctlz")

    def ctz(self) -> Value:
        return self._unary("cttz")

    def popcount(self) -> Value:
        return self._unary("ctpop")

    def bswap(self) -> Value:
        return self._unary("bswap")

    def bitreverse(self) -> Value:
        return self._unary("bitreverse")


def value_of(operand: Value | int, width: int = 64) -> Value:
    """An operand field as a Value: it may be a Python int (translator, reference model) or one already."""
    return operand if isinstance(operand, Value) else Value(operand, width)
