"""What can be known of an instruction from its body: traced once with everything unknown, effects are noted.

The decoder uses it to recognise spin loops: a short loop whose instructions only read memory and compute, and in which
no register carries anything from one turn to the next, can end only when another hart (or time) changes what it reads;
and LR/SC sequences with nothing in between that looks at memory (tight.py).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpemu.codegen.core import Core
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.records import Variant, ordering_bits
from mpemu.isa.hart import Isa, Operand, Routine
from mpemu.isa.registry import X_FIELDS
from mpemu.isa.value import Value

_QUIET_ROUTINES = frozenset({"csr_read"})


class Access(NamedTuple):
    """A load or store of ``size`` bytes at the sum of two operands, given by their fields' names."""

    terms: tuple[str, str]
    size: int
    writes: bool


@dataclass
class Facts:
    """``reads`` and ``writes`` are names of integer register fields. ``quiet``: no effect but on registers, the pc and,
    for atomics, the location that a spinning hart may write again and again. ``relative_jump``: jumps to pc + imm.
    ``pure``: nothing at all but registers and, by a branch, the pc is read or written. ``reserves``, ``conditional``:
    bits of the LR or SC that it is, or 0. ``waits``: it is a WRS. ``access``: what it loads or stores. ``sum``: the
    operands, by their fields' names, whose sum it writes to a register."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    quiet: bool = True
    relative_jump: bool = False
    pure: bool = True
    reserves: int = 0
    conditional: int = 0
    waits: bool = False
    access: Access | None = None
    sum: tuple[str, str] | None = None


class _Named(Value):
    """An operand field that remembers its name."""

    def __init__(self, name: str, ops: Builder) -> None:
        super().__init__("undef", 64, ops)
        self.name = name


class _Sum(Value):
    """Of a register and another operand."""

    def __init__(self, terms: tuple[str, str], ops: Builder) -> None:
        super().__init__("undef", 64, ops)
        self.terms = terms


class _Register(Value):
    """What a register field selects."""

    def __init__(self, name: str, ops: Builder) -> None:
        super().__init__("undef", 64, ops)
        self.name, self._builder = name, ops

    def __add__(self, other: Value | int) -> Value:
        if isinstance(other, _Named | _Register):
            return _Sum((self.name, other.name), self._builder)
        return super().__add__(other)


class _Target(Value):
    """pc + imm."""


class _Pc(Value):
    def __add__(self, other: Value | int) -> Value:
        if isinstance(other, _Named) and other.name == "imm":
            return _Target("undef", 64, self.ops)
        return super().__add__(other)


class _ProbedRegisters:
    def __init__(self, probe: _Probe) -> None:
        self._probe = probe

    def __getitem__(self, index: Operand) -> Value:
        if isinstance(index, _Named):
            self._probe.facts.reads.add(index.name)
            return _Register(index.name, self._probe.b)
        return self._probe.unknown(64)

    def __setitem__(self, index: Operand, value: Value) -> None:
        if isinstance(index, _Named):
            self._probe.facts.writes.add(index.name)
            self._probe.facts.sum = value.terms if isinstance(value, _Sum) else None


class _ProbedState:
    _probe: _Probe

    def __init__(self, probe: _Probe) -> None:
        object.__setattr__(self, "_probe", probe)

    def __getattr__(self, name: str) -> Value:
        return self._probe.unknown(64)

    def __setattr__(self, name: str, value: Operand) -> None:
        self._probe.loud()


class _Probe(Core):
    """The Hart protocol, noting effects and emitting nothing."""

    def __init__(self, isa: Isa, variant: Variant) -> None:
        b = Builder(Module(), "void @probe()")
        b.muted = 1
        super().__init__(b, isa, variant.insn.name)
        self.facts = Facts()
        self.x: Any = _ProbedRegisters(self)
        self.s: Any = _ProbedState(self)
        self.pc = _Pc("undef", 64, b)

    @property
    def next_pc(self) -> Value:
        return self.unknown(64)

    def unknown(self, width: int) -> Value:
        return Value("undef", width, self.b)

    def loud(self, *_: Any, **__: Any) -> None:
        if self.b.muted == 1:  # not inside a `when` that is known to be false
            self.facts.quiet = False
            self.facts.pure = False

    trap = illegal = zero_block = check_cbo = sfence_vma = fence_i = flush_tlb = context_changed = loud
    fp_dirty = set_ssip = set_fp_flags = set_fp_rounding = timer_changed = loud

    def silent(self, *_: Any, **__: Any) -> None:
        """These may be repeated."""
        self.facts.pure = False

    fence = pause = wait_for_interrupt = silent

    def wait_on_reservation(self, short: bool) -> None:
        self.silent()
        self.facts.waits = True

    def jump(self, target: Value) -> None:
        if isinstance(target, _Target):
            self.facts.relative_jump = True
        else:
            self.loud()

    def call(self, routine: Routine | str, *arguments: Operand) -> Value:
        name = routine if isinstance(routine, str) else routine.name
        if name not in _QUIET_ROUTINES:
            self.loud()
        self.silent()
        return self.unknown(64)

    def store(self, address: Value, value: Value) -> None:
        self.loud()
        self._access(address, value.width, writes=True)

    def _access(self, address: Value, width: int, writes: bool) -> None:
        if isinstance(address, _Sum):
            self.facts.access = Access(address.terms, width // 8, writes)

    def load(self, address: Value, width: int) -> Value:
        self.silent()
        self._access(address, width, writes=False)
        return self.unknown(width)

    def load_reserved(self, address: Value, width: int, aq: Operand, rl: Operand) -> Value:
        self.silent()
        self.facts.reserves = width
        return self.unknown(width)

    def store_conditional(self, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        self.silent()
        self.facts.conditional = value.width
        return self.unknown(64)

    def amo(self, op: str, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        self.silent()
        return self.unknown(value.width)

    def cas(self, address: Value, expected: Value, new: Value, aq: Operand, rl: Operand) -> Value:
        self.silent()
        return self.unknown(new.width)

    def fp(self, op: str, fmt: str, *operands: Value, rm: Operand = 0, to: str = "") -> Value:
        self.loud()
        return self.unknown({"h": 16, "s": 32, "d": 64, "w": 32, "wu": 32}.get(to or fmt, 64))

    def fp_flags(self) -> Value:
        self.loud()
        return self.unknown(5)


@functools.cache
def facts(isa: Isa, variant: Variant) -> Facts:
    """Trace the body of ``variant``."""
    probe = _Probe(isa, variant)
    fixed = {**ordering_bits(variant.insn), **dict(variant.fixed)}
    insn = variant.insn
    insn.body(probe, *(fixed[n] if n in fixed else _Named(n, probe.b) for n in insn.operands))
    found = probe.facts
    found.reads &= X_FIELDS
    found.writes &= X_FIELDS
    return found
