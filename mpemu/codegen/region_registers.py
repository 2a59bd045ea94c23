"""Guest registers inside a region that LLVM makes.

In a block, what is known of a register is a value. Where blocks meet there are stack slots, which LLVM turns into
values, too.
"""

from __future__ import annotations

from collections.abc import Collection

from mpemu.codegen.ir import Builder
from mpemu.codegen.shape import Shape
from mpemu.isa.hart import Operand
from mpemu.isa.value import Value
from mpemu.layout import HART

State = tuple[dict[int, Value], set[int]]


class Registers:
    """``h.x`` or ``h.f`` of a region (``item`` is "x" or "f"). Registers that it never writes (others than ``written``)
    are loaded at its entry and are plain values everywhere."""

    def __init__(self, b: Builder, item: str, written: Collection[int]) -> None:
        self._b, self._item = b, item
        self._written = frozenset(written)
        self._known: dict[int, Value] = {}
        self._unsaved: set[int] = set()
        self._initial: dict[int, Value] = {}
        self._slots: dict[int, str] = {}
        self._kind = "double" if item == "f" else "i64"  # what LLVM chooses host registers by
        self.conditional = 0
        """Above 0 inside code that may not run: what is learned there holds nowhere else."""

    def _number(self, index: Operand) -> int:
        number = index.constant if isinstance(index, Value) else index
        assert number is not None, "operands of a translated instruction are ints"
        return number

    def _place(self, b: Builder, number: int) -> str:
        return b.pointer("%st", HART.offset[self._item] + 8 * number)

    def __getitem__(self, index: Operand) -> Value:
        number = self._number(index)
        if self._item == "x" and number == 0:
            return Value(0, 64)
        known = self._known.get(number)
        if known is not None:
            return known
        value = self._read(number)
        if not self.conditional and not self._b.muted:
            self._known[number] = value
        return value

    def __setitem__(self, index: Operand, value: Value) -> None:
        number = self._number(index)
        if value.width != 64:
            raise TypeError(f"{self._item} registers have 64 bits, not {value.width}")
        if (self._item == "x" and number == 0) or self._b.muted:
            return
        if self.conditional:
            self._known.pop(number, None)
        else:
            self._known[number] = value
        self._write(number, value)

    def begin(self, continues: bool) -> None:
        """A block begins; ``continues``: nothing but the block before it leads there."""
        self._unsaved.clear()
        if not continues:
            self._known.clear()

    def state(self) -> State:
        """For :meth:`restore`."""
        return dict(self._known), set(self._unsaved)

    def restore(self, state: State) -> None:
        """What has been done since then is undone (its code, too)."""
        self._known, self._unsaved = state

    def _slot(self, number: int) -> str:
        if number not in self._slots:
            self._slots[number] = self._b.alloca(self._kind)
            self.at_entry(number)
        return self._slots[number]

    def at_entry(self, number: int) -> Value:
        """What the register holds when the region is entered."""
        if number not in self._initial:
            self._initial[number] = Value(f"%{self._item}{number}", 64, self._b)
        return self._initial[number]

    def _read(self, number: int) -> Value:
        return self._load(self._slot(number)) if number in self._written else self.at_entry(number)

    def _load(self, slot: str) -> Value:
        if self._kind == "i64":
            return self._b.load(slot)
        number = self._b.op(f"load double, ptr {slot}, align 8")
        return Value(self._b.op(f"bitcast double {number} to i64"), 64, self._b)

    def _save(self, b: Builder, slot: str, value: Value) -> None:
        if self._kind == "i64":
            b.store(slot, value)
        else:
            number = b.op(f"bitcast i64 {value.raw} to double")
            b.line(f"store double {number}, ptr {slot}, align 8")

    def _write(self, number: int, value: Value) -> None:
        if number not in self._written:
            raise ValueError(f"{self._item}{number} is not among the registers that the region writes")
        if self.conditional:
            self._save(self._b, self._slot(number), value)
        else:
            self._unsaved.add(number)

    def save(self) -> None:
        self.settle()
        self._unsaved.clear()

    def settle(self) -> None:
        for number in sorted(self._unsaved):
            self._save(self._b, self._slot(number), self._known[number])

    def write_back(self, dirty: Collection[int]) -> None:
        for number in sorted(dirty):
            self._b.store(self._place(self._b, number), self._load(self._slot(number)))

    def enter(self, entry: Builder) -> None:
        for number, value in self._initial.items():
            entry.line(f"{value.raw} = load i64, ptr {self._place(entry, number)}, align 8")
            if number in self._slots:
                self._save(entry, self._slots[number], value)


Written = tuple[frozenset[int], frozenset[int]]
"""Integer and floating-point registers."""


def dirty_registers(region: Shape) -> dict[int, Written]:
    """By block: the registers that may differ from the hart's struct when it ends."""
    found = {leader: _writes(region, leader) for leader in region.leaders}
    work = list(region.leaders)
    while work:
        leader = work.pop()
        x, f = found[leader]
        for place in region.successors[leader]:
            known_x, known_f = found[place]
            new = (known_x | x, known_f | f)
            if new != found[place]:
                found[place] = new
                work.append(place)
    return found


def _writes(region: Shape, leader: int) -> Written:
    x, f = set[int](), set[int]()
    for step in region.block(leader):
        x.add(step.operands.get("rd", 0))
        f |= {step.operands["fd"]} if "fd" in step.operands else set()
    return frozenset(x - {0}), frozenset(f)
