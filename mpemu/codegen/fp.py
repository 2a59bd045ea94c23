"""``Hart.fp`` as LLVM IR: the host's FPU where it is exact, integers everywhere else.

The common case is one host instruction and the canonicalisation of NaNs: the host's rounding mode is the guest's and
flags accrue in the host's register, so neither costs anything (``host.py``). That holds while the instruction wants
the rounding mode in frm, or the same one statically, and that is not RMM. Every other case calls a function generated
from ``fp_exact.py``, one per operation and format, cold and out of line; its calling convention preserves registers, so
that the common case pays nothing for the call it does not make.

Constrained intrinsics keep LLVM from moving, folding or speculating what raises flags; functions that call
:func:`emit_fp` should carry the attribute ``strictfp``.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from mpemu.codegen import fp_exact
from mpemu.codegen.ir import Builder, Module
from mpemu.isa.fp import DYN, FORMATS, INTEGERS, RMM, RTZ, Integer, exact
from mpemu.isa.value import Value
from mpemu.layout import HART

_TYPES = {"s": ("float", "f32"), "d": ("double", "f64")}
_LLVM = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "sqrt": "sqrt", "fma": "fma"}
_UNDERFLOWING = ("mul", "div")  # a sum or root below the normal numbers is exact
_STRICT = 'metadata !"fpexcept.strict"'
_CANONICAL_NAN = "0x7FF8000000000000"
"""As LLVM writes constants of either type."""
_DYNAMIC = 'metadata !"round.dynamic", '


def emit_fp(
    b: Builder, state: str, op: str, fmt: str, operands: tuple[Value, ...], rm: int | Value, to: str = ""
) -> Value:
    """Emit the operation ``op`` of isa/fp.py; ``state`` points to the HART struct. Gives the result, flags accrue."""
    if op == "class":
        return fp_exact.classify(operands[0], FORMATS[fmt])
    if op in ("eq", "lt", "le"):
        return _compare(b, "fcmp" if op == "eq" else "fcmps", f"o{op}", fmt, operands)  # quiet, and signalling
    road = _Road(b, state, op, fmt, operands, rm, to)
    if op == "cvt":
        return _convert(road)
    if op in ("min", "max"):
        return _min_max(road)
    if op == "fma":
        return road.exact() if fmt == "h" else _fma(road)
    if fmt == "h":
        return road.host_or_exact(lambda: _half_arithmetic(road))
    return road.host_or_exact(lambda: _arithmetic(road))


class _Road:
    """One operation being emitted, and its ways out."""

    def __init__(
        self, b: Builder, state: str, op: str, fmt: str, operands: tuple[Value, ...], rm: int | Value, to: str
    ) -> None:
        self.b, self.state, self.op, self.fmt, self.operands, self.rm, self.to = b, state, op, fmt, operands, rm, to
        self.branches = 0
        target = to or fmt
        self.width = (INTEGERS[target] if target in INTEGERS else FORMATS[target]).width

    def frm(self) -> Value:
        if self.b.module.known_frm:
            return self.b.value(self.b.module.known_frm)
        return self.b.load(self.b.pointer(self.state, HART.offset["frm"]))

    def is_current(self) -> Value:
        """1 bit: whether the host's rounding mode is the one wanted."""
        frm = self.frm()
        if isinstance(self.rm, Value):
            return ((self.rm == DYN) | (self.rm == frm)) & (frm != RMM)
        if self.rm == DYN:
            return frm != RMM
        return Value(0, 1) if self.rm == RMM else frm == self.rm

    def mode(self) -> Value:
        """The rounding mode wanted."""
        if isinstance(self.rm, Value):
            return (self.rm == DYN).mux(self.frm(), self.rm)
        return self.frm() if self.rm == DYN else Value(self.rm, 64)

    def exact(self) -> Value:
        """By integers."""
        leave = self.b.module.leave_for_exact_fp
        if leave is not None:
            leave(self.branches > 0)
            return self.b.value("undef", self.width)
        name = _exact_function(self.b, self.op, self.fmt, len(self.operands), self.to)
        arguments = "".join(f", i64 {x.zext(64).raw}" for x in self.operands)
        raw = self.b.op(f"call preserve_mostcc i64 {name}(ptr {self.state}, i64 {self.mode().raw}{arguments}) strictfp")
        return self.b.value(raw).lo(self.width)

    def either(self, condition: Value, yes: Callable[[], Value], no: Callable[[], Value], likely: bool = True) -> Value:
        """The value of ``yes`` where ``condition`` (1 bit) holds, else of ``no``; only one of them runs."""
        if condition.constant is not None:
            return yes() if condition.constant else no()
        b = self.b
        labels = [b.label() for _ in range(5)]
        b.branch_if(condition.raw, labels[0], labels[1], likely)
        incoming = []
        for start, end, way in ((labels[0], labels[2], yes), (labels[1], labels[3], no)):
            b.place(start)
            self.branches += 1
            value = way()
            self.branches -= 1
            b.place(end)
            b.branch(labels[4])
            incoming.append(f"[ {value.raw}, %{end} ]")
        b.place(labels[4])
        return b.value(b.op(f"phi i{self.width} {', '.join(incoming)}"), self.width)

    def host_or_exact(self, by_host: Callable[[], Value], fits: Value | int = 1) -> Value:
        """By host if the rounding mode is current and ``fits`` (1 bit) holds."""
        return self.either(self.is_current() & fits, by_host, self.exact)

    def settled(self, result: Value, fmt: str) -> Value:
        """``result`` of a host operation that can underflow, if its flags are right; else all of it by integers."""

        def again() -> Value:
            self.b.module.host.forget(self.b)
            return self.exact()

        doubtful = self.b.module.host.doubtful(self.b, result, FORMATS[fmt])
        return self.either(~doubtful, lambda: result, again)


