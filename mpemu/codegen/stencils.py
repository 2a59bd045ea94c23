"""Stencils: instructions compiled once, when the interpreter is built, for regions that are put together in no time.

A stencil is the fast form of an instruction, from the same body as its handler, but with *holes* where an operand
stands: symbols that are defined nowhere, so that the object file says where and how each is used. codegen/stitching.py
copies stencils one behind the other and fills the holes; that takes microseconds where LLVM takes a millisecond, and no
LLVM. The technique is known as copy and patch (Xu and Kjolstad, OOPSLA 2021).

A stencil has the signature of a handler (handlers.py) and ends in jumps to symbols of :class:`Exit`. Guest registers
stay in the hart's struct. %rp is the record by which the region was entered, and %cnt lacks the instructions since the
last *count*: instructions that look at it have a hole for that. A sixth argument, %last, is the value of the integer
register that was written last; for operands that are this register there are stencils that take it from there, as it
would be some cycles on its way through memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from mpemu.codegen.core import SINK, NeedsSlow
from mpemu.codegen.handlers import ARGUMENTS, CC, ImmediateField, PcValue, RegionEmitter, RelativeTarget
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.records import Variant, ordering_bits, specialisations
from mpemu.codegen.region_exits import COMPUTED, FAR, RETURN, RegionExits, define_page, entered_at, undisturbed
from mpemu.isa.fp import RTZ
from mpemu.isa.hart import Operand
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import F_FIELDS, INSNS, X_FIELDS, Insn
from mpemu.isa.value import Value
from mpemu.layout import HART

LENGTH = 4
"""Stencils don't depend on an instruction's length: where it matters there is a hole."""


class Exit(StrEnum):
    """Where a stencil goes on: behind it; where the branch leads; the instruction was not executed, something for the
    interpreter."""

    NEXT = "next"
    TAKEN = "taken"
    MISS = "miss"


CONSTANT = "="
"""Before the bytes, in hexadecimal, of a constant that a stencil reads: it is the symbol of a patch."""


class Hole(StrEnum):
    """Besides the names of operands. Of the instruction: its place and that of the next one, bytes from the start of
    the head's page; instructions since the last *count*; of an LR, tight_distance_on, which must not be 0 (LLVM takes
    the address of a symbol for one that is not); register rd where it is read (x0 is another place when it is written).
    Of other stencils: ``at`` and ``count``."""

    AT = "at"
    BEHIND = "behind"
    COUNT = "count"
    TIGHT = "tight"
    RD_BEFORE = "rd_before"


class Glue(StrEnum):
    """Stencils that are no instructions: the region is entered; ``count`` more instructions have retired; NEXT if
    nothing has to be looked at, else TAKEN; just NEXT, where it does not follow."""

    ENTER = "enter"
    COUNT = "count"
    LOOK = "look"
    GO = "go"


class Leave(StrEnum):
    """Stencils that leave to ``at`` after ``count`` more instructions: kinds of region_exits.py, each also far."""

    DISPATCH = "dispatch"
    POLL = "poll"
    INTERPRET = "interpret"
    MISS = "miss"


RETURNS = {"rd": 0, "rs1": 1}
"""Operands of a jalr that returns from a function."""
NEAR = "near_"
_SIGNED, _UNSIGNED = (-(1 << 31), 1 << 31), (0, 1 << 31)
"""What a hole may hold: a bound that is exclusive."""


LAST_ARGUMENT = ", i64 %last"
_TAKES_LAST = ("rs1", "rs2")
"""In the order of symbols."""


class Form(NamedTuple):
    """A stencil that an instruction may have; ``last``: the operands that are %last."""

    variant: Variant
    last: tuple[str, ...] = ()

    @property
    def symbol(self) -> str:
        return last_symbol(f"t_{self.variant.symbol}", self.last)


def last_symbol(symbol: str, last: Iterable[str]) -> str:
    """Of the stencil instead of ``symbol`` with those operands that are %last."""
    return ".".join([symbol, *last])


def are_last(operands: Mapping[str, int], register: int) -> list[str]:
    """The operands that are %last if ``register`` was written last."""
    return [name for name in _TAKES_LAST if operands.get(name) == register]


def forms(insn: Insn) -> list[Form]:
    """The stencils that an instruction may have where no operand is %last, most specific first."""
    special = {"jalr": (RETURNS,)}.get(insn.name, ())
    truncating = ({"rm": RTZ},) if "rm" in insn.operands else ()
    fixed_operands = (*special, *specialisations(insn), *truncating, {})
    return [Form(Variant(insn, LENGTH, "", tuple(fixed.items()))) for fixed in fixed_operands]


def with_last(form: Form) -> list[Form]:
    """The same with operands that are %last. (Computed jumps leave to handlers, whose signature lacks it.)"""
    fixed = dict(form.variant.fixed)
    names = [name for name in _TAKES_LAST if name in form.variant.insn.operands and name not in fixed]
    subsets = [names[:1], names[1:], names] if len(names) == 2 else [names]
    is_computed = form.variant.insn.name == "jalr"
    return [Form(form.variant, tuple(subset)) for subset in subsets if subset and not is_computed]


def glue_symbol(glue: Glue) -> str:
    return f"g_{glue}"


def leave_symbol(kind: Leave, far: bool) -> str:
    return f"{FAR if far else NEAR}{kind}"


def register_hole(name: str, number: int) -> int:
    """What the hole for register ``number`` in the operand field ``name`` is filled with."""
    if name in F_FIELDS:
        return HART.offset["f"] + 8 * number
    return HART.offset["x"] + 8 * (SINK if name == "rd" and number == 0 else number)


def _hole(b: Builder, name: str, limits: tuple[int, int] = _SIGNED) -> str:
    b.declare(f"@{name} = external dso_local global i8, !absolute_symbol !{{i64 {limits[0]}, i64 {limits[1]}}}")
    return f"ptrtoint (ptr @{name} to i64)"


class _RegisterHole(Value):
    """A register operand. Its number is not known here."""

    def __init__(self, name: str, b: Builder) -> None:
        self.name, self.width, self.ops = name, 64, b

    @property
    def raw(self) -> Any:  # type: ignore[override]
        raise NeedsSlow


class _Registers:
    """``h.x`` or ``h.f``: the hart's struct, by holes."""

    def __init__(self, b: Builder, item: str, last: Collection[str] = ()) -> None:
        self._b, self._item, self._last = b, item, last
        self.written: Value | None = None
        """What rd has been set to, once; where that depends on something it is not known."""
        self._writes = 0
        self.conditional = 0

    def _place(self, index: Operand) -> str:
        if isinstance(index, int):
            return self._b.pointer("%st", HART.offset[self._item] + 8 * index)
        if not isinstance(index, _RegisterHole):
            raise NeedsSlow
        return self._b.op(f"getelementptr i8, ptr %st, i64 {_hole(self._b, index.name, _UNSIGNED)}")

    def __getitem__(self, index: Operand) -> Value:
        if isinstance(index, _RegisterHole) and index.name == "rd":
            index = _RegisterHole(Hole.RD_BEFORE, self._b)
        if isinstance(index, _RegisterHole) and index.name in self._last:
            return Value("%last", 64, self._b)
        return self._b.load(self._place(index))

    def __setitem__(self, index: Operand, value: Value) -> None:
        if self._b.muted or (isinstance(index, int) and index == 0):
            return
        self._b.store(self._place(index), value)
        self._writes += 1
        self.written = value if self._writes == 1 and not self.conditional else None


