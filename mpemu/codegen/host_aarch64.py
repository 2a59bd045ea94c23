"""Hosts with aarch64 (Armv8.1-A and later). The names are those of host.py's :class:`Host`.

No inline assembly: LLVM has intrinsics for everything but cache maintenance, whose instructions stand here as words. So
code for this host can be generated on any other, where LLVM may not have its assembly parser.

Memory: docs/design/0013 says which instruction stands for what, and why.

Floating point: while native code runs, FPCR and FPSR belong to the guest. FPCR holds its rounding mode, and DN: every
NaN that is computed is the default one, which is RISC-V's. FPSR accrues flags, but for one: this architecture detects
tininess before rounding (Arm ARM, A1.5), RISC-V after. So underflow is kept in ``fcsr_host`` only, and FPSR's UFC is 0
between instructions: where a small result finds it set, the operation is repeated by integers, which know better. While
other code runs, ``fcsr_host`` of the HART struct has all of it, FPSR in the low half and FPCR in the high one. There is
no rounding mode RMM; ``codegen/fp.py`` takes the exact road.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mpemu.codegen.ir import Builder
from mpemu.isa.fp import DZ, FORMATS, NV, NX, OF, RDN, RTZ, RUP, UF, Format
from mpemu.isa.value import Value
from mpemu.layout import HART

ARCHITECTURE = "aarch64"
TRIPLE = "aarch64-unknown-linux-gnu"
NEEDED = ("fp-armv8", "neon", "lse")  # the last: atomics in one instruction, casp among them for amocas.q
ADVICE = "use a CPU with Armv8.1-A or later (Cortex-A55, Neoverse N1, Apple M1)"

# -- linking
PADDING = b"\0"  # udf #0

CONTEXT_PC, CONTEXT_RP = 440, 352  # pc, x21


def _branch26(word: int, place: int, target: int) -> int:
    return word & ~0x3FF_FFFF | _reach(target - place, 28, 2)


def _page21(word: int, place: int, target: int) -> int:
    """adrp: the distance in pages of 4 KiB."""
    pages = _reach((target >> 12) - (place >> 12), 21, 0)
    return word & ~0x60FF_FFE0 | (pages & 3) << 29 | pages >> 2 << 5


def _reach(distance: int, bits: int, shift: int) -> int:
    """``distance`` as a field of ``bits - shift`` bits."""
    if distance & ((1 << shift) - 1) or not -1 << (bits - 1) <= distance < 1 << (bits - 1):
        raise ValueError(f"a distance of {distance} is out of reach")
    return (distance >> shift) & ((1 << (bits - shift)) - 1)


def _low12(scale: int) -> Callable[[int, int, int], int]:
    """The low 12 bits of an address, in units of ``2**scale`` bytes."""

    def put(word: int, place: int, target: int) -> int:
        low = target & 0xFFF
        if low & ((1 << scale) - 1):
            raise ValueError(f"offset {target:#x} is not aligned to {1 << scale} bytes")
        return word & ~(0xFFF << 10) | low >> scale << 10

    return put


# "ELF for the Arm 64-bit Architecture", section 5.7: the kinds that LLVM's small PIC code model produces
_DATA = {260: "<q", 261: "<i"}  # PREL64, PREL32
_CODE: dict[int, tuple[Callable[[int, int, int], int], int]] = {
    275: (_page21, 4096),  # ADR_PREL_PG_HI21
    277: (_low12(0), 4096),  # ADD_ABS_LO12_NC
    278: (_low12(0), 4096),  # LDST8_ABS_LO12_NC, and so on
    284: (_low12(1), 4096),
    285: (_low12(2), 4096),
    286: (_low12(3), 4096),
    299: (_low12(4), 4096),
    282: (_branch26, 1),  # JUMP26
    283: (_branch26, 1),  # CALL26
}
"""How a word of code changes, and the alignment of the image that this depends on."""


def relocate(image: bytearray, kind: int, place: int, target: int) -> int:
    if kind in _DATA:
        try:
            struct.pack_into(_DATA[kind], image, place, target - place)
        except struct.error:
            raise ValueError(f"{target - place} bytes are too far") from None
        return 1
    if kind not in _CODE:
        raise ValueError(f"relocation of type {kind}")
    change, alignment = _CODE[kind]
    (word,) = struct.unpack_from("<I", image, place)
    struct.pack_into("<I", image, place, change(word, place, target))
    return alignment


# -- running
STENCILS = False  # an address takes two instructions here, and no kind of relocation makes it a constant


def is_relative(kind: int) -> bool:
    return True


def fill(image: bytearray, kind: int, place: int, value: int) -> None:
    raise ValueError(f"relocation of type {kind}")


def last_jump(code: bytes, place: int) -> int | None:
    return None


def pause(b: Builder) -> None:
    """isb, not yield: most cores take yield for a nop, but the callers count on some time passing."""
    _call(b, "void", "isb", ("i32", "15"))


_SYNC = (
    0xD53B0022,  # mrs x2, ctr_el0
    0xD3504C43,  # ubfx x3, x2, #16, #4
    0xD2800084,  # mov x4, #4
    0x9AC32083,  # lsl x3, x4, x3: bytes of a data cache line
    0xD1000465,  # sub x5, x3, #1
    0x8A250005,  # bic x5, x0, x5
    0xD50B7B25,  # 1: dc cvau, x5
    0x8B0300A5,  # add x5, x5, x3
    0xEB0100BF,  # cmp x5, x1
    0x54FFFFA3,  # b.lo 1b
    0xD5033B9F,  # dsb ish
    0x92400C42,  # and x2, x2, #15
    0x9AC22083,  # lsl x3, x4, x2: bytes of an instruction cache line
    0xD1000465,  # sub x5, x3, #1
    0x8A250005,  # bic x5, x0, x5
    0xD50B7525,  # 2: ic ivau, x5
    0x8B0300A5,  # add x5, x5, x3
    0xEB0100BF,  # cmp x5, x1
    0x54FFFFA3,  # b.lo 2b
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xD65F03C0,  # ret
)
"""void f(start, end): the sequence of the Arm ARM, B2.4.4, by the addresses at which the code will run."""


def sync_code(b: Builder, start: str, end: str) -> None:
    words = ", ".join(f"i32 {word}" for word in _SYNC)
    b.declare(f'@sync_code = internal constant [{len(_SYNC)} x i32] [{words}], section ".text.sync", align 4')
    b.line(f"call void @sync_code(ptr {start}, ptr {end})")


# -- memory
ANY_ALIGNMENT = False
GUEST_LOAD = GUEST_NARROW_LOAD = "acquire"
"""The compiler keeps the values of guest code, but not the dependencies in which RVWMO finds an order."""

_ISHLD, _ISHST, _ISH = "9", "10", "11"


def guest_fence(b: Builder, store_load: Value, load_any: Value, store_store: Value) -> None:
    for needed, kind in (
        (store_load, _ISH),
        (load_any & ~store_load, _ISHLD),
        (store_store & ~store_load, _ISHST),
    ):
        with b.when(needed):
            _call(b, "void", "dmb", ("i32", kind))


def after_atomic(b: Builder) -> None:
    _call(b, "void", "dmb", ("i32", _ISH))


# -- floating point
CANONICAL_NANS = True
_UFC = 8
# FPSR: IOC DZC OFC UFC IXC in bits 0..4. FPCR: rounding mode in bits 23..22, DN in bit 25; all else is 0.
_FLAGS = ((NV, 1), (DZ, 2), (OF, 4), (UF, _UFC), (NX, 16))
_ALL_FLAGS, _DN = 31, 1 << 25
_ROUNDING_SHIFT = 22
_ROUNDING = 3 << _ROUNDING_SHIFT
_MODE_TABLE = sum(mode << (2 * frm) for frm, mode in {RUP: 1, RDN: 2, RTZ: 3}.items())
"""The rounding mode of each frm, two bits each; RNE, RMM and reserved modes have 0, to nearest even."""


def flags_of(saved: int) -> int:
    return sum(flag for flag, bit in _FLAGS if saved & bit)


def saved_rounding(frm: int) -> int:
    return (_MODE_TABLE >> (2 * frm) & 3) << _ROUNDING_SHIFT << 32


def _call(b: Builder, result: str, name: str, *arguments: tuple[str, str]) -> str:
    kinds = ", ".join(kind for kind, _ in arguments)
    b.declare(f"declare {result} @llvm.aarch64.{name}({kinds})")
    text = f"call {result} @llvm.aarch64.{name}({', '.join(' '.join(a) for a in arguments)})"
    if result != "void":
        return b.op(text)
    b.line(text)
    return ""


def _get(b: Builder, register: str) -> Value:
    return b.value(_call(b, "i64", f"get.{register}"))


def _set(b: Builder, register: str, value: Value) -> None:
    _call(b, "void", f"set.{register}", ("i64", str(value.raw)))


def _slot(b: Builder, state: str) -> str:
    return b.pointer(state, HART.offset["fcsr_host"])


def _reversed(flags: Value) -> Value:
    """fflags from FPSR's flags or the other way round: the same five in the opposite order."""
    return flags.bitreverse() >> (64 - 5)


