"""Single instructions of a region: what the Hart protocol does there.

Operands are ints, registers are the region's, pc is an offset from the head's page. Jumps, and whatever is not for a
region, are up to the region as a whole (region.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpemu.codegen.core import Core, StateFields
from mpemu.codegen.facts import facts
from mpemu.codegen.handlers import RegionEmitter
from mpemu.codegen.records import Variant, ordering_bits
from mpemu.codegen.shape import Step
from mpemu.codegen.tight import tight_distance_on
from mpemu.codegen.unrolling import Spot
from mpemu.isa.hart import Operand
from mpemu.isa.value import Value
from mpemu.layout import PAGE, PAGE_SHIFT

if TYPE_CHECKING:
    from mpemu.codegen.region import RegionContext


class PlaceInRegion(Value):
    """The address of a place in the region."""

    def __init__(self, at: int, context: RegionContext) -> None:
        self.width, self.ops = 64, context.b
        self.at, self._context = at, context

    @property
    def raw(self) -> Any:  # type: ignore[override]
        return (Value("%page", 64, self._context.b) + self.at).raw

    def __add__(self, other: Value | int) -> Value:
        return PlaceInRegion(self.at + other, self._context) if isinstance(other, int) else super().__add__(other)


class _FpState(StateFields):
    """``h.s`` in a region with floating point: what it depends on is looked at once, at the entry. There FS is not Off
    and the host has the rounding mode, or the interpreter goes on; only CSR instructions change that, which leave."""

    def __getattr__(self, name: str) -> Value:
        if name in ("mstatus", "frm"):
            return Value(f"%{name}", 64, self._core.b)
        return super().__getattr__(name)


class StepEmitter(RegionEmitter):
    """The Hart protocol for one step: operands are ints, registers are the region's."""

    def __init__(self, context: RegionContext, step: Step) -> None:
        Core.__init__(self, context.b, context.isa, step.insn.name)
        self.variant, self.fast = Variant(step.insn, step.length), True
        self._depth, self._resync = 0, False
        self._context, self._step = context, step
        self.x: Any = context.x
        self.f: Any = context.f
        if context.uses_fp:
            self.s = _FpState(self)

    def fp_dirty(self) -> None:
        self._context.exits.fp_dirty()

    def fields(self) -> dict[str, Operand]:
        return {**self._step.operands, **ordering_bits(self._step.insn)}

    def when(self, condition: Value, likely: bool | None = None) -> Any:
        if condition.constant is not None:
            return super().when(condition, likely)
        return _Conditional(self._context, super().when(condition, likely))

    def otherwise(self) -> Any:
        return _Conditional(self._context, super().otherwise())

    @property
    def pc(self) -> Value:
        return PlaceInRegion(self._step.at, self._context)

    @property
    def next_pc(self) -> Value:
        return PlaceInRegion(self._step.behind, self._context)

    def jump(self, target: Value) -> None:
        if self.b.muted:
            return
        context, step = self._context, self._step
        if step.at in context.region.spins:  # nobody waits in here
            context.leave("interpret", step.at, context.retired())
            return
        retired = context.retired(1)
        if step.target is not None:
            context.go(step.target, retired, look=step.closes_loop)
        else:
            context.jump_to(target, step.at, retired)

    def _missed(self) -> None:
        self._context.leave("miss", self._step.at, self._context.retired())

    def _read(self, address: Value, width: int) -> Value:
        host = self.b.module.host
        extends = width < 64 and "fd" not in self._step.operands
        order = host.GUEST_NARROW_LOAD if extends else host.GUEST_LOAD
        return self._access(False, lambda pointer: self.b.load(pointer, width, order), width)

    def _write(self, address: Value, value: Value) -> None:
        def perform(pointer: str) -> Value:
            self.b.store(pointer, value, order="monotonic")
            return value

        self._access(True, perform, value.width)

    def _access(self, writes: bool, perform: Callable[[str], Value], width: int) -> Value:
        context, operands = self._context, self._step.operands
        known = facts(context.isa, self.variant).access
        assert known and (known.writes, known.size * 8) == (writes, width), "an access that bounds.py doesn't know of"
        base, immediate = context.x[operands["rs1"]], operands.get("imm", 0)
        check = context.bounds.checks.get(Spot(self._step.at, context.leader.turn))
        return context.memory.access(operands["rs1"], base, immediate, writes, perform, self._missed, width, check)

    def _probe(self, address: Value, width: int, tag_name: str) -> str:
        return self._context.memory.pointer(address, width, tag_name == "write_tag", self._missed)

    def _tight_distance(self) -> Value:
        page = self._context.region.pages[self._step.at >> PAGE_SHIFT]
        return Value(tight_distance_on(page, self._step.at & (PAGE - 1), self._context.isa), 64)

    def _now(self) -> Value:
        return self.s.slice_end + self._context.retired()


class _Conditional:
    """A `when` in a region: what registers hold is saved before it, and what is learned inside stays there."""

    def __init__(self, context: RegionContext, inner: Any) -> None:
        self._files, self._inner = (context.x, context.f), inner

    def __enter__(self) -> None:
        for file in self._files:
            file.save()
            file.conditional += 1
        self._inner.__enter__()

    def __exit__(self, *exc: Any) -> Any:
        for file in self._files:
            file.conditional -= 1
        return self._inner.__exit__(*exc)