class StencilEmitter(RegionEmitter):
    """The Hart protocol while a stencil is compiled."""

    def __init__(self, b: Builder, isa: IsaSpec, form: Form, symbols: dict[str, int]) -> None:
        super().__init__(b, isa, form.variant, fast=True)
        self._symbols = symbols
        self.x: Any = _Registers(b, "x", form.last)
        self.f: Any = _Registers(b, "f")
        page = define_page(b, entered_at(b))
        self._pc = PcValue((page + self._at(Hole.AT)).raw, self)
        self._next_pc = page + self._at(Hole.BEHIND)
        b.module.leave_for_exact_fp = self.leave_for_exact_fp

    def _at(self, hole: Hole) -> Value:
        return Value(_hole(self.b, hole), 64, self.b)

    def fields(self) -> dict[str, Operand]:
        fixed = {**dict(self.variant.fixed), **ordering_bits(self.variant.insn)}
        return {name: fixed[name] if name in fixed else self._field(name) for name in self.variant.insn.operands}

    def _field(self, name: str) -> Value:
        if name in X_FIELDS | F_FIELDS:
            return _RegisterHole(name, self.b)
        raw = _hole(self.b, name)
        return ImmediateField(raw, 64, self.b) if name == "imm" else Value(raw, 64, self.b)

    @property
    def next_pc(self) -> Value:
        return self._next_pc

    def when(self, condition: Value, likely: bool | None = None) -> Any:
        return _Conditional(self.x, super().when(condition, likely))

    def otherwise(self) -> Any:
        return _Conditional(self.x, super().otherwise())

    def to(self, symbol: Exit, cnt: str = "%cnt", last: str = "%last") -> None:
        go_on(self.b, symbol, cnt, last)

    def finish(self) -> None:
        if not self.b.terminated:
            self.to(Exit.NEXT, last=self._last())

    def _last(self) -> str:
        """What %last is behind the instruction."""
        if "rd" not in self.variant.insn.operands or dict(self.variant.fixed).get("rd") == 0:
            return "%last"
        written = self.x.written
        return str((self.x[_RegisterHole("rd", self.b)] if written is None else written).raw)

    def jump(self, target: Value) -> None:
        if self.b.muted:
            return
        if isinstance(target, RelativeTarget):
            self.to(Exit.TAKEN, last=self._last())
            return
        exits = RegionExits(self.b, self._symbols, entered=Value(0, 64))
        exits.comes_from(self.pc)
        exits.goes_to(target, Value("%cnt", 64, self.b))
        exits.take(RETURN if self.variant.fixed == tuple(RETURNS.items()) else COMPUTED)
        exits.define(uses_fp=False)

    def _missed(self) -> None:
        self.to(Exit.MISS)

    def _tight_distance(self) -> Value:
        return self._at(Hole.TIGHT)

    def _now(self) -> Value:
        return self.s.slice_end + Value("%cnt", 64, self.b) + self._at(Hole.COUNT)


