"""Guest registers inside a region: values where they are known, stack slots where blocks meet.

LLVM turns the slots into values, too. Registers that the region never writes are loaded at its entry and are plain
values everywhere.
"""

from __future__ import annotations

from collections.abc import Collection

from mpemu.codegen.ir import Builder
from mpemu.isa.hart import Operand
from mpemu.isa.value import Value
from mpemu.layout import HART

State = tuple[dict[int, Value], set[int], set[int]]


class RegisterFile:
    """``h.x`` or ``h.f`` of a region; ``written`` are the registers that it may write."""

    def __init__(self, b: Builder, item: str, written: Collection[int]) -> None:
        self._b, self._item = b, item
        self._written = frozenset(written)
        self._initial: dict[int, Value] = {}
        self._slots: dict[int, str] = {}
        self._known: dict[int, Value] = {}
        self._unsaved: set[int] = set()
        self._changed: set[int] = set()
        self.conditional = 0
        """Above 0 inside code that may not run: what is learned there holds nowhere else."""

    def _number(self, index: Operand) -> int:
        number = index.constant if isinstance(index, Value) else index
        assert number is not None, "operands of a translated instruction are ints"
        return number

    def _slot(self, number: int) -> str:
        if number not in self._slots:
            self._slots[number] = self._b.alloca("i64")
            self._at_entry(number)
        return self._slots[number]

    def _at_entry(self, number: int) -> Value:
        if number not in self._initial:
            self._initial[number] = Value(f"%{self._item}{number}", 64, self._b)
        return self._initial[number]

    def __getitem__(self, index: Operand) -> Value:
        number = self._number(index)
        if self._item == "x" and number == 0:
            return Value(0, 64)
        if number in self._known:
            return self._known[number]
        if number not in self._written:
            return self._at_entry(number)
        value = self._b.load(self._slot(number))
        if not self.conditional and not self._b.muted:
            self._known[number] = value
        return value

    def __setitem__(self, index: Operand, value: Value) -> None:
        number = self._number(index)
        if value.width != 64:
            raise TypeError(f"{self._item} registers have 64 bits, not {value.width}")
        if (self._item == "x" and number == 0) or self._b.muted:
            return
        if number not in self._written:
            raise ValueError(f"{self._item}{number} is not among the registers that the region writes")
        self._changed.add(number)
        if self.conditional:
            self._b.store(self._slot(number), value)
            self._known.pop(number, None)
        else:
            self._known[number] = value
            self._unsaved.add(number)

    def save(self) -> None:
        """Put what is only known here into the slots: other blocks follow."""
        for number in sorted(self._unsaved):
            self._b.store(self._slot(number), self._known[number])
        self._unsaved.clear()

    def begin(self, continues: bool) -> None:
        """A block begins; ``continues``: nothing but the block before it leads there."""
        self._unsaved.clear()
        self._changed.clear()
        if not continues:
            self._known.clear()

    def state(self) -> State:
        """For :meth:`restore`."""
        return dict(self._known), set(self._unsaved), set(self._changed)

    def restore(self, state: State) -> None:
        """What has been done since then is undone (its code, too)."""
        self._known, self._unsaved, self._changed = state

    def write_back(self, dirty: Collection[int]) -> None:
        """Store ``dirty`` and what changed in this block to the hart's struct, without forgetting anything."""
        for number in sorted(self._changed.union(dirty)):
            known = self._known.get(number)
            value = self._b.load(self._slot(number)) if known is None else known
            self._b.store(self._b.pointer("%st", HART.offset[self._item] + 8 * number), value)

    def enter(self, entry: Builder) -> None:
        """At the region's entry: load what it uses."""
        for number, value in self._initial.items():
            pointer = entry.pointer("%st", HART.offset[self._item] + 8 * number)
            entry.line(f"{value.raw} = load i64, ptr {pointer}, align 8")
            if number in self._slots:
                entry.store(self._slots[number], value)
