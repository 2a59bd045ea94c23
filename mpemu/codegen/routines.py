"""Compiles routines: those of isa/ (the privileged architecture) and the *native* ones of this package.

A native routine is written in the same language with host memory besides: it implements what the architecture leaves to
the machine (the TLB, clocks, interrupt controllers). Both live in one table by name and call each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mpemu.codegen.core import Core, loop
from mpemu.codegen.ir import Builder, Module
from mpemu.isa.hart import Isa, Operand, Routine, routine
from mpemu.isa.value import Value
from mpemu.layout import HART, MACHINE, Struct
from mpemu.vcpu.exits import EXIT, OK, TRAP, ExitReason
from mpemu.vcpu.hostcalls import HOST_FUNCTIONS

ALL_ONES = (1 << 64) - 1
"""No tag, no deadline, no reservation: what nothing compares equal to, or comes after."""
native = routine
"""Marks a native routine: parameters are ``(h: Native, ...)``."""


class MachineFields:
    """``h.m``: every 64-bit item of MACHINE by name."""

    _native: Native

    def __init__(self, native_: Native) -> None:
        object.__setattr__(self, "_native", native_)

    def __getattr__(self, name: str) -> Value:
        return self._native.b.load(self._native.machine(name))

    def __setattr__(self, name: str, value: Operand) -> None:
        self._native.put(self._native.machine(name), value)


class Native(Core):
    """The language of native routines: the Hart protocol's control and state, and host memory."""

    def __init__(self, b: Builder, isa: Isa, name: str) -> None:
        super().__init__(b, isa, name)
        self.m = MachineFields(self)

    # -- leaving
    def ret(self, value: Operand = 0) -> None:
        raw = value.zext(64).raw if isinstance(value, Value) else value
        self._leave(raw, OK)

    def _leave(self, raw: Any, status: Any) -> None:
        pair = self.b.op(f"insertvalue {{ i64, i64 }} undef, i64 {raw}, 0")
        pair = self.b.op(f"insertvalue {{ i64, i64 }} {pair}, i64 {status}, 1")
        self.b.terminate(f"ret {{ i64, i64 }} {pair}")

    def failed(self, status: Value) -> None:
        self._leave(0, status.raw)

    def trap(self, cause: Operand, tval: Operand = 0) -> None:
        self.s.exc_cause = cause
        self.s.exc_tval = tval
        self._leave(0, TRAP)

    def illegal(self) -> None:
        self.trap(2, self.call("current_instruction"))

    def leave(self, reason: ExitReason) -> None:
        """Leave the native loop for Python."""
        self.s.exit_reason = int(reason)
        self._leave(0, EXIT)

    def loop(self) -> AbstractContextManager[Callable[[], None]]:
        """``with h.loop() as done:`` repeats until ``done()``."""
        return loop(self.b)

    # -- host memory: addresses are 64-bit values
    def at(self, address: Value, offset: Value | int = 0) -> str:
        return self.b.pointer(self.b.to_pointer(address), offset)

    def hart(self, name: str, index: Operand = 0, base: Value | None = None) -> str:
        """Pointer to element ``index`` of a HART item, of this hart or the one at host address ``base``."""
        pointer = "%st" if base is None else self.b.to_pointer(base)
        return self._element(HART, pointer, name, index)

    def machine(self, name: str, index: Operand = 0) -> str:
        return self._element(MACHINE, self.b.to_pointer(self.s.machine), name, index)

    def _element(self, struct: Struct, pointer: str, name: str, index: Operand) -> str:
        size = {"u8": 1, "u32": 4, "u64": 8, "i64": 8}[struct.item[name].kind]
        start = self.b.pointer(pointer, struct.offset[name])
        return self.b.pointer(start, index * size)

    def get(self, pointer: str, width: int = 64, order: str = "") -> Value:
        return self.b.load(pointer, width, order)

    def put(self, pointer: str, value: Operand, width: int = 64, order: str = "") -> None:
        self.b.store(pointer, value, width, order)

    def rmw(self, op: str, pointer: str, value: Operand, width: int = 64) -> Value:
        return self.b.atomic_rmw(op, pointer, value, width)

    def full_fence(self) -> None:
        self.b.fence()

    def count(self, name: str, index: Operand = 0) -> None:
        """Add 1 to a statistics item."""
        p = self.hart(name, index)
        self.put(p, self.get(p) + 1)

    def other_hart(self, index: Value) -> Value:
        """Host address of hart ``index``'s HART."""
        return self.m.hart0 + index * HART.size

    def host(self, function: str, signature: str, *arguments: str) -> Value:
        """Call a C library function: ``signature`` is LLVM's parameter types, the result an i64 (sign-extended i32)."""
        table = self.b.to_pointer(self.s.host)
        target = self.b.op(f"load ptr, ptr {self.b.pointer(table, 8 * HOST_FUNCTIONS.index(function))}")
        types = signature.split(", ") if signature else []
        parameters = ", ".join(f"{t} {a}" for t, a in zip(types, arguments, strict=True))
        return self.b.value(self.b.op(f"call i32 {target}({parameters})"), 32).sext(64)


def compile_routine(module: Module, isa: Isa, made: Routine) -> None:
    """Define ``@r_NAME``."""
    parameters = "".join(f", i64 %p{i}" for i in range(len(made.parameters)))
    b = Builder(module, f"dso_local {{ i64, i64 }} @r_{made.name}(ptr %st{parameters})", "nounwind noinline")
    h = Native(b, isa, made.name)
    made.function(h, *(Value(f"%p{i}", 64, b) for i in range(len(made.parameters))))
    if not b.terminated:
        h.ret(0)
    module.define(b)
