"""What instruction handlers and routines share when they are compiled: registers, state fields, control, calls.

Conventions of the generated code. ``%st`` points to the hart's HART struct. A routine is
``{i64, i64} @r_NAME(ptr %st, i64 ...)``: its result and a status: OK, TRAP (the exception is in exc_cause and exc_tval)
or EXIT (leave the native loop; the reason is in exit_reason).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mpemu.codegen import fp
from mpemu.codegen.ir import Builder
from mpemu.isa.hart import ROUTINES, Isa, Operand, Routine
from mpemu.isa.privileged import FS
from mpemu.isa.value import Value
from mpemu.layout import HART
from mpemu.vcpu.exits import OK

SINK = 32
"""The slot behind x31 that takes writes to x0."""


class NeedsSlow(Exception):
    """The fast form of a handler can't do this: use the slow one from the start."""


class RegisterField(Value):
    """A destination field as records hold it: 32 (the sink) stands for x0. As a value it is the true number."""

    def __init__(self, stored: Any, b: Builder) -> None:
        self.stored = stored
        self.width = 64
        self.ops = b
        self._b = b

    @property
    def raw(self) -> Any:  # type: ignore[override]
        return self._b.op(f"and i64 {self.stored}, 31")


class XRegisters:
    def __init__(self, core: Core) -> None:
        self._core = core

    def __getitem__(self, index: Operand) -> Value:
        b = self._core.b
        if isinstance(index, Value) and index.constant is not None:
            index = index.constant
        if isinstance(index, int):
            return Value(0, 64) if index == 0 else b.load(b.pointer("%st", HART.offset["x"] + 8 * index))
        return b.load(b.op(f"getelementptr i64, ptr %st, i64 {index.raw}"))

    def __setitem__(self, index: Operand, value: Value) -> None:
        b = self._core.b
        if value.width != 64:
            raise TypeError(f"{self._core.name}: x registers have 64 bits, not {value.width}")
        if isinstance(index, Value) and index.constant is not None:
            index = index.constant
        if isinstance(index, int):
            if index:
                b.store(b.pointer("%st", HART.offset["x"] + 8 * index), value)
            return
        stored = index.stored if isinstance(index, RegisterField) else (index == 0).mux(b.value(SINK), index).raw
        b.store(b.op(f"getelementptr i64, ptr %st, i64 {stored}"), value)


class FRegisters:
    def __init__(self, core: Core) -> None:
        self._core = core

    def _slot(self, index: Operand) -> str:
        b = self._core.b
        if isinstance(index, int):
            return b.pointer("%st", HART.offset["f"] + 8 * index)
        return b.op(f"getelementptr i64, ptr {b.pointer('%st', HART.offset['f'])}, i64 {index.raw}")

    def __getitem__(self, index: Operand) -> Value:
        return self._core.b.load(self._slot(index))

    def __setitem__(self, index: Operand, value: Value) -> None:
        if value.width != 64:
            raise TypeError(f"{self._core.name}: f registers have 64 bits, not {value.width}")
        self._core.b.store(self._slot(index), value)


class StateFields:
    """``h.s``: every 64-bit item of HART by name."""

    _core: Core

    def __init__(self, core: Core) -> None:
        object.__setattr__(self, "_core", core)

    def __getattr__(self, name: str) -> Value:
        b = self._core.b
        return b.load(b.pointer("%st", HART.offset[name]))

    def __setattr__(self, name: str, value: Operand) -> None:
        b = self._core.b
        if isinstance(value, Value) and value.width != 64:
            raise TypeError(f"{self._core.name}: {name} has 64 bits, not {value.width}")
        b.store(b.pointer("%st", HART.offset[name]), value)


class LocalVariable:
    """A stack slot; LLVM turns it into values."""

    def __init__(self, b: Builder, initial: Operand, width: int) -> None:
        self._b, self._width = b, width
        self._slot = b.alloca(f"i{width}")
        self.set(initial)

    def get(self) -> Value:
        return self._b.load(self._slot, self._width)

    def set(self, value: Operand) -> None:
        self._b.store(self._slot, value, self._width)


