"""The host's floating-point unit: x86-64. The only file of the floating-point code that knows the host.

Needs SSE4.1, FMA and F16C (:data:`FEATURES`). While native code runs, MXCSR belongs to the guest: it holds the guest's
rounding mode, accrues the guest's flags, masks every exception, and neither flushes nor zeroes subnormals. While other
code runs, ``fcsr_host`` of the HART struct keeps it (:func:`emit_enter`, :func:`emit_leave`). RMM does not exist here;
MXCSR then says RNE and ``codegen/fp.py`` takes the exact road. SSE detects tininess after rounding, as RISC-V wants.
The instructions without a constrained intrinsic are inline assembly: a target machine needs LLVM's assembly parser.

Another host implements the same functions.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder
from mpemu.isa.fp import DZ, NV, NX, OF, RDN, RTZ, RUP, UF
from mpemu.isa.value import Value
from mpemu.layout import HART

FEATURES = ("sse4.1", "fma", "f16c")
"""Host features without which the generated code would call a run-time library, or be wrong."""

DEFAULT = 0x1F80
"""MXCSR as the host's ABI wants it, and for a reset guest: round to nearest even, everything masked, no flags."""

# MXCSR: flags in bits 5..0 (IE DE ZE OE UE PE), masks in 12..7, rounding control in 14..13. DE has no guest flag.
_FLAGS = ((NX, 5), (UF, 4), (OF, 3), (DZ, 2), (NV, 0))
_FLAG_BITS, _MASKS, _ROUNDING = 0x3F, 0x1F80, 0x6000
_CONTROL = {RTZ: 3, RDN: 1, RUP: 2}
_CONTROL_TABLE = sum(control << (2 * frm) for frm, control in _CONTROL.items())
"""Rounding control of each frm, two bits each; RNE, RMM and reserved modes have 0, to nearest even."""

_HOST_DEFAULT = f"@fp.host_default = internal constant i32 {DEFAULT}"


def flags_of(saved: int) -> int:
    """fflags in a saved ``fcsr_host``, for readers of a hart that is not running."""
    return sum(flag for flag, bit in _FLAGS if saved >> bit & 1)


def _slot(b: Builder, state: str) -> str:
    return b.pointer(state, HART.offset["fcsr_host"])


def _store(b: Builder, slot: str) -> None:
    b.line(f'call void asm sideeffect "stmxcsr $0", "=*m,~{{memory}}"(ptr elementtype(i32) {slot})')


def _load(b: Builder, slot: str) -> None:
    b.line(f'call void asm sideeffect "ldmxcsr $0", "*m,~{{memory}}"(ptr elementtype(i32) {slot})')


def _read(b: Builder, state: str) -> Value:
    """MXCSR, 32 bits."""
    slot = _slot(b, state)
    _store(b, slot)
    return b.load(slot, 32)


def _write(b: Builder, state: str, value: Value) -> None:
    slot = _slot(b, state)
    b.store(slot, value, 32)
    _load(b, slot)


def _to_host(flags: Value) -> Value:
    """fflags (64 bits) as MXCSR bits."""
    bits = Value(0, 32)
    for flag, bit in _FLAGS:
        bits = bits | ((flags & flag) != 0).mux(Value(1 << bit, 32), 0)
    return bits


def emit_enter(b: Builder, state: str) -> None:
    """Native code begins: the guest's MXCSR. A HART of zeros is a reset one."""
    saved = b.load(_slot(b, state), 32)
    _write(b, state, (saved & (_FLAG_BITS | _ROUNDING)) | _MASKS)


def emit_leave(b: Builder, state: str) -> None:
    """Native code ends: save the guest's MXCSR, restore the host's."""
    _store(b, _slot(b, state))
    b.declare(_HOST_DEFAULT)
    _load(b, "@fp.host_default")


def emit_flags(b: Builder, state: str) -> Value:
    """fflags accrued so far, 5 bits."""
    host = _read(b, state)
    flags = Value(0, 32)
    for flag, bit in _FLAGS:
        position = flag.bit_length() - 1
        moved = host >> (bit - position) if bit >= position else host << (position - bit)
        flags = flags | (moved & flag)
    return flags.lo(5)


def emit_set_flags(b: Builder, state: str, flags: Value) -> None:
    """fflags = the low 5 bits of ``flags``."""
    _write(b, state, (_read(b, state) & (0xFFFFFFFF ^ _FLAG_BITS)) | _to_host(flags.zext(64)))


def emit_raise(b: Builder, state: str, flags: Value) -> None:
    """fflags |= ``flags`` (64 bits)."""
    before = _read(b, state)
    after = before | _to_host(flags)
    with b.when(after != before, likely=False):  # writing MXCSR is slow, and flags stay set
        _write(b, state, after)


def emit_set_rounding(b: Builder, state: str, frm: Value) -> None:
    """frm was written; the low 3 bits count."""
    control = (Value(_CONTROL_TABLE, 64) >> ((frm.zext(64) & 7) << 1)) & 3
    _write(b, state, (_read(b, state) & (0xFFFFFFFF ^ _ROUNDING)) | (control.lo(32) << 13))


def _asm(b: Builder, kind: str, instruction: str, constraints: str, argument: str) -> str:
    # sideeffect: these raise flags, so they may be neither dropped nor moved.
    return b.op(f'call {kind} asm sideeffect "{instruction}", "{constraints}"({argument})')


def to_signed(b: Builder, number: str, fmt: str, width: int, truncate: bool) -> Value:
    """cvt(t)ss2si, cvt(t)sd2si: ``number`` (of ``fmt`` s or d) as a signed integer of 32 or 64 bits.

    Truncated, or rounded by MXCSR. What does not fit gives the least integer and is invalid, not inexact.
    """
    kind = {"s": "float", "d": "double"}[fmt]
    name = f"vcvt{'t' if truncate else ''}s{fmt}2si"
    register = "k" if width == 32 else "q"
    return b.value(_asm(b, f"i{width}", f"{name} $1, ${{0:{register}}}", "=r,x", f"{kind} {number}"), width)


def half_to_single(b: Builder, bits: Value) -> str:
    """vcvtph2ps: exact; a signalling NaN is invalid and becomes quiet."""
    return _asm(b, "float", "vcvtph2ps $1, $0", "=x,x", f"float {_as_float(b, bits.zext(32))}")


def single_to_half(b: Builder, number: str) -> Value:
    """vcvtps2ph, rounded by MXCSR."""
    half = _asm(b, "float", "vcvtps2ph $$4, $1, $0", "=x,x", f"float {number}")
    return b.value(b.op(f"bitcast float {half} to i32"), 32).lo(16)


def _as_float(b: Builder, bits: Value) -> str:
    return b.op(f"bitcast i32 {bits.raw} to float")
