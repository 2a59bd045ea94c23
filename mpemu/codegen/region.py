"""Translates a region: hot guest code as one host function, guest registers in host registers.

A region is a handler like any other (handlers.py: same signature), reached by the record of its first instruction,
which it finds by %rp. So it does not matter where its pages lie in the guest's and in the host's address space: it
depends on the pages' bytes alone, and on their distances. Pages beside the head's are compared at the entry; the region
goes there only if they are what it was made from, and leaves to what is there otherwise. It leaves by dispatching the
record at which the interpreter, or another region, goes on:

- *dispatch*: the next instruction is elsewhere, at a known place;
- *jump*, *return*: at a computed address; if it does not lie ahead, look for interrupts and the end of the slice first.
  Where jumps lead is noted, for the translator to guess from (region_jumps.py);
- *poll*: a back edge found an interrupt line or the end of the slice;
- *interpret*, *miss*: this instruction is none for a region (a CSR), or needs more than the fast path (a device, a
  trap): the interpreter executes it.

On the way out the registers that the region may have written go back to the hart's struct; instret is exact. It looks
for interrupts exactly where the interpreter does: at jumps that don't go forward, and at the end of a page.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

from mpemu.codegen.bounds import Bounds, Check
from mpemu.codegen.core import NeedsSlow
from mpemu.codegen.handlers import ARGUMENTS, CC
from mpemu.codegen.ir import PLACES, Builder, Module
from mpemu.codegen.records import PAGE_NUMBER, RECORD_PAGE, Variant
from mpemu.codegen.region_exits import COMPUTED, FAR, RETURN, RegionExits, define_page, entered_at, undisturbed
from mpemu.codegen.region_memory import RegionMemory
from mpemu.codegen.region_registers import Registers, dirty_registers
from mpemu.codegen.region_steps import PlaceInRegion, StepEmitter
from mpemu.codegen.shape import Shape, Source, Step
from mpemu.codegen.tlb_entries import probe_code
from mpemu.codegen.unrolling import Blocks, Loop, Spot
from mpemu.isa.fp import RMM
from mpemu.isa.privileged import FS
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import F_FIELDS, Insn
from mpemu.isa.value import Value
from mpemu.layout import HART, PAGE, PAGE_SHIFT

PAGE_NUMBERS = "page_numbers"
"""Symbol of the array of u32 that a region of several pages compares with the numbers of the pages that it finds."""


@dataclass(frozen=True)
class RegionIr:
    """A region as LLVM IR.

    ``entries``: page offsets at which it can be entered. ``pages``: (distance in pages from the head's page, content),
    the head's page first. ``contains``, ``left_out``, ``guesses``: see Unit."""

    text: str
    instructions: int
    entries: tuple[int, ...]
    pages: tuple[tuple[int, bytes], ...]
    contains: tuple[int, ...]
    left_out: tuple[int, ...]
    guesses: tuple[tuple[int, int], ...]
    places: tuple[int, ...] = ()
    """See codegen/origins.py."""


class RegionContext:
    """The function being made."""

    def __init__(
        self, module: Module, isa: IsaSpec, region: Shape, symbols: dict[str, int], name: str, located: bool
    ) -> None:
        self.module, self.isa, self.region, self.symbols = module, isa, region, symbols
        rank = f"prefix [4 x i32] [i32 0, i32 0, i32 0, i32 {region.kind.rank}]"
        attributes = f'nounwind "no-jump-tables"="true" {rank}' + PLACES * located
        self.b = Builder(module, f"dso_local {CC} i64 @{name}({ARGUMENTS})", attributes)
        self._dirty = dirty_registers(region)
        self.x = Registers(self.b, "x", {n for x, _ in self._dirty.values() for n in x})
        self.f = Registers(self.b, "f", {n for _, f in self._dirty.values() for n in f})
        self._blocks = Blocks(region)
        self.labels = {spot: _label(spot) for spot in self._blocks.order}
        bounded = module.host.ANY_ALIGNMENT
        self.bounds = Bounds(region, self._blocks, isa, bounded, region.kind.windowed)
        first_site = zlib.crc32(region.pages[0]) + region.head
        self.memory = RegionMemory(self.b, symbols, region.kind, self.bounds.stores, first_site)
        self._gates = {at: f"gate{at:x}" for at in region.entries if self.bounds.guards[Spot(at)]}
        """Labels, by entry."""
        self.count = self.b.alloca("i64")
        self.exits = RegionExits(self.b, symbols, many=True)
        self.uses_fp = any(F_FIELDS & step.insn.pattern.fields.keys() for step in region.steps.values())
        module.known_frm = "%frm" if self.uses_fp else ""
        self._base: Value = Value(0, 64)
        self._pending = 0
        self.leader = Spot(region.head)
        """The block that is being made."""
        self._ways_out: dict[tuple[str, frozenset[int], frozenset[int]], str] = {}
        """Labels, by the exit that they lead to and the registers to write back."""
        self._pages_here = {0}
        self._other_pages = [distance for distance in sorted(region.pages) if distance]
        self._located = located
        self.places: list[int] = []
        """Where code comes from, by Module.place."""

    # -- leaving
    def retired(self, more: int = 0) -> Value:
        return self._base + (self._pending + more)

    def leave(self, kind: str, place: Value | int, retired: Value) -> None:
        """To the shared exit ``kind``; ``place`` is relative to the head's page, or an address. Blocks that may have
        changed the same registers share what writes them back."""
        self.x.settle()
        self.f.settle()
        if isinstance(place, int) and not self._on_head_page(place):
            kind, place = FAR + kind, PlaceInRegion(place, self)
        self.exits.goes_to(place, retired)
        way_out = kind, *self._dirty[self.leader.at]
        self.b.branch(self._ways_out.setdefault(way_out, self.b.label()))

    def _write_back(self) -> None:
        """Where ways out have met."""
        for (kind, x, f), label in self._ways_out.items():
            self.b.place(label)
            self.x.write_back(x)
            self.f.write_back(f)
            self.exits.take(kind)

    def _on_head_page(self, place: int) -> bool:
        return 0 <= place < PAGE

    # -- blocks
    def define(self) -> None:
        b = self.b
        before = None
        for leader in self._blocks.order:
            self._comes_from(leader.at)
            is_entry = not leader.turn and leader.at in self.region.entries
            only = self._blocks.predecessors[leader] == {before} and not is_entry
            b.place(self.labels[leader])
            self.leader = leader
            self._pages_here = self.region.pages_of(leader.at) | {0}
            self.x.begin(only)
            self.f.begin(only)
            if not only:
                self._base, self._pending = b.load(self.count), 0
            step = None
            for step in self.region.block(leader.at):
                self._comes_from(step.at)
                self._step(step)
                if b.terminated:  # the interpreter goes on; behind it comes back by a record
                    break
            if not b.terminated:
                assert step is not None
                self._fall_through(step)
            before = leader
        b.origin = self.module.place(0) if self._located else ""
        self._write_back()
        self._place_gates()
        if self.uses_fp or self._gates:
            self.exits.refuse("unfit")
        if self.memory.windowed:
            self.exits.refuse("windowless")
        self.exits.define(self.uses_fp)
        self._entry()
        self.module.define(b)

    def _comes_from(self, place: int) -> None:
        """The code that follows."""
        if self._located:
            self.places.append(place)
            self.b.origin = self.module.place(len(self.places))

    def _step(self, step: Step) -> None:
        if (step.at in self.region.spins and not step.is_branch) or not self.region.fast(step):
            self.leave("interpret", step.at, self.retired())
            return
        before = self.b.position(), self.x.state(), self.f.state()
        emitter = StepEmitter(self, step)
        self.module.leave_for_exact_fp = emitter.leave_for_exact_fp
        try:
            emitter.emit()
        except NeedsSlow:  # found on the way: nothing of it may have happened
            position, x, f = before
            self.b.rewind(position)
            self.x.restore(x)
            self.f.restore(f)
            self.leave("interpret", step.at, self.retired())
        if move := self.bounds.moves.get(Spot(step.at, self.leader.turn)):
            self.memory.moved(*move)
        self._pending += 1

    def _fall_through(self, step: Step) -> None:
        """The block ends behind ``step``, which does not jump."""
        crosses = step.at >> PAGE_SHIFT != step.behind >> PAGE_SHIFT
        known = self.x.state(), self.f.state()
        self.go(step.behind, self.retired(), look=crosses)
        self.x.restore(known[0])  # a branch may have led to the next block, which has not read what was read here
        self.f.restore(known[1])

    def go(self, target: int, retired: Value, look: bool) -> None:
        """Continue at ``target`` with the count ``retired``, after a look for interrupts and the end of the slice."""
        b = self.b
        if loop := self._blocks.again(self.leader, target):
            once = b.label()
            self._several_turns(loop, retired, once)
            with b.aside(once):
                self._go(Spot(target), retired, look)
        else:
            follows = self._blocks.follow(self.leader, target)
            self._go(follows, retired, look and follows.turn <= self.leader.turn)

    def _several_turns(self, loop: Loop, retired: Value, once: str) -> None:
        """To the first copy of ``loop``, or to the label ``once``: with everything saved, and no more known."""
        b = self.b
        first = Spot(loop.head, 1)
        self.save(retired)
        wanted = [(register, self.x[register], check) for register, check in self.bounds.unguarded(self.leader, first)]
        go_on = b.label()
        b.branch_if(undisturbed(b, retired, loop.reserve), go_on, once, True)
        for register, base, check in wanted:
            b.place(go_on)
            b.keep_apart()
            go_on = b.label()
            b.branch_if(self.memory.fits(register, base, check).raw, go_on, once, True)
        b.place(go_on)
        b.branch(self.labels[first])

    def _go(self, follows: Spot, retired: Value, look: bool) -> None:
        b = self.b
        target = follows.at
        if look:
            go_on, attend = b.label(), b.label()
            b.branch_if(undisturbed(b, retired), go_on, attend, True)
            with b.aside(attend):
                self.leave("poll", target, retired)
            b.place(go_on)
        if follows in self.labels:
            for fits in self._conditions(target):
                self._only_if(fits, target, retired)
            self._pass_guard(follows, retired)
            self.save(retired)
            b.branch(self.labels[follows])
        else:
            self.leave("dispatch", target, retired)

    def _conditions(self, target: int) -> list[str]:
        """What must be 1 for the block at ``target`` to be there: of the pages that nothing is known about here,
        whether they are what the region was made from."""
        return [_fits(distance) for distance in sorted(self.region.pages_of(target) - self._pages_here)]

    def _only_if(self, fits: str, target: int, retired: Value) -> None:
        """Else ``target`` is reached by leaving the region."""
        enter, leave = self.b.label(), self.b.label()
        self.b.branch_if(fits, enter, leave, True)
        with self.b.aside(leave):
            self.leave("dispatch", target, retired)
        self.b.place(enter)

    def _pass_guard(self, target: Spot, retired: Value) -> None:
        """Compare the addresses that code from ``target`` on takes to have been compared."""
        for register, check in self.bounds.unguarded(self.leader, target):
            self.memory.check(register, self.x[register], check, lambda: self.leave("dispatch", target.at, retired))

    def save(self, retired: Value) -> None:
        """Another block of the region follows."""
        self.x.save()
        self.f.save()
        self.b.store(self.count, retired)

    def jump_to(self, target: Value, source: int, retired: Value) -> None:
        """From ``source`` to a computed address: within the region, if that has it as a target of the jump."""
        b = self.b
        if targets := sorted(self.region.targets.get(source, ())):
            self.save(retired)
            elsewhere = b.label()
            labels = {place: b.label() for place in targets}
            for place in targets:  # what they compare is wanted on all of these ways: read it before they part
                for register, _ in self.bounds.unguarded(self.leader, Spot(place)):
                    self.x[register]
            cases = " ".join(f"i64 {place}, label %{label}" for place, label in labels.items())
            relative = target - Value("%page", 64, b)
            b.terminate(f"switch i64 {relative.raw}, label %{elsewhere} [ {cases} ]")
            for place, label in labels.items():
                b.place(label)
                needed = self._conditions(place)
                if place <= source:
                    needed.append(undisturbed(b, retired))
                for fits in needed:
                    enter = b.label()
                    b.branch_if(fits, enter, elsewhere, True)
                    b.place(enter)
                self._pass_guard(Spot(place), retired)
                b.branch(self.labels[Spot(place)])
            with b.aside(elsewhere):
                self._leave_by_jump(target, source, retired)
        else:
            self._leave_by_jump(target, source, retired)

    def _leave_by_jump(self, target: Value, source: int, retired: Value) -> None:
        self.exits.comes_from(PlaceInRegion(source, self))
        self.leave(RETURN if self.region.steps[source].is_return else COMPUTED, target, retired)

    # -- entry
    def _entry(self) -> None:
        entry = self.b.sibling()
        entry.store(self.count, Value("%cnt", 64, entry))
        entry.store(entry.pointer("%st", HART.offset["rp"]), entry.from_pointer("%rp"))
        pc = entered_at(entry)
        self._check_pages(entry, define_page(entry, pc))
        self.memory.enter(entry, "windowless")
        self.x.enter(entry)
        self.f.enter(entry)
        self.exits.enter(entry)
        head = "enter"
        if self.uses_fp:
            mstatus = entry.load(entry.pointer("%st", HART.offset["mstatus"]))
            frm = entry.load(entry.pointer("%st", HART.offset["frm"]))
            # said so that LLVM can tell: FS is not Off, frm is below RMM
            entry.line(f"%mstatus = or i64 {mstatus.raw}, {FS}")
            entry.line(f"%frm = and i64 {frm.raw}, {RMM - 1}")
            entry.branch_if((((mstatus & FS) != 0) & frm.ltu(RMM)).raw, head, "unfit", True)
        else:
            entry.branch(head)
        entry.place(head)
        first, *others = ((at, self._gates.get(at, self.labels[Spot(at)])) for at in self.region.entries)
        cases = " ".join(f"i64 {at}, label %{label}" for at, label in others)
        entry.terminate(f"switch i64 {(pc & (PAGE - 1)).raw}, label %{first[1]} [ {cases} ]")
        self.b.prologue(entry)

    def _place_gates(self) -> None:
        """In front of blocks that have a guard, where the region is entered there."""
        b = self.b
        for at, label in self._gates.items():
            b.place(label)
            for register, span in self.bounds.guards[Spot(at)].items():
                check = Check(span.proper, True, True, True)
                self.memory.check(register, self.x.at_entry(register), check, lambda: b.branch("unfit"))
            b.branch(self.labels[Spot(at)])

    def _check_pages(self, entry: Builder, page: Value) -> None:
        """Find out which of the pages around are those that the region was made from. (None of this changes before the
        region is left.)"""
        others = self._other_pages
        if others:
            self.module.declare(f"@{PAGE_NUMBERS} = dso_local global [{len(others)} x i32] zeroinitializer")
        for i, distance in enumerate(others):
            address = page + distance * PAGE
            known, delta = probe_code(entry, "%tlb", address)
            wanted = entry.pointer(f"@{PAGE_NUMBERS}", 4 * i)
            numbers = entry.load(delta) + ((address << 3) + PAGE_NUMBER)
            number = known.mux(numbers, entry.from_pointer(wanted))  # where something can be read, in any case
            same = entry.load(entry.to_pointer(number), 32) == entry.load(wanted, 32)
            entry.line(f"{_fits(distance)} = and i1 {known.raw}, {same.raw}")


def _label(spot: Spot) -> str:
    place = f"at{'n' if spot.at < 0 else ''}{abs(spot.at):x}"
    return f"{place}_{spot.turn}" if spot.turn else place


def _fits(distance: int) -> str:
    return f"%fits{'_' if distance < 0 else ''}{abs(distance)}"


def region_ir(
    isa: IsaSpec,
    source: Source,
    head: int,
    symbols: dict[str, int],
    name: str = "region",
    located: bool = False,
) -> RegionIr:
    """IR of the region at page offset ``head``. ``symbols`` are the interpreter's, by offset from its start. With
    ``located`` it says where everything comes from."""

    @functools.cache
    def has_fast_form(insn: Insn, length: int) -> bool:
        return f"f_{Variant(insn, length).symbol}" in symbols

    def fast(step: Step) -> bool:
        return step.is_jump or step.target is not None or has_fast_form(step.insn, step.length)

    region = Shape(isa, source, head, fast)
    module = Module()
    places: list[int] = []
    if region.steps:
        context = RegionContext(module, isa, region, symbols, name, located)
        context.define()
        places = context.places
    pages = region.pages
    ordered = ((0, pages[0]), *((distance, pages[distance]) for distance in sorted(pages) if distance))
    contains = {distance: 0 for distance, _ in ordered}
    for leader in region.leaders:
        for step in region.block(leader):
            contains[step.at >> PAGE_SHIFT] |= 1 << (step.at % PAGE // 2)
    found = tuple(contains.values()), tuple(sorted(region.left_out)), tuple(sorted(region.guesses)), tuple(places)
    return RegionIr(module.text(), len(region.steps), region.entries, ordered, *found)


assert PAGE_NUMBER < RECORD_PAGE