_DEFINED: WeakKeyDictionary[Module, set[str]] = WeakKeyDictionary()


def _first(module: Module, name: str) -> bool:
    """Whether the function ``name`` has yet to be defined in the module, which the caller now does."""
    defined = _DEFINED.setdefault(module, set())
    fresh = name not in defined
    defined.add(name)
    return fresh


def _exact_function(b: Builder, op: str, fmt: str, operands: int, to: str) -> str:
    """The name of the function ``i64(state, mode, operands...)`` that computes by integers; defined on first use."""
    name = f"@fp.{op}.{fmt}{'.' + to if to else ''}"
    if _first(b.module, name):
        parameters = "".join(f", i64 %x{i}" for i in range(operands))
        inner = Builder(
            b.module,
            f"internal preserve_mostcc i64 {name}(ptr %st, i64 %mode{parameters})",
            "nounwind noinline cold strictfp",
        )
        width = (INTEGERS[fmt] if fmt in INTEGERS else FORMATS[fmt]).width
        values = tuple(inner.value(f"%x{i}").lo(width) for i in range(operands))
        result, flags = fp_exact.evaluate(op, fmt, values, inner.value("%mode"), to)
        _raise(inner, "%st", flags)
        inner.terminate(f"ret i64 {result.zext(64).raw}")
        b.module.define(inner)
    return name


def _raise(b: Builder, state: str, flags: Value) -> None:
    """Accrue flags that are mostly none."""
    if _first(b.module, "@fp.raise"):
        inner = Builder(
            b.module, "internal preserve_mostcc void @fp.raise(ptr %st, i64 %flags)", "nounwind noinline cold strictfp"
        )
        b.module.host.emit_raise(inner, "%st", inner.value("%flags"))
        inner.terminate("ret void")
        b.module.define(inner)
    with b.when(flags != 0, likely=False):
        b.line(f"call preserve_mostcc void @fp.raise(ptr {state}, i64 {flags.raw}) strictfp")


def _strict(b: Builder, name: str, result: str, arguments: list[tuple[str, str]], metadata: str) -> str:
    """Call a constrained intrinsic. ``arguments`` are (type, value)."""
    slots = metadata.count("metadata")
    kinds = ", ".join([kind for kind, _ in arguments] + ["metadata"] * slots)
    b.declare(f"declare {result} @llvm.experimental.constrained.{name}({kinds})")
    values = ", ".join(f"{kind} {value}" for kind, value in arguments)
    return b.op(f"call {result} @llvm.experimental.constrained.{name}({values}, {metadata}) strictfp")


def _number(b: Builder, bits: Value, fmt: str) -> str:
    return b.op(f"bitcast i{bits.width} {bits.raw} to {_TYPES[fmt][0]}")


