"""Floating point: formats, rounding modes, flags, the operations of :meth:`Hart.fp`, and what F/D/Zfh bodies share.

Unprivileged ISA manual, chapters "F", "D", "Zfh" and "Zfhmin". Registers are 64 bits wide (FLEN = 64); a narrower value
sits in the low bits with all bits above set (NaN-boxed).

The operations of ``h.fp(op, fmt, *operands, rm=, to=)``. Floating-point operands and results are bit patterns of their
format's width; every NaN result is the format's canonical NaN, whatever the NaNs going in.

====================  =================  =============================================================================
op                    operands, result   meaning
====================  =================  =============================================================================
add sub mul div       fmt, fmt -> fmt    rounded by ``rm``
sqrt                  fmt -> fmt         rounded by ``rm``
fma                   fmt x 3 -> fmt     a * b + c, rounded once; inf * 0 is invalid even if c is a quiet NaN
min max               fmt, fmt -> fmt    minimumNumber, maximumNumber (IEEE 754-2019): -0 < +0, a NaN loses against
                                         a number, a signalling NaN is invalid
eq                    fmt, fmt -> 64     quiet: only a signalling NaN is invalid
lt le                 fmt, fmt -> 64     signalling: any NaN is invalid
class                 fmt -> 64          one of ten bits, see :data:`CLASSES`; raises nothing
cvt                   fmt -> ``to``      conversion. ``fmt`` and ``to`` are formats or integers (``w wu`` 32 bits,
                                         ``l lu`` 64 bits), at most one of them an integer. To an integer: out of range
                                         (after rounding) and NaN are invalid, not inexact, and saturate, a NaN as +inf
====================  =================  =============================================================================

``rm`` is an instruction's rounding-mode field: an int, or a run-time value (64 bits). :data:`DYN` stands for frm. The
body has already refused reserved modes (:func:`require_fp`), so an operation never sees one. It is ignored where
nothing is rounded. Flags accrue in fflags. Underflow is tininess *after* rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.privileged import FS
from mpemu.isa.value import Value

# Rounding modes (rm and frm).
RNE, RTZ, RDN, RUP, RMM, DYN = 0, 1, 2, 3, 4, 7
ROUNDING_NAMES = {RNE: "rne", RTZ: "rtz", RDN: "rdn", RUP: "rup", RMM: "rmm", DYN: "dyn"}

# fflags.
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16

CLASSES = (
    "negative infinity",
    "negative normal",
    "negative subnormal",
    "-0",
    "+0",
    "positive subnormal",
    "positive normal",
    "positive infinity",
    "signalling NaN",
    "quiet NaN",
)
"""fclass: bit i of the result stands for the i-th class."""


@dataclass(frozen=True)
class Format:
    """An IEEE 754 binary interchange format. ``code`` is the fmt field of OP-FP instructions."""

    name: str
    width: int
    fraction: int
    code: str

    @property
    def exponent(self) -> int:
        """Bits of the exponent field."""
        return self.width - 1 - self.fraction

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def mask(self) -> int:
        return (1 << self.width) - 1

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent) - 1) << self.fraction

    @property
    def quiet(self) -> int:
        """The bit that tells quiet from signalling NaNs."""
        return 1 << (self.fraction - 1)

    @property
    def nan(self) -> int:
        """The canonical NaN."""
        return self.infinity | self.quiet

    @property
    def largest(self) -> int:
        """The largest finite number."""
        return self.infinity - 1

    def largest_below(self, power: int) -> int:
        """The largest number that is at most ``2**power - 1``, as bits."""
        if power > self.bias:
            return self.largest
        exponent = power - 1
        keep = min(self.fraction, exponent)
        fraction = ((1 << keep) - 1) << (self.fraction - keep)
        return (exponent + self.bias) << self.fraction | fraction


FORMATS = {f.name: f for f in (Format("h", 16, 10, "10"), Format("s", 32, 23, "00"), Format("d", 64, 52, "01"))}


@dataclass(frozen=True)
class Integer:
    """An integer operand of conversions. ``code`` is the rs2 field of the instructions."""

    name: str
    width: int
    signed: bool
    code: str

    @property
    def least(self) -> int:
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def greatest(self) -> int:
        return (1 << (self.width - self.signed)) - 1


INTEGERS = {
    i.name: i
    for i in (
        Integer("w", 32, True, "00000"),
        Integer("wu", 32, False, "00001"),
        Integer("l", 64, True, "00010"),
        Integer("lu", 64, False, "00011"),
    )
}


def exact(source: str, to: str) -> bool:
    """Whether the conversion represents every number of ``source``, so that its rounding mode does not matter."""
    if to in INTEGERS:
        return False
    if source in INTEGERS:
        return INTEGERS[source].greatest.bit_length() <= FORMATS[to].fraction + 1
    return FORMATS[source].width <= FORMATS[to].width


# -- what bodies share


def require_fp(h: Hart, rm: Operand = RNE) -> None:
    """The first effect of every floating-point body: illegal if mstatus.FS is Off or the rounding mode is reserved."""
    refused = (h.s.mstatus & FS) == 0
    if isinstance(rm, Value):
        refused = refused | (rm == 5) | (rm == 6) | ((rm == DYN) & h.s.frm.gtu(RMM))
    elif rm == DYN:
        refused = refused | h.s.frm.gtu(RMM)
    elif rm > RMM:
        refused = Value(1, 1)
    with h.when(refused):
        h.illegal()


def unbox(value: Value, fmt: Format) -> Value:
    """The value of ``fmt`` in a 64-bit register: the canonical NaN if it is not properly boxed."""
    if fmt.width == 64:
        return value
    boxed = value.bits(63, fmt.width) == (1 << (64 - fmt.width)) - 1
    return boxed.mux(value.lo(fmt.width), fmt.nan)


def box(value: Value) -> Value:
    """A 64-bit register that holds ``value``."""
    return value if value.width == 64 else value.zext(64) | (((1 << 64) - 1) ^ ((1 << value.width) - 1))


def read(h: Hart, index: Operand, fmt: Format) -> Value:
    """f[index] as a bit pattern of ``fmt``."""
    return unbox(h.f[index], fmt)


def write(h: Hart, index: Operand, value: Value) -> None:
    """f[index] = value, boxed; mstatus.FS becomes Dirty."""
    h.f[index] = box(value)
    h.fp_dirty()
