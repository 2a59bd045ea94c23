"""The language of instruction bodies: everything that an instruction or a privileged routine can do to a hart.

Bodies are traced. Under a code generator the values are symbolic and effects become code; under the reference model the
values are constants and effects happen. Both implement :class:`Hart`. Rules that bodies keep:

- no effect before the last point that can trap: a body that traps has done nothing (the interpreter restarts bodies);
- conditions are ``with h.when(cond):``, never ``if`` (except on extensions and operand fields, which are Python values
  in every binding that needs them to be);
- a body does not advance the pc; it only calls :meth:`Hart.jump` to go elsewhere;
- an operand field (a parameter of the body) is a Python int or a 64-bit run-time Value, sign- or zero-extended as its
  pattern says; ``value_of(imm)`` makes a Value of either.

A *routine* (:func:`routine`) is a function in the same language that bodies and other routines call: CSR access,
translation, trap entry. It compiles to one native function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mpemu.isa.value import Value

Operand = Value | int


class Registers(Protocol):
    """A register file of 64-bit values. The index is an operand field: an int or a run-time value."""

    def __getitem__(self, index: Operand) -> Value: ...
    def __setitem__(self, index: Operand, value: Value) -> None: ...


class Local(Protocol):
    """A mutable local of a body or routine: the way to carry a value out of a ``when``."""

    def get(self) -> Value: ...
    def set(self, value: Operand) -> None: ...


class State(Protocol):
    """The hart's architectural state by field name (``isa/state.py``): reads give values, assignments are effects."""

    def __getattr__(self, name: str) -> Value: ...
    def __setattr__(self, name: str, value: Operand) -> None: ...


class Isa(Protocol):
    """What this hart implements; known while code is generated."""

    def has(self, extension: str) -> bool: ...