def _bits(b: Builder, number: str, fmt: str) -> Value:
    width = FORMATS[fmt].width
    return b.value(b.op(f"bitcast {_TYPES[fmt][0]} {number} to i{width}"), width)


def _is_nan(b: Builder, number: str, fmt: str) -> Value:
    """1 bit; ``number`` is a result, so never a signalling NaN and no flag is raised."""
    kind, suffix = _TYPES[fmt]
    pair = [(kind, number), (kind, number)]
    return b.value(_strict(b, f"fcmp.{suffix}", "i1", pair, f'metadata !"uno", {_STRICT}'), 1)


def _canonical(b: Builder, number: str, fmt: str) -> Value:
    """The bits of a result, the canonical NaN if it is one: a branch, since a selection would wait for the result."""
    if b.module.host.CANONICAL_NANS:
        return _bits(b, number, fmt)
    start, nan, ordered = (b.label() for _ in range(3))
    b.place(start)
    b.branch_if(_is_nan(b, number, fmt).raw, nan, ordered, likely=False)
    with b.aside(nan):
        b.branch(ordered)
    b.place(ordered)
    kind = _TYPES[fmt][0]
    return _bits(b, b.op(f"phi {kind} [ {number}, %{start} ], [ {_CANONICAL_NAN}, %{nan} ]"), fmt)


def _host_operation(b: Builder, op: str, fmt: str, numbers: list[str]) -> str:
    kind, suffix = _TYPES[fmt]
    return _strict(b, f"{_LLVM[op]}.{suffix}", kind, [(kind, n) for n in numbers], _DYNAMIC + _STRICT)


def _arithmetic(road: _Road) -> Value:
    b, fmt = road.b, road.fmt
    result = _canonical(b, _host_operation(b, road.op, fmt, [_number(b, x, fmt) for x in road.operands]), fmt)
    return road.settled(result, fmt) if road.op in _UNDERFLOWING else result


def _fma(road: _Road) -> Value:
    """By host; by integers also where that gives a NaN: inf * 0 + quiet NaN is invalid, which the host leaves out."""
    b, fmt = road.b, road.fmt
    by_host, exact, ordered, end, join = (b.label() for _ in range(5))
    b.branch_if(road.is_current().raw, by_host, exact, likely=True)
    road.branches += 1
    b.place(by_host)
    number = _host_operation(b, "fma", fmt, [_number(b, x, fmt) for x in road.operands])
    b.branch_if(_is_nan(b, number, fmt).raw, exact, ordered, likely=False)
    b.place(ordered)
    bits = road.settled(_bits(b, number, fmt), fmt)
    settled = b.label()
    b.place(settled)
    b.branch(join)
    b.place(exact)
    other = road.exact()
    road.branches -= 1
    b.place(end)
    b.branch(join)
    b.place(join)
    return b.value(b.op(f"phi i{road.width} [ {bits.raw}, %{settled} ], [ {other.raw}, %{end} ]"), road.width)


def _half_arithmetic(road: _Road) -> Value:
    """In single precision, rounded again to half.

    Rounding twice is harmless: single has 24 >= 2 * 11 + 2 bits, so no exact result of two halves lies so close to a
    half, or to the middle between two, that single's rounding reaches it, and directed roundings compose anyway. Nor
    does single's exponent range come into play. So value, inexactness and tininess all come out right.
    """
    b = road.b
    result = _host_operation(b, road.op, "s", [b.module.host.half_to_single(b, x) for x in road.operands])
    return _single_to_half(road, result)


def _single_to_half(road: _Road, number: str) -> Value:
    host, half = road.b.module.host, FORMATS["h"]
    bits = host.single_to_half(road.b, number)
    if not host.CANONICAL_NANS:
        bits = (bits & (half.mask ^ half.sign)).gtu(half.infinity).mux(half.nan, bits)
    return road.settled(bits, "h")


def _widened(b: Builder, bits: Value, fmt: str) -> tuple[str, str]:
    """(number, format) of an operand that the host has a type for: a half becomes a single, which is exact."""
    return (b.module.host.half_to_single(b, bits), "s") if fmt == "h" else (_number(b, bits, fmt), fmt)


