"""The reference model's control: registers, state, predication, traps, routine calls.

Everything is a constant :class:`Value`, so Value's folding does the arithmetic and effects happen at once. What needs
care is ``with h.when(cond):``, because Python can't skip a ``with`` block: the body runs either way, and every effect
asks :attr:`Core.live` whether it is on the path that the guest takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpemu.isa.hart import ROUTINES, Isa, Operand, Routine
from mpemu.isa.state import STATE
from mpemu.isa.value import Value

ILLEGAL_INSTRUCTION = 2


class GuestTrap(Exception):
    """A synchronous exception of the guest: ``cause`` as in mcause, ``tval`` as in mtval."""

    def __init__(self, cause: int, tval: int) -> None:
        super().__init__(f"cause {cause}, tval {tval:#x}")
        self.cause, self.tval = cause, tval


class _Returned(Exception):
    """A routine returns: unwinds to its call."""


def number(operand: Operand) -> int:
    """An operand as an unsigned Python int (an int stays as it is)."""
    return operand if isinstance(operand, int) else int(operand.raw)


class RegisterFile:
    """x or f: 64-bit values. ``values`` is the plain list behind it."""

    def __init__(self, core: Core, hardwired_zero: bool) -> None:
        self._core, self._zero = core, hardwired_zero
        self.values = [0] * 32

    def __getitem__(self, index: Operand) -> Value:
        return Value(self.values[number(index)], 64)

    def __setitem__(self, index: Operand, value: Value) -> None:
        if value.width != 64:
            raise TypeError(f"{self._core.name}: registers have 64 bits, not {value.width}")
        if self._core.live and not (self._zero and number(index) == 0):
            self.values[number(index)] = number(value)


class StateFields:
    """``h.s``: reads give values, assignments are effects. ``values`` is the plain dictionary behind it."""

    values: dict[str, int]
    _core: Core

    def __init__(self, core: Core) -> None:
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "values", {field.name: field.reset for field in STATE})

    def __getattr__(self, name: str) -> Value:
        try:
            return Value(self.values[name], 64)
        except KeyError:
            raise AttributeError(f"a hart has no state field {name!r}") from None

    def __setattr__(self, name: str, value: Operand) -> None:
        if name not in self.values:
            raise AttributeError(f"a hart has no state field {name!r}")
        if isinstance(value, Value) and value.width != 64:
            raise TypeError(f"{self._core.name}: {name} has 64 bits, not {value.width}")
        if self._core.live:
            self.values[name] = number(value) & (1 << 64) - 1


class LocalVariable:
    def __init__(self, core: Core, initial: Operand, width: int) -> None:
        self._core, self._width = core, width
        self._value = self._checked(initial)

    def _checked(self, value: Operand) -> Value:
        if isinstance(value, Value) and value.width != self._width:
            raise TypeError(f"{self._core.name}: a local of {self._width} bits can't hold {value.width}")
        return Value(number(value), self._width)

    def get(self) -> Value:
        return self._value

    def set(self, value: Operand) -> None:
        checked = self._checked(value)
        if self._core.live:
            self._value = checked


class Core:
    """The part of the Hart protocol that has nothing to do with memory or devices."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.x = RegisterFile(self, hardwired_zero=True)
        self.f = RegisterFile(self, hardwired_zero=False)
        self.s = StateFields(self)
        self.name = "reset"
        """What runs: an instruction or a routine, for messages."""
        self.bits, self.length = 0, 4
        """The current instruction's encoding and size in bytes."""
        self.target: int | None = None
        """Where the current instruction jumps to, if it does."""
        self._begin()

    live: bool
    """Whether the guest really is here, inside conditions that hold."""

    def _begin(self) -> None:
        """Forget the previous instruction's control flow."""
        self.target = None
        self.live, self._else = True, False
        self._result = Value(0, 64)

    # -- control
    @property
    def pc(self) -> Value:
        return self.s.pc

    @property
    def next_pc(self) -> Value:
        return self.s.pc + self.length

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        if condition.width != 1:
            raise TypeError(f"{self.name}: when() takes a 1-bit condition, not {condition.width} bits")
        outer = self.live
        self.live = outer and number(condition) == 1
        try:
            yield
        finally:
            self.live = outer
            self._else = outer and number(condition) == 0

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        outer, self.live = self.live, self._else
        try:
            yield
        finally:
            self.live, self._else = outer, False

    def local(self, initial: Operand, width: int = 64) -> LocalVariable:
        return LocalVariable(self, initial, width)

    def jump(self, target: Value) -> None:
        if self.live:
            self.target = number(target)

    def trap(self, cause: Operand, tval: Operand = 0) -> None:
        if self.live:
            raise GuestTrap(number(cause), number(tval) & (1 << 64) - 1)

    def illegal(self) -> None:
        self.trap(ILLEGAL_INSTRUCTION, self.bits)

    def call(self, routine: Routine | str, *arguments: Operand) -> Value:
        if isinstance(routine, str):
            routine = ROUTINES[routine]
        if len(arguments) != len(routine.parameters):
            raise TypeError(f"{self.name}: {routine.name} takes {len(routine.parameters)} arguments")
        values = [a if isinstance(a, Value) else Value(a, 64) for a in arguments]
        for parameter, value in zip(routine.parameters, values, strict=True):
            if value.width != 64:
                raise TypeError(f"{self.name}: {routine.name}: {parameter} has 64 bits, not {value.width}")
        if not self.live:
            return Value(0, 64)
        frame = self._else, self._result, self.name
        self._result, self.name = Value(0, 64), routine.name
        try:
            routine.function(self, *values)
        except _Returned:
            pass
        finally:
            result = self._result
            self._else, self._result, self.name = frame
        return result

    def ret(self, value: Operand = 0) -> None:
        if self.live:
            self._result = value.zext(64) if isinstance(value, Value) else Value(value, 64)
            raise _Returned