def emit_enter(b: Builder, state: str) -> None:
    saved = b.load(_slot(b, state))
    _set(b, "fpsr", saved & (_ALL_FLAGS ^ _UFC))
    _set(b, "fpcr", ((saved >> 32) & _ROUNDING) | _DN)


def emit_leave(b: Builder, state: str) -> None:
    slot = _slot(b, state)
    flags = (_get(b, "fpsr") & (_ALL_FLAGS ^ _UFC)) | (b.load(slot) & _UFC)
    b.store(slot, flags | (_get(b, "fpcr") & _ROUNDING) << 32)
    _set(b, "fpsr", Value(0, 64))
    _set(b, "fpcr", Value(0, 64))


def emit_flags(b: Builder, state: str) -> Value:
    return _reversed((_get(b, "fpsr") & (_ALL_FLAGS ^ _UFC)) | (b.load(_slot(b, state)) & _UFC)).lo(5)


def emit_set_flags(b: Builder, state: str, flags: Value) -> None:
    host, slot = _reversed(flags.zext(64) & _ALL_FLAGS), _slot(b, state)
    _set(b, "fpsr", host & (_ALL_FLAGS ^ _UFC))
    b.store(slot, (b.load(slot) & ~_UFC) | (host & _UFC))


def emit_raise(b: Builder, state: str, flags: Value) -> None:
    host, slot = _reversed(flags), _slot(b, state)
    _set(b, "fpsr", _get(b, "fpsr") | (host & (_ALL_FLAGS ^ _UFC)))
    b.store(slot, b.load(slot) | (host & _UFC))