def _compare(b: Builder, intrinsic: str, predicate: str, fmt: str, operands: tuple[Value, ...]) -> Value:
    numbers = [_widened(b, x, fmt) for x in operands]
    kind, suffix = _TYPES[numbers[0][1]]
    pair = [(kind, n) for n, _ in numbers]
    return b.value(_strict(b, f"{intrinsic}.{suffix}", "i1", pair, f'metadata !"{predicate}", {_STRICT}'), 1).zext(64)


def _min_max(road: _Road) -> Value:
    fmt, (x, y) = FORMATS[road.fmt], road.operands
    # The comparison has the right flags: invalid if one is a signalling NaN.
    unordered = _compare(road.b, "fcmp", "uno", road.fmt, road.operands).lo(1)
    return road.either(
        unordered,
        lambda: fp_exact.min_max(road.op, x, y, fmt)[0],
        lambda: fp_exact.least_or_greatest(road.op, x, y),
        likely=False,
    )


def _convert(road: _Road) -> Value:
    if road.fmt in INTEGERS:
        return _from_integer(road, INTEGERS[road.fmt])
    if road.to in INTEGERS:
        return _to_integer(road, INTEGERS[road.to])
    return _convert_format(road)


def _convert_format(road: _Road) -> Value:
    b, fmt, to = road.b, road.fmt, road.to
    if (fmt, to) == ("d", "h"):
        return road.exact()  # the host would round twice
    number, fmt = _widened(b, road.operands[0], fmt)
    if fmt == to:
        return _canonical(b, number, to)
    if to == "h":
        return road.host_or_exact(lambda: _single_to_half(road, number))
    name = f"{'fpext' if exact(fmt, to) else 'fptrunc'}.{_TYPES[to][1]}.{_TYPES[fmt][1]}"
    rounding = "" if exact(fmt, to) else _DYNAMIC

    def by_host() -> Value:
        return _canonical(b, _strict(b, name, _TYPES[to][0], [(_TYPES[fmt][0], number)], rounding + _STRICT), to)

    return by_host() if exact(fmt, to) else road.host_or_exact(lambda: road.settled(by_host(), to))


def _from_integer(road: _Road, integer: Integer) -> Value:
    b, to = road.b, road.to
    if to == "h":
        return road.exact()
    kind, suffix = _TYPES[to]
    word = road.operands[0].sext(64) if integer.signed else road.operands[0].zext(64)

    def signed_to_float(value: Value) -> str:
        argument = [("i64", str(value.raw))]
        return _strict(b, f"sitofp.{suffix}.i64", kind, argument, _DYNAMIC + _STRICT)

    def by_host() -> Value:
        if integer.name != "lu":
            return _bits(b, signed_to_float(word), to)
        # Above the signed range: half of it, the lost bit jammed into the last so that it rounds alike, then doubled.
        large = word.bit(63)
        number = signed_to_float(large.mux((word >> 1) | (word & 1), word))
        doubled = _host_operation(b, "add", to, [number, number])
        return large.mux(_bits(b, doubled, to), _bits(b, number, to))

    return by_host() if exact(integer.name, to) else road.host_or_exact(by_host)


def _to_integer(road: _Road, integer: Integer) -> Value:
    b, fmt, bits = road.b, FORMATS[road.fmt], road.operands[0]
    # An unsigned type has the host only for what fits it and the host's 64 signed bits, however it is rounded.
    fits = Value(1, 1) if integer.signed else bits.leu(fmt.largest_below(32 if integer.width == 32 else 63))

    def truncated() -> Value:
        return road.either(fits, lambda: _to_integer_by_host(road, integer, truncate=True), road.exact)

    def rounded() -> Value:
        right = fits & b.module.host.can_round(bits, fmt, integer.width if integer.signed else 64)
        return road.host_or_exact(lambda: _to_integer_by_host(road, integer, truncate=False), right)

    if isinstance(road.rm, Value):
        return road.either(road.rm == RTZ, truncated, rounded)
    return truncated() if road.rm == RTZ else rounded()


def _to_integer_by_host(road: _Road, integer: Integer, truncate: bool) -> Value:
    b = road.b
    number, kind = _widened(b, road.operands[0], road.fmt)
    width = integer.width if integer.signed else 64
    return b.module.host.to_signed(b, number, kind, width, truncate, fits=not integer.signed).lo(integer.width)