class _Conditional:
    """A `when` in which registers may be written, or not."""

    def __init__(self, registers: _Registers, inner: Any) -> None:
        self._registers, self._inner = registers, inner

    def __enter__(self) -> None:
        self._registers.conditional += 1
        self._inner.__enter__()

    def __exit__(self, *exc: Any) -> Any:
        self._registers.conditional -= 1
        return self._inner.__exit__(*exc)


def go_on(b: Builder, symbol: Exit, cnt: str = "%cnt", last: str = "%last") -> None:
    """Behind a stencil."""
    b.declare(f"declare {CC} i64 @{symbol}(ptr, ptr, i64, ptr, ptr, i64)")
    arguments = f"ptr %st, ptr %rp, i64 {cnt}, ptr %tlb, ptr %tbl, i64 {last}"
    result = b.op(f"musttail call {CC} i64 @{symbol}({arguments})")
    b.terminate(f"ret i64 {result}")


def _function(module: Module, symbol: str, last: str = LAST_ARGUMENT) -> Builder:
    # optsize: conditional jumps lead straight to other functions
    return Builder(module, f'dso_local {CC} i64 @"{symbol}"({ARGUMENTS}{last})', "nounwind optsize")


def _compile_glue(module: Module) -> list[str]:
    for glue in Glue:
        b = _function(module, glue_symbol(glue))
        count = "%cnt"
        match glue:
            case Glue.ENTER:
                b.store(b.pointer("%st", HART.offset["rp"]), b.from_pointer("%rp"))
                work = b.pointer("%st", HART.offset["region_work"])
                b.store(work, b.load(work) - Value("%cnt", 64, b))
            case Glue.COUNT:
                count = b.binary("add", "%cnt", _hole(b, Hole.COUNT), 64)
            case Glue.LOOK:
                fine, attend = b.label(), b.label()
                b.branch_if(undisturbed(b, Value("%cnt", 64, b)), fine, attend, True)
                b.place(attend)
                go_on(b, Exit.TAKEN)
                b.place(fine)
        go_on(b, Exit.NEXT, count)
        module.define(b)
    return [glue_symbol(glue) for glue in Glue]


def _compile_leaves(module: Module, symbols: dict[str, int]) -> list[str]:
    made = []
    for kind in Leave:
        for far in (False, True):
            b = _function(module, leave_symbol(kind, far), last="")
            page, at = define_page(b, entered_at(b)), Value(_hole(b, Hole.AT), 64, b)
            exits = RegionExits(b, symbols, entered=Value(0, 64))
            count = Value(b.binary("add", "%cnt", _hole(b, Hole.COUNT), 64), 64, b)
            exits.goes_to(page + at if far else at, count)
            exits.take(FAR * far + kind)
            exits.define(uses_fp=False)
            module.define(b)
            made.append(leave_symbol(kind, far))
    return made


def _compile(module: Module, isa: IsaSpec, form: Form, symbols: dict[str, int]) -> bool:
    """Whether there can be such a stencil."""
    b = _function(module, form.symbol, "" if form.variant.insn.name == "jalr" else LAST_ARGUMENT)
    try:
        h = StencilEmitter(b, isa, form, symbols)
        h.emit()
        h.finish()
    except NeedsSlow:
        return False
    module.define(b)
    return True


def stencils_ir(isa: IsaSpec, symbols: dict[str, int]) -> tuple[str, tuple[str, ...]]:
    """IR of all stencils for ``isa``, and their symbols. ``symbols``: the interpreter's, by offset from its start."""
    module = Module()
    made = _compile_glue(module) + _compile_leaves(module, symbols)
    for insn in INSNS.values():
        if insn.ext not in isa.extensions:
            continue
        for form in forms(insn):
            made += [one.symbol for one in (form, *with_last(form)) if _compile(module, isa, one, symbols)]
    return module.text(), tuple(made)