class Core:
    """The part of the Hart protocol that needs no record and no return convention."""

    def __init__(self, b: Builder, isa: Isa, name: str) -> None:
        self.b, self.isa, self.name = b, isa, name
        self.x, self.f, self.s = XRegisters(self), FRegisters(self), StateFields(self)

    # -- control
    def when(self, condition: Value, likely: bool | None = None) -> AbstractContextManager[None]:
        if condition.width != 1:
            raise TypeError(f"{self.name}: when() takes a 1-bit condition, not {condition.width} bits")
        return self.b.when(condition, likely)

    def otherwise(self) -> AbstractContextManager[None]:
        return self.b.otherwise()

    def local(self, initial: Operand, width: int = 64) -> LocalVariable:
        return LocalVariable(self.b, initial, width)

    def failed(self, status: Value) -> None:
        """Leave: a routine that was called returned ``status`` TRAP or EXIT. How is up to what is being compiled."""
        raise NotImplementedError

    def call_status(self, routine: Routine | str, *arguments: Operand) -> tuple[Value, Value]:
        """Call a routine without looking at its status: (result, status)."""
        if isinstance(routine, str):
            routine = ROUTINES[routine]
        if len(arguments) != len(routine.parameters):
            raise TypeError(f"{self.name}: {routine.name} takes {len(routine.parameters)} arguments")
        raws = "".join(f", i64 {a.raw if isinstance(a, Value) else a & (1 << 64) - 1}" for a in arguments)
        pair = self.b.op(f"call {{ i64, i64 }} @r_{routine.name}(ptr %st{raws})")
        return (
            self.b.value(self.b.op(f"extractvalue {{ i64, i64 }} {pair}, 0")),
            self.b.value(self.b.op(f"extractvalue {{ i64, i64 }} {pair}, 1")),
        )

    def call(self, routine: Routine | str, *arguments: Operand) -> Value:
        result, status = self.call_status(routine, *arguments)
        with self.when(status != OK, likely=False):
            self.failed(status)
        return result

    # -- memory below the MMU
    def read_pte(self, address: Value) -> Value:
        return self.call("host_read_pte", address)

    def cas_pte(self, address: Value, expected: Value, new: Value) -> Value:
        return self.call("host_cas_pte", address, expected, new).lo(1)

    # -- time, interrupts
    def irq_lines(self) -> Value:
        return self.call("irq_lines")

    def set_ssip(self, value: Operand) -> None:
        byte = value.zext(8) if isinstance(value, Value) else value
        self.b.store(self.b.pointer("%st", HART.offset["lines"] + 3), byte, 8, "monotonic")

    def time(self) -> Value:
        return self.call("mtime")

    def instret(self) -> Value:
        return self.s.instret

    def timer_changed(self) -> None:
        self.call("update_timers")

    # -- translation caches
    def flush_tlb(self) -> None:
        self.call("flush_tlb")

    def fence_i(self) -> None:
        self.call("flush_code")

    def sfence_vma(self, address: Value | None, asid: Value | None) -> None:
        if address is None:
            self.call("flush_tlb")
        else:
            self.call("flush_page", address)

    # -- floating point
    def fp(self, op: str, fmt: str, *operands: Value, rm: Operand = 0, to: str = "") -> Value:
        return fp.emit_fp(self.b, "%st", op, fmt, operands, rm, to)

    def fp_flags(self) -> Value:
        return self.b.module.host.emit_flags(self.b, "%st")

    def set_fp_flags(self, flags: Value) -> None:
        self.b.module.host.emit_set_flags(self.b, "%st", flags)

    def set_fp_rounding(self, frm: Value) -> None:
        self.b.module.host.emit_set_rounding(self.b, "%st", frm)

    def fp_dirty(self) -> None:
        mstatus = self.s.mstatus
        # only where it changes: a store here in every instruction would be a chain through memory
        with self.when((mstatus & FS) != FS, likely=False):
            self.s.mstatus = mstatus | FS


class _Done:
    def __init__(self, b: Builder, label: str) -> None:
        self._b, self._label = b, label

    def __call__(self) -> None:
        """Leave the loop."""
        self._b.branch(self._label)


@contextmanager
def loop(b: Builder) -> Iterator[_Done]:
    """An endless loop in generated code; call what it yields to leave it."""
    head, out = b.label(), b.label()
    b.place(head)
    yield _Done(b, out)
    if not b.terminated:
        b.branch(head)
    b.place(out)
