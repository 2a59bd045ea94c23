"""Hosts with x86-64. The names are those of host.py's :class:`Host`.

Memory: x86-64 is TSO (Intel SDM vol. 3, 9.2): of the orders that a guest may ask for, only store -> load needs an
instruction. Relaxed, acquire and release accesses are all plain moves.

Floating point: while native code runs, MXCSR belongs to the guest: it holds the guest's rounding mode, accrues the
guest's flags, masks every exception, and neither flushes nor zeroes subnormals. While other code runs, ``fcsr_host`` of
the HART struct keeps it. RMM does not exist here; MXCSR then says RNE and ``codegen/fp.py`` takes the exact road. SSE
detects tininess after rounding, as RISC-V wants. The instructions without a constrained intrinsic are inline assembly:
a target machine needs LLVM's assembly parser.
"""

from __future__ import annotations

import struct

from mpemu.codegen.ir import Builder
from mpemu.isa.fp import DZ, FORMATS, NV, NX, OF, RDN, RTZ, RUP, UF, Format
from mpemu.isa.value import Value
from mpemu.layout import HART

ARCHITECTURE = "x86_64"
TRIPLE = "x86_64-unknown-linux-gnu"
NEEDED = ("sse4.1", "fma", "f16c", "cx16")  # the last is amocas.q
ADVICE = "use a CPU of 2013 or later or, in a virtual machine, pass the host's CPU through"

PADDING = b"\xcc"

CONTEXT_PC, CONTEXT_RP = 168, 80  # rip, r13
# x86-64 psABI, table 4.9: the PC-relative kinds that the small PIC code model produces
_PC32, _PLT32, _PC64 = 2, 4, 24
_FORMATS = {1: "<q", 11: "<i"}  # R_X86_64_64, R_X86_64_32S: constants
_JMP_REL32 = b"\xe9"

ANY_ALIGNMENT = True
GUEST_LOAD = "monotonic"
GUEST_NARROW_LOAD = "volatile"  # LLVM has one instruction that loads and extends, but not for atomic loads
CANONICAL_NANS = False

DEFAULT = 0x1F80
"""MXCSR as the host's ABI wants it, and for a reset guest: round to nearest even, everything masked, no flags."""

# MXCSR: flags in bits 5..0 (IE DE ZE OE UE PE), masks in 12..7, rounding control in 14..13. DE has no guest flag.
_FLAGS = ((NX, 5), (UF, 4), (OF, 3), (DZ, 2), (NV, 0))
_FLAG_BITS, _MASKS, _ROUNDING = 0x3F, 0x1F80, 0x6000
_CONTROL = {RTZ: 3, RDN: 1, RUP: 2}
_CONTROL_TABLE = sum(control << (2 * frm) for frm, control in _CONTROL.items())
"""Rounding control of each frm, two bits each; RNE, RMM and reserved modes have 0, to nearest even."""

_HOST_DEFAULT = f"@fp.host_default = internal constant i32 {DEFAULT}"


def relocate(image: bytearray, kind: int, place: int, target: int) -> int:
    if kind not in (_PC32, _PLT32, _PC64):
        raise ValueError(f"relocation of type {kind}")
    try:
        struct.pack_into("<q" if kind == _PC64 else "<i", image, place, target - place)
    except struct.error:
        raise ValueError(f"{target - place} bytes are too far") from None
    return 1


STENCILS = True


def is_relative(kind: int) -> bool:
    return kind in (_PC32, _PLT32, _PC64)


def fill(image: bytearray, kind: int, place: int, value: int) -> None:
    try:
        struct.pack_into(_FORMATS[kind], image, place, value)
    except (KeyError, struct.error):
        raise ValueError(f"{value} in a relocation of type {kind}") from None


def last_jump(code: bytes, place: int) -> int | None:
    start = place - len(_JMP_REL32)
    return start if place == len(code) - 4 and code[start:place] == _JMP_REL32 else None


def pause(b: Builder) -> None:
    b.line('call void asm sideeffect "pause", ""()')


def sync_code(b: Builder, start: str, end: str) -> None:
    """Nothing: instruction fetch is coherent."""


def guest_fence(b: Builder, store_load: Value, load_any: Value, store_store: Value) -> None:
    with b.when(store_load):
        b.fence()


def after_atomic(b: Builder) -> None:
    """Nothing: LOCK-prefixed instructions are full fences."""


def flags_of(saved: int) -> int:
    """fflags in a saved ``fcsr_host``, for readers of a hart that is not running."""
    return sum(flag for flag, bit in _FLAGS if saved >> bit & 1)


def saved_rounding(frm: int) -> int:
    return DEFAULT | _CONTROL.get(frm, 0) << 13


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


def doubtful(b: Builder, result: Value, fmt: Format) -> Value:
    return Value(0, 1)


def forget(b: Builder) -> None:
    """There is nothing."""


def can_round(bits: Value, fmt: Format, width: int) -> Value:
    return Value(1, 1)


def to_signed(b: Builder, number: str, fmt: str, width: int, truncate: bool, fits: bool) -> Value:
    """cvt(t)ss2si, cvt(t)sd2si: what does not fit gives the least integer, with the right flags."""
    kind = {"s": "float", "d": "double"}[fmt]
    name = f"vcvt{'t' if truncate else ''}s{fmt}2si"
    register = "k" if width == 32 else "q"
    result = b.value(_asm(b, f"i{width}", f"{name} $1, ${{0:{register}}}", "=r,x", f"{kind} {number}"), width)
    if fits:
        return result
    form = FORMATS[fmt]
    bits = b.value(b.op(f"bitcast {kind} {number} to i{form.width}"), form.width)
    least, greatest = 1 << (width - 1), (1 << (width - 1)) - 1
    negative = bits.bit(form.width - 1) & bits.leu(form.sign | form.infinity)
    return (result == least).mux(negative.mux(Value(least, width), greatest), result)


def half_to_single(b: Builder, bits: Value) -> str:
    """vcvtph2ps: exact; a signalling NaN is invalid and becomes quiet."""
    return _asm(b, "float", "vcvtph2ps $1, $0", "=x,x", f"float {_as_float(b, bits.zext(32))}")


def single_to_half(b: Builder, number: str) -> Value:
    """vcvtps2ph, rounded by MXCSR."""
    half = _asm(b, "float", "vcvtps2ph $$4, $1, $0", "=x,x", f"float {number}")
    return b.value(b.op(f"bitcast float {half} to i32"), 32).lo(16)


def _as_float(b: Builder, bits: Value) -> str:
    return b.op(f"bitcast i32 {bits.raw} to float")