class Hart(Protocol):
    """The whole interface of bodies and routines."""

    @property
    def isa(self) -> Isa: ...
    @property
    def x(self) -> Registers:
        """Integer registers; x[0] reads zero and ignores writes."""
        ...

    @property
    def f(self) -> Registers:
        """Floating-point registers as raw 64-bit patterns. Bodies that write one call :meth:`fp_dirty`."""
        ...

    @property
    def s(self) -> State: ...

    # -- control
    @property
    def pc(self) -> Value: ...
    @property
    def next_pc(self) -> Value:
        """The address of the instruction behind this one (2 or 4 bytes on)."""
        ...

    def when(self, condition: Value) -> AbstractContextManager[None]:
        """Effects inside happen only if ``condition`` (1 bit) is 1. Nests."""
        ...

    def otherwise(self) -> AbstractContextManager[None]:
        """Directly behind a ``when``: the effects of its other branch."""
        ...

    def local(self, initial: Operand, width: int = 64) -> Local: ...
    def jump(self, target: Value) -> None:
        """Continue at ``target`` (bit 0 already clear) instead of the next instruction. Nothing may follow."""
        ...

    def trap(self, cause: Operand, tval: Operand = 0) -> None:
        """Raise a synchronous exception; this body (and the routines' callers) end here."""
        ...

    def illegal(self) -> None:
        """Illegal-instruction exception, tval = the instruction's bits."""
        ...

    def call(self, routine: Routine, *arguments: Operand) -> Value:
        """Call a routine. If it traps, so does the caller."""
        ...

    def ret(self, value: Operand = 0) -> None:
        """Return from a routine (not from a body). Ends the routine, also from inside a ``when``."""
        ...

    def context_changed(self, target: Value | None = None) -> None:
        """Privilege, mstatus, satp, interrupt enables or pending bits may have changed: look again at what depends on
        them, and take an interrupt that is now due before the next instruction, which is the one at ``target`` (xRET)
        or the one behind this. Last effect of a body; may stand at the end of a ``when``."""
        ...

    # -- memory: addresses are virtual, sizes come from the widths; may trap
    def load(self, address: Value, width: int) -> Value: ...
    def store(self, address: Value, value: Value) -> None: ...
    def load_reserved(self, address: Value, width: int, aq: Operand, rl: Operand) -> Value: ...
    def store_conditional(self, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        """64-bit 0 on success, 1 on failure. Gives up the reservation either way."""
        ...

    def amo(self, op: str, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        """Atomic ``swap add and or xor min max minu maxu``; the old value."""
        ...

    def cas(self, address: Value, expected: Value, new: Value, aq: Operand, rl: Operand) -> Value:
        """Atomic compare-and-swap of 8 to 128 bits; the old value."""
        ...

    def fence(self, predecessors: Operand, successors: Operand, fm: Operand) -> None: ...
    def fence_i(self) -> None: ...
    def sfence_vma(self, address: Value | None, asid: Value | None) -> None:
        """Drop translations: of one page if ``address`` is given, else all. Permission is checked by the caller."""
        ...

    def check_cbo(self, address: Value, write: bool) -> None:
        """Translate a cache block's address for a CBO (Zicbom: a load or store must be allowed); may trap."""
        ...

    def zero_block(self, address: Value) -> None:
        """Zicboz: write zeros to the 64-byte block that holds ``address``; may trap."""
        ...

    # -- physical memory, for the page-table walk
    def read_pte(self, address: Value) -> Value:
        """A 64-bit PTE at a physical address. If that is not RAM: all ones in :attr:`State.walk_fault`, value 0."""
        ...

    def cas_pte(self, address: Value, expected: Value, new: Value) -> Value:
        """Atomically replace a PTE; 1 bit: whether it still was ``expected``."""
        ...

    # -- time, interrupts, waiting
    def irq_lines(self) -> Value:
        """The interrupt lines from outside, as mip bits (MSIP MTIP MEIP SSIP STIP SEIP); SSIP is stored in its line."""
        ...

    def set_ssip(self, value: Operand) -> None:
        """Set or clear the SSIP line (1 bit)."""
        ...

    def time(self) -> Value:
        """mtime, 64 bits."""
        ...

    def instret(self) -> Value:
        """Instructions retired by this hart since reset, this one not included."""
        ...

    def timer_changed(self) -> None:
        """stimecmp or menvcfg.STCE changed: set the STIP line anew and rearm."""
        ...

    def wait_for_interrupt(self) -> None: ...
    def wait_on_reservation(self, short: bool) -> None:
        """WRS.STO (short) or WRS.NTO: wait until a reservation set is written or an interrupt is pending, or don't."""
        ...

    def pause(self) -> None: ...

    # -- translation caches
    def flush_tlb(self) -> None:
        """Drop everything cached from satp, PMP and page tables (after a write that changes them)."""
        ...

    # -- floating point: operands and results are bit patterns of the format's width; flags accrue, see isa/fp.py
    def fp(self, op: str, fmt: str, *operands: Value, rm: Operand = 0, to: str = "") -> Value:
        """A floating-point operation; ``fmt`` is "h", "s" or "d". isa/fp.py documents the operations."""
        ...

    def fp_flags(self) -> Value:
        """fflags accrued so far: the low 5 bits; zero-extend it to compute with."""
        ...

    def set_fp_flags(self, flags: Value) -> None:
        """fflags were written: the low 5 bits of a 64-bit value."""
        ...

    def set_fp_rounding(self, frm: Value) -> None:
        """frm was written: the low 3 bits of a 64-bit value, which the body has stored in ``s.frm`` too."""
        ...

    def fp_dirty(self) -> None:
        """A floating-point register or flag was written: mstatus.FS becomes Dirty."""
        ...


@dataclass(frozen=True)
class Routine:
    """A function in the guest language with 64-bit parameters and a 64-bit result."""

    name: str
    function: Callable[..., None]
    parameters: tuple[str, ...]
    doc: str


ROUTINES: dict[str, Routine] = {}


def routine(function: Callable[..., Any]) -> Routine:
    """Register ``function(h, ...)`` as a routine; :meth:`Hart.ret` gives its result (0 if it falls off the end)."""
    made = Routine(
        function.__name__, function, tuple(inspect.signature(function).parameters)[1:], inspect.getdoc(function) or ""
    )
    if made.name in ROUTINES:
        raise ValueError(f"routine {made.name} is defined twice")
    ROUTINES[made.name] = made
    return made