def emit_set_rounding(b: Builder, state: str, frm: Value) -> None:
    mode = (Value(_MODE_TABLE, 64) >> ((frm.zext(64) & 7) << 1)) & 3
    _set(b, "fpcr", (mode << _ROUNDING_SHIFT) | _DN)


def doubtful(b: Builder, result: Value, fmt: Format) -> Value:
    """UFC is set, and nobody but this operation can have set it: it underflowed, or was tiny before rounding only."""
    slot = b.alloca("i1")
    b.store(slot, 0, 1)
    with b.when((result & (fmt.mask ^ fmt.sign)).leu(1 << fmt.fraction), likely=False):
        b.store(slot, (_get(b, "fpsr") & _UFC) != 0)
    return b.load(slot, 1)


def forget(b: Builder) -> None:
    _set(b, "fpsr", _get(b, "fpsr") & ~_UFC)


def can_round(bits: Value, fmt: Format, width: int) -> Value:
    """What is not integral can't be too large for 64 bits, but for 32 it can: then frintx would be inexact, too."""
    return Value(1, 1) if width == 64 else (bits & (fmt.mask ^ fmt.sign)).leu(fmt.largest_below(31))


_STRICT = 'metadata !"fpexcept.strict"'


def _constrained(b: Builder, name: str, result: str, kind: str, number: str, rounding: bool) -> str:
    metadata = f'metadata !"round.dynamic", {_STRICT}' if rounding else _STRICT
    kinds = ", ".join([kind] + ["metadata"] * (1 + rounding))
    b.declare(f"declare {result} @llvm.experimental.constrained.{name}({kinds})")
    return b.op(f"call {result} @llvm.experimental.constrained.{name}({kind} {number}, {metadata}) strictfp")


def to_signed(b: Builder, number: str, fmt: str, width: int, truncate: bool, fits: bool) -> Value:
    """fcvtzs, which saturates and gives 0 for a NaN; behind frintx where it is to be rounded."""
    kind, suffix = {"s": ("float", "f32"), "d": ("double", "f64")}[fmt]
    if not truncate:
        number = _constrained(b, f"rint.{suffix}", kind, kind, number, rounding=True)
    raw = _constrained(b, f"fptosi.i{width}.{suffix}", f"i{width}", kind, number, rounding=False)
    result = b.value(raw, width)
    if fits:
        return result
    form = FORMATS[fmt]
    bits = b.value(b.op(f"bitcast {kind} {number} to i{form.width}"), form.width)
    return (bits & (form.mask ^ form.sign)).gtu(form.infinity).mux((1 << (width - 1)) - 1, result)


def half_to_single(b: Builder, bits: Value) -> str:
    half = b.op(f"bitcast i16 {bits.raw} to half")
    return _constrained(b, "fpext.f32.f16", "float", "half", half, rounding=False)


def single_to_half(b: Builder, number: str) -> Value:
    half = _constrained(b, "fptrunc.f16.f32", "half", "float", number, rounding=True)
    return b.value(b.op(f"bitcast half {half} to i16"), 16)
