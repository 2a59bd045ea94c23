"""Puts a region together from stencils: the quick tier of translation. No LLVM, some microseconds per instruction.

Such a region lies on its head's page; calls, returns and jumps to other pages leave it, and come back by the records
behind. Its blocks follow one another as in the guest's code, with what is needed on an edge (the look around at a back
edge) and the exits behind them. Each entry has code of its own, which counts the visit.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from mpemu.codegen.facts import facts
from mpemu.codegen.host import Host, native
from mpemu.codegen.records import Variant
from mpemu.codegen.shape import Shape, Source, Step
from mpemu.codegen.stencils import (
    CONSTANT,
    Exit,
    Form,
    Glue,
    Hole,
    Leave,
    are_last,
    forms,
    glue_symbol,
    last_symbol,
    leave_symbol,
    register_hole,
)
from mpemu.codegen.surroundings import Surroundings
from mpemu.codegen.tight import tight_distance_on
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import F_FIELDS, INSNS, X_FIELDS, Insn
from mpemu.layout import PAGE, PAGE_SHIFT
from mpemu.unit import NOWHERE, SMALLEST, Kind, Origin, Unit, pack_origins
from mpemu.vcpu.blob_file import Patch, Stencil

ALIGNMENT = 16
"""Of entries and constants."""
_RANK = struct.Struct("<I")
_PLACES = {Hole.AT, Hole.BEHIND, Hole.COUNT, Hole.TIGHT}
"""Holes that differ from place to place."""
_FILLED = 1 << 14
"""Instructions that are kept ready-made."""


_StepKey = tuple[int, bool]


def _key(step: Step) -> _StepKey:
    return step.at, step.is_computed


class _Stub(NamedTuple):
    """A way out: to ``at`` after ``more`` instructions."""

    kind: Leave
    at: int
    more: int


class _Look(NamedTuple):
    """What stands on an edge that goes back: a look around, and on to ``at``."""

    at: int


class _Part(NamedTuple):
    """A stencil ready to be copied: ``code`` without its last jump, if that leads to what follows. ``same``: its
    constants depend on the instruction alone, not on its place."""

    code: bytes
    constants: tuple[Patch, ...]
    jumps: tuple[Patch, ...]
    same: bool


class Stitcher:
    """``stencils`` are those of the interpreter for ``isa``, by name. ``located``: units have origins."""

    def __init__(self, isa: IsaSpec, stencils: Mapping[str, Stencil], located: bool = False) -> None:
        self._isa, self.host, self._located = isa, native(), located
        self.parts = {name: _part(stencil, self.host) for name, stencil in stencils.items()}
        jump = stencils.get(glue_symbol(Glue.GO), Stencil(b"", ()))
        self.go = _split(jump.code, jump.patches, self.host)
        self._filled: dict[tuple[object, ...], bytes] = {}
        self._forms: dict[str, list[Form]] = {}
        self._reserving: dict[str, bool] = {}

    def form(self, insn: Insn, operands: Mapping[str, int]) -> str | None:
        """The stencil for an instruction, None if it has none."""
        known = self._forms.get(insn.name)
        if known is None:
            known = self._forms[insn.name] = [form for form in forms(insn) if form.symbol in self.parts]
        for form in known:
            if all(operands[field] == value for field, value in form.variant.fixed):
                return form.symbol
        return None

    def with_last(self, name: str, operands: Mapping[str, int], last: int) -> str:
        """The stencil instead of ``name`` where register ``last`` was written last."""
        better = last_symbol(name, are_last(operands, last))
        return better if better in self.parts else name

    def reserves(self, step: Step) -> bool:
        """It is an LR."""
        known = self._reserving.get(step.insn.name)
        if known is None:
            known = facts(self._isa, Variant(step.insn, step.length)).reserves != 0
            self._reserving[step.insn.name] = known
        return known

    def filled(self, part: _Part, holes: Mapping[str, int]) -> bytes:
        """Its code, with constants."""
        code = bytearray(part.code)
        for patch in part.constants:
            self.host.fill(code, patch.kind, patch.place, holes[patch.symbol] + patch.addend)
        return bytes(code)

    def instruction(self, name: str, part: _Part, operands: Mapping[str, int]) -> bytes:
        """The same for an instruction that does not depend on its place; many occur again and again."""
        key = name, frozenset(operands.items())  # short forms have them in another order
        known = self._filled.get(key)
        if known is None:
            if len(self._filled) == _FILLED:
                self._filled.clear()
            known = self._filled[key] = self.filled(part, operand_holes(operands))
        return known

    def unit(self, code: Surroundings, head: int, kind: Kind) -> Unit:
        """The unit whose first instruction is at ``head`` of the page at distance 0; without code if it is not worth
        while."""
        began = time.process_time_ns()

        names: dict[_StepKey, str | None] = {}

        page = code.page(0) or b""

        def fast(step: Step) -> bool:
            if self.reserves(step) and self.tight_distance(step, page) == 0:
                return False
            key = _key(step)
            if key not in names:
                names[key] = self.form(
                    INSNS["jal"] if step.is_jump and not step.is_computed else step.insn, step.operands
                )
            return names[key] is not None

        shape = Shape(self._isa, Source(code.page, code.is_reached, kind=kind, max_pages=1), head, fast)
        count = len(shape.steps)
        if count < SMALLEST or not shape.entries:
            return Unit((head,), ((0, page),), b"", 0, 0, count, 0, kind=kind)
        made = _Region(self, shape, names)
        starts = made.define(kind.rank)
        contains = sum(1 << (step.at // 2) for leader in shape.leaders for step in shape.block(leader))
        us = (time.process_time_ns() - began) // 1000
        return Unit(
            shape.entries,
            ((0, page),),
            bytes(made.code),
            starts[0],
            0,
            count,
            us,
            kind=kind,
            origins=pack_origins([Origin(starts[0], NOWHERE), *made.origins]) if self._located else b"",
            starts=starts,
            contains=(contains,),
        )

    def tight_distance(self, step: Step, page: bytes) -> int:
        return tight_distance_on(page, step.at, self._isa)


def operand_holes(operands: Mapping[str, int]) -> dict[str, int]:
    """What the holes for operands are filled with."""
    holes = {
        field: register_hole(field, value) if field in X_FIELDS or field in F_FIELDS else value
        for field, value in operands.items()
    }
    if "rd" in operands:
        holes[Hole.RD_BEFORE] = register_hole("rs1", operands["rd"])
    return holes


class _Region:
    """The code being put together."""

    def __init__(self, stitcher: Stitcher, shape: Shape, names: Mapping[_StepKey, str | None]) -> None:
        self._names = names
        """Stencils by instructions."""
        self._stitcher, self._shape, self._host = stitcher, shape, stitcher.host
        self.code = bytearray()
        self._places: dict[Hashable, int] = {}
        """Offsets of labels: blocks by their first place, _Stub, _Look, constants by their bytes."""
        self._asked: dict[Hashable, None] = {}
        """Labels that are referred to, and not part of the blocks."""
        self._fixups: list[tuple[Patch, int, Hashable]] = []
        self.origins: list[Origin] = []
        self._before: int | None = None
        """The block before."""
        self._last_written = 0
        """The integer register that was written last, 0: it is not known."""

    def define(self, rank: int) -> tuple[int, ...]:
        """The offsets of the entries."""
        starts = []
        for entry in self._shape.entries:
            self._align(_RANK.size)
            self.code += _RANK.pack(rank)
            starts.append(len(self.code))
            self._put(glue_symbol(Glue.ENTER), {}, {})
            self._go(entry)
        leaders = self._shape.leaders
        for leader, following in zip(leaders, [*leaders[1:], None], strict=True):
            self._places[leader] = len(self.code)
            self._block(leader, following)
        behind = len(self.code)
        while pending := [label for label in self._asked if label not in self._places]:
            for label in pending:
                self._aside(label)
        self.origins.append(Origin(behind, NOWHERE))
        for patch, at, label in self._fixups:
            self._host.relocate(self.code, patch.kind, at, self._places[label] + patch.addend)
        return tuple(starts)

    def _align(self, ahead: int = 0) -> None:
        """So that what lies ``ahead`` bytes from here is aligned."""
        self.code += self._host.PADDING * (-(len(self.code) + ahead) % ALIGNMENT)

    # -- blocks
    def _block(self, leader: int, following: int | None) -> None:
        if self._shape.predecessors[leader] != {self._before} or leader in self._shape.entries:
            self._last_written = 0
        self._before = leader
        count = 0
        step = None
        for step in self._shape.block(leader):
            if not self._shape.fast(step) or (step.at in self._shape.spins and not step.is_branch):
                self._go(_Stub(Leave.INTERPRET, step.at, count))
                return
            if step.insn.ends_block:
                self._last(step, count, following)
                return
            self._step(step, count, {Exit.MISS: _Stub(Leave.MISS, step.at, count)})
            count += 1
        assert step is not None
        self._count(count)
        look = step.at >> PAGE_SHIFT != step.behind >> PAGE_SHIFT
        self._fall(self._edge(step.behind, look), following)

    def _last(self, step: Step, count: int, following: int | None) -> None:
        """A jump or branch behind ``count`` instructions of the block."""
        if step.at in self._shape.spins:  # nobody waits in here
            self._count(count)
            self._step(step, 0, {Exit.TAKEN: _Stub(Leave.INTERPRET, step.at, 0)})
            self._count(1)
        else:
            self._count(count + 1)
            taken = {} if step.is_computed else {Exit.TAKEN: self._edge(step.target or 0, step.closes_loop)}
            self._step(step, 0, taken)
            if step.is_jump:
                return
        self._fall(self._edge(step.behind, False), following)

    def _count(self, count: int) -> None:
        if count:
            self._put(glue_symbol(Glue.COUNT), {Hole.COUNT: count}, {})

    def _edge(self, target: int, look: bool) -> Hashable:
        """The label of what leads to ``target``."""
        if look:
            return _Look(target)
        return target if target in self._shape.successors else _Stub(Leave.DISPATCH, target, 0)

    def _fall(self, label: Hashable, following: int | None) -> None:
        if label != following:
            self._go(label)

    # -- behind them
    def _aside(self, label: Hashable) -> None:
        if isinstance(label, bytes):
            self._align()
            self._places[label] = len(self.code)
            self.code += label
            return
        self._places[label] = len(self.code)
        if isinstance(label, _Look):
            self._put(glue_symbol(Glue.LOOK), {}, {Exit.TAKEN: _Stub(Leave.POLL, label.at, 0)})
            self._go(self._edge(label.at, False))
        elif isinstance(label, _Stub):
            far = not 0 <= label.at < PAGE
            self._put(leave_symbol(label.kind, far), {Hole.AT: label.at, Hole.COUNT: label.more}, {})

    # -- stencils
    def _step(self, step: Step, count: int, exits: Mapping[Exit, Hashable]) -> None:
        name = self._names[_key(step)]
        assert name is not None
        if self._last_written:
            name = self._stitcher.with_last(name, step.operands, self._last_written)
        self._last_written = step.operands.get("rd", self._last_written)
        self.origins.append(Origin(len(self.code), step.at))
        part = self._stitcher.parts[name]
        if part.same:
            self._append(self._stitcher.instruction(name, part, step.operands), part.jumps, exits)
            return
        holes = {**operand_holes(step.operands), Hole.AT: step.at, Hole.BEHIND: step.behind, Hole.COUNT: count}
        if self._stitcher.reserves(step):
            holes[Hole.TIGHT] = self._stitcher.tight_distance(step, self._shape.pages[0])
        self._append(self._stitcher.filled(part, holes), part.jumps, exits)

    def _go(self, label: Hashable) -> None:
        code, _, jumps, _ = self._stitcher.go
        self._append(code, jumps, {Exit.NEXT: label})

    def _put(self, name: str, holes: Mapping[str, int], exits: Mapping[Exit, Hashable]) -> None:
        """What leads on goes on behind it."""
        part = self._stitcher.parts[name]
        self._append(self._stitcher.filled(part, holes), part.jumps, exits)

    def _append(self, code: bytes, jumps: tuple[Patch, ...], exits: Mapping[Exit, Hashable]) -> None:
        start = len(self.code)
        self.code += code
        behind = len(self.code)
        for patch in jumps:
            at = start + patch.place
            if patch.symbol.startswith(CONSTANT):
                label: Hashable = bytes.fromhex(patch.symbol.removeprefix(CONSTANT))
            elif patch.symbol == Exit.NEXT and Exit.NEXT not in exits:
                self._host.relocate(self.code, patch.kind, at, behind + patch.addend)
                continue
            else:
                label = exits[Exit(patch.symbol)]
            if not isinstance(label, int):
                self._asked[label] = None
            self._fixups.append((patch, at, label))


def _split(code: bytes, patches: tuple[Patch, ...], host: Host) -> _Part:
    jumps = tuple(patch for patch in patches if host.is_relative(patch.kind))
    constants = tuple(patch for patch in patches if not host.is_relative(patch.kind))
    return _Part(code, constants, jumps, all(patch.symbol not in _PLACES for patch in constants))


def _part(stencil: Stencil, host: Host) -> _Part:
    for patch in stencil.patches:
        if patch.symbol == Exit.NEXT:
            start = host.last_jump(stencil.code, patch.place)
            if start is not None:
                others = tuple(other for other in stencil.patches if other != patch)
                return _split(stencil.code[:start], others, host)
    return _split(stencil.code, stencil.patches, host)
