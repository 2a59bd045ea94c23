"""What generated code needs of the host's architecture: the interface, and the choice.

Each architecture is one module with these names; generated code reaches it as ``module.host``. Nothing else in
mpemu/codegen knows instructions, registers, relocations or features of a host (a test looks for them).
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Protocol

from mpemu.isa.fp import Format
from mpemu.isa.value import Value

if TYPE_CHECKING:
    from mpemu.codegen.ir import Builder


class UnsupportedHost(Exception):
    """Generated code can't run on this machine."""


class Host(Protocol):
    """An architecture. The memory model's part is argued in docs/design/0013, floating point's in 0010."""

    @property
    def ARCHITECTURE(self) -> str:
        """As platform.machine() has it."""

    @property
    def TRIPLE(self) -> str: ...

    @property
    def NEEDED(self) -> tuple[str, ...]:
        """LLVM's names of the CPU features without which the code would be wrong, or call a library."""

    @property
    def ADVICE(self) -> str:
        """What a user whose CPU lacks one of them should do."""

    # -- linking
    @property
    def PADDING(self) -> bytes:
        """What lies between sections; executed, it traps."""

    def relocate(self, image: bytearray, kind: int, place: int, target: int) -> int:
        """Write the relocation of the ELF type ``kind`` at offset ``place``: it refers to offset ``target``.

        Gives the alignment of the image's start on which the result depends, 1 if on none. ValueError if the kind is
        unknown, or the target out of its reach.
        """

    # -- stencils (codegen/stencils.py)
    @property
    def STENCILS(self) -> bool:
        """LLVM makes code with holes for this host that :meth:`fill` knows."""

    def is_relative(self, kind: int) -> bool:
        """Relocations of the ELF type ``kind`` refer to a place in the code (:meth:`relocate`), not to a constant."""

    def fill(self, image: bytearray, kind: int, place: int, value: int) -> None:
        """Write the constant ``value``, which may be negative, at offset ``place``. ValueError if it does not fit."""

    def last_jump(self, code: bytes, place: int) -> int | None:
        """Where the jump starts that ends ``code`` and whose target is written at ``place``, None if it is not such."""

    # -- running
    @property
    def CONTEXT_PC(self) -> int:
        """Offset of the pc in the ucontext_t that a signal handler gets."""

    @property
    def CONTEXT_RP(self) -> int:
        """The same of the register of the second argument of handlers."""

    def pause(self, b: Builder) -> None:
        """Tell the core that this is a spin loop. Takes some 10 to 50 ns: waits are counted in pauses."""

    def sync_code(self, b: Builder, start: str, end: str) -> None:
        """Before this core runs code at ``start`` .. ``end`` (ptr) that another process has written."""

    # -- memory
    @property
    def GUEST_LOAD(self) -> str:
        """LLVM's ordering of a guest's plain load. (A plain store's is monotonic everywhere.)"""

    @property
    def GUEST_NARROW_LOAD(self) -> str:
        """The same where the value is extended to a register's width: an ordering, or "volatile" (Builder.load)."""

    @property
    def ANY_ALIGNMENT(self) -> bool:
        """What a guest's plain loads and stores become need not be aligned."""

    def guest_fence(self, b: Builder, store_load: Value, load_any: Value, store_store: Value) -> None:
        """Keep the orders whose bits (of 1 bit) are set, of accesses before and behind: earlier stores and later loads;
        earlier loads and everything later; earlier stores and later stores."""

    def after_atomic(self, b: Builder) -> None:
        """Behind a sequentially consistent read-modify-write of the guest's: also its write comes before all that
        follows, as RVWMO wants of .aq, not only its read."""

    # -- floating point; ``state`` points to the HART struct
    @property
    def CANONICAL_NANS(self) -> bool:
        """A NaN that the host computes is RISC-V's canonical one."""

    def flags_of(self, saved: int) -> int:
        """fflags in a saved ``fcsr_host``, for readers of a hart that is not running."""

    def saved_rounding(self, frm: int) -> int:
        """``fcsr_host`` of a hart that is not running, with that frm and no flags."""

    def emit_enter(self, b: Builder, state: str) -> None:
        """Native code begins: the guest's modes and flags. A HART of zeros is a reset one."""

    def emit_leave(self, b: Builder, state: str) -> None:
        """Native code ends: save the guest's modes and flags, restore those of the host's ABI."""

    def emit_flags(self, b: Builder, state: str) -> Value:
        """fflags accrued so far, 5 bits."""

    def emit_set_flags(self, b: Builder, state: str, flags: Value) -> None:
        """fflags = the low 5 bits of ``flags``."""

    def emit_raise(self, b: Builder, state: str, flags: Value) -> None:
        """fflags |= ``flags`` (64 bits)."""

    def emit_set_rounding(self, b: Builder, state: str, frm: Value) -> None:
        """frm was written; the low 3 bits count. For RMM, which no host has, the mode does not matter."""

    def doubtful(self, b: Builder, result: Value, fmt: Format) -> Value:
        """1 bit: the host's operation that gave ``result`` may have raised a wrong flag.

        It has if its flag is now forgotten (:meth:`forget`) and the operation done by integers. Asked directly behind
        operations that can underflow.
        """

    def forget(self, b: Builder) -> None:
        """Drop the flag on account of which the last result was doubtful."""

    def can_round(self, bits: Value, fmt: Format, width: int) -> Value:
        """1 bit: :meth:`to_signed` can round ``bits`` of ``fmt`` to ``width`` bits with the right flags."""

    def to_signed(self, b: Builder, number: str, fmt: str, width: int, truncate: bool, fits: bool) -> Value:
        """``number`` (of ``fmt`` s or d) as a signed integer of 32 or 64 bits, truncated or rounded by the mode in use.

        What does not fit saturates, a NaN as +inf, and is invalid, not inexact. With ``fits`` all numbers are known to
        fit.
        """

    def half_to_single(self, b: Builder, bits: Value) -> str:
        """Exact; a signalling NaN is invalid and becomes quiet."""

    def single_to_half(self, b: Builder, number: str) -> Value:
        """Rounded by the mode in use."""


def host_of(architecture: str) -> Host:
    """The host of that name, as platform.machine() has it. UnsupportedHost."""
    match architecture:
        case "x86_64":
            from mpemu.codegen import host_x86_64

            return host_x86_64
        case "aarch64":
            from mpemu.codegen import host_aarch64

            return host_aarch64
    raise UnsupportedHost(f"this machine is {architecture}; mpemu generates code for x86_64 and aarch64 only")


def native() -> Host:
    """The machine that this runs on. UnsupportedHost."""
    return host_of(platform.machine())
