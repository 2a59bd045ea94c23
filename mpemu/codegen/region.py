"""Translates a region: hot guest code of one page as one host function, guest registers in host registers.

A region is a handler like any other (handlers.py: same signature), reached by the record of its first instruction,
which it finds by %rp. So it does not matter where the page lies in the guest's and in the host's address space: a
region depends on the page's bytes alone. It leaves by dispatching the record at which interpreter, or another region,
goes on:

- *dispatch*: the next instruction is elsewhere on the page;
- *dynamic*: a computed jump, or one to another page;
- *poll*: a back edge found an interrupt line or the end of the slice;
- *interpret*: this instruction needs more than the fast path (a TLB miss, a trap, a CSR): the interpreter executes it.

On the way out the registers that the region may have written go back to the hart's struct; instret is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpemu.codegen.core import Core, NeedsSlow, StateFields
from mpemu.codegen.decoder import MAX_SPIN_LOOP
from mpemu.codegen.facts import facts
from mpemu.codegen.handlers import ARGUMENTS, CC, HandlerEmitter
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.records import RECORD, Variant, ordering_bits
from mpemu.codegen.tight import tight_distance_on
from mpemu.isa.fp import RMM
from mpemu.isa.hart import Operand
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import F_FIELDS, Insn, decode
from mpemu.isa.value import Value
from mpemu.layout import HART, ITLB_ENTRIES, ITLB_ENTRY, PAGE, REGIME

FS_DIRTY = 3 << 13
MAX_INSNS = 300
"""Guest instructions in a region."""
SCALE = RECORD // 2
"""Bytes of records per byte of code."""


@dataclass(frozen=True)
class Step:
    """An instruction of the region, at page offset ``at``."""

    at: int
    insn: Insn
    operands: dict[str, int]
    length: int

    @property
    def target(self) -> int | None:
        """Page offset (of any page) that a direct jump goes to."""
        return self.at + self.operands["imm"] if self.is_direct else None

    @property
    def is_direct(self) -> bool:
        return self.insn.ends_block and "imm" in self.operands and self.insn.name != "jalr"

    @property
    def is_branch(self) -> bool:
        return self.is_direct and "rd" not in self.operands


class Region:
    """What is translated: blocks of steps by their first offset, ``head`` first."""

    def __init__(self, isa: IsaSpec, page: bytes, head: int) -> None:
        self.head, self.page = head, page
        self._isa = isa
        self.steps: dict[int, Step] = {}
        leaders = {head}
        work = [head]
        while work and len(self.steps) < MAX_INSNS:
            at = work.pop(0)
            while at not in self.steps and len(self.steps) < MAX_INSNS:
                step = self._decode(page, at)
                if step is None:
                    break
                self.steps[at] = step
                behind = at + step.length
                if step.is_branch:
                    for place in (step.target, behind):
                        if place is not None and 0 <= place < PAGE:
                            leaders.add(place)
                            work.append(place)
                elif step.is_direct and step.operands["rd"] == 0:
                    if step.target is not None and 0 <= step.target < PAGE:
                        leaders.add(step.target)
                        work.append(step.target)
                    break
                elif step.insn.ends_block:
                    break
                at = behind
        self.leaders = sorted(leaders & self.steps.keys())
        self.spins = {s.at for s in self.steps.values() if self._only_waits(s)}

    def _decode(self, page: bytes, at: int) -> Step | None:
        if at > PAGE - 2:
            return None
        word = int.from_bytes(page[at : at + 4], "little")
        if word & 3 == 3 and at > PAGE - 4:
            return None
        decoded = decode(word, self._isa.extensions)
        return Step(at, *decoded) if decoded else None

    def _only_waits(self, jump: Step) -> bool:
        """The loop that this back edge closes can only wait (as decoder.is_spin_loop finds)."""
        if not jump.is_direct or jump.target is None or not 0 <= jump.at - jump.target <= MAX_SPIN_LOOP:
            return False
        read: set[int] = set()
        written: set[int] = set()
        at = jump.target
        while at <= jump.at:
            step = self.steps.get(at)
            if step is None:
                return True  # not all of it is here: leave it to the interpreter
            known = facts(self._isa, Variant(step.insn, step.length))
            if not known.quiet or (known.relative_jump and step.operands.get("rd")):
                return False
            read |= {step.operands[f] for f in known.reads} - written - {0}
            written |= {step.operands[f] for f in known.writes}
            at += step.length
        return not read & written

    def block(self, leader: int) -> Iterator[Step]:
        """The steps from ``leader`` to the next leader or the end."""
        at = leader
        while at in self.steps and (at == leader or at not in self.leaders):
            step = self.steps[at]
            yield step
            at += step.length


class _Slots:
    """A register file in stack slots, which LLVM turns into values. Loaded at entry, stored at the exits if written."""

    def __init__(self, b: Builder, item: str) -> None:
        self._b, self._item = b, item
        self._slots: dict[int, str] = {}
        self.written: set[int] = set()

    def _slot(self, index: Operand) -> str:
        number = index.constant if isinstance(index, Value) else index
        assert number is not None
        if number not in self._slots:
            self._slots[number] = self._b.alloca("i64")
        return self._slots[number]

    def __getitem__(self, index: Operand) -> Value:
        if self._item == "x" and index == 0 and isinstance(index, int):
            return Value(0, 64)
        return self._b.load(self._slot(index))

    def __setitem__(self, index: Operand, value: Value) -> None:
        if self._item == "x" and index == 0 and isinstance(index, int):
            return
        slot = self._slot(index)
        self._b.store(slot, value)
        self.written.add(index if isinstance(index, int) else index.constant)  # type: ignore[arg-type]

    def load_all(self, entry: Builder) -> None:
        for number, slot in self._slots.items():
            entry.store(slot, entry.load(entry.pointer("%st", HART.offset[self._item] + 8 * number)))

    def store_written(self) -> None:
        for number in sorted(self.written):
            value = self._b.load(self._slots[number])
            self._b.store(self._b.pointer("%st", HART.offset[self._item] + 8 * number), value)


class _Pc(Value):
    """The address of a step: known relative to the page."""

    def __init__(self, at: int, context: _Context) -> None:
        self.width, self.ops = 64, context.b
        self.at, self._context = at, context

    @property
    def raw(self) -> Any:  # type: ignore[override]
        return (Value("%page", 64, self._context.b) + self.at).raw

    def __add__(self, other: Value | int) -> Value:
        return _Pc(self.at + other, self._context) if isinstance(other, int) else super().__add__(other)


class _FpState(StateFields):
    """``h.s`` in a region with floating point: what it depends on is looked at once, at the entry. There FS is not Off
    and the host has the rounding mode, or the interpreter goes on; only CSR instructions change that, which leave."""

    def __getattr__(self, name: str) -> Value:
        if name in ("mstatus", "frm"):
            return Value(f"%{name}", 64, self._core.b)
        return super().__getattr__(name)


class _Context:
    """The function being made."""

    def __init__(self, module: Module, isa: IsaSpec, region: Region, symbols: dict[str, int], name: str) -> None:
        self.module, self.isa, self.region, self.symbols = module, isa, region, symbols
        self.b = Builder(module, f"dso_local {CC} i64 @{name}({ARGUMENTS})")
        self.x, self.f = _Slots(self.b, "x"), _Slots(self.b, "f")
        self.labels = {at: f"at{at:x}" for at in region.leaders}
        self.count = self.b.alloca("i64")
        self.exit_count = self.b.alloca("i64")
        self.exit_place = self.b.alloca("i64")
        self.pending = 0
        self.uses_fp = any(F_FIELDS & step.insn.pattern.fields.keys() for step in region.steps.values())
        self.fp_written = self.b.alloca("i64")
        module.known_frm = "%frm" if self.uses_fp else ""

    def retired(self, more: int = 0) -> Value:
        return self.b.load(self.count) + (self.pending + more)

    def leave(self, kind: str, place: Value | int, retired: Value) -> None:
        """To the shared exit ``kind``; ``place`` is a page offset, or a pc for "dynamic"."""
        b = self.b
        b.store(self.exit_count, retired)
        b.store(self.exit_place, place, 64)
        b.branch(f"exit_{kind}")

    def define(self) -> None:
        b = self.b
        for leader in self.region.leaders:
            b.place(self.labels[leader])
            self.pending = 0
            at = leader
            for step in self.region.block(leader):
                self._step(step)
                at = step.at + step.length
                if b.terminated:  # the interpreter goes on; behind it comes back by a record
                    break
            if not b.terminated and at == PAGE:  # the record behind the page's last one goes on
                self.leave("dispatch", PAGE, self.retired())
            elif not b.terminated:
                b.store(self.count, self.retired())
                self.go(at, at - 1, b.load(self.count))
        self._exits()
        self._entry()
        self.module.define(b)

    def _step(self, step: Step) -> None:
        if step.at in self.region.spins and not step.is_branch:
            self.leave("interpret", step.at, self.retired())
            return
        emitter = _StepEmitter(self, step)
        self.module.leave_for_exact_fp = emitter.leave_for_exact_fp
        try:
            emitter.emit()
        except NeedsSlow:
            self.leave("interpret", step.at, self.retired())
        self.pending += 1

    def go(self, target: int, source: int, retired: Value) -> None:
        """Continue at page offset ``target``, coming from ``source``, with the count ``retired``."""
        b = self.b
        if not 0 <= target < PAGE:
            self.leave("dynamic", Value("%page", 64, b) + target, retired)
            return
        if target <= source:  # a back edge: at the same places as the interpreter, so that turns end alike
            go_on, look = b.label(), b.label()
            b.branch_if(self._undisturbed(retired), go_on, look, True)
            b.place(look)
            self.leave("poll", target, retired)
            b.place(go_on)
        if target in self.labels:
            b.store(self.count, retired)
            b.branch(self.labels[target])
        else:
            self.leave("dispatch", target, retired)

    def _undisturbed(self, retired: Value) -> Any:
        """1 bit: no interrupt line that counts, and the slice lasts."""
        b = self.b
        lines = b.load(b.pointer("%st", HART.offset["lines"]), order="monotonic")
        due = lines & b.load(b.pointer("%st", HART.offset["line_mask"]))
        return ((due == 0) & retired.lt(0)).raw

    def _entry(self) -> None:
        entry = self.b.sibling()
        entry.store(self.count, Value("%cnt", 64, entry))
        self.x.load_all(entry)
        self.f.load_all(entry)
        delta = entry.load(entry.pointer("%st", HART.offset["delta"]))
        pc = (entry.from_pointer("%rp") - delta).sra(3)
        entry.line(f"%page = sub i64 {pc.raw}, {self.region.head}")
        entry.store(self.fp_written, 0)
        head = self.labels[self.region.head]
        if self.uses_fp:
            mstatus = entry.load(entry.pointer("%st", HART.offset["mstatus"]))
            frm = entry.load(entry.pointer("%st", HART.offset["frm"]))
            # said so that LLVM can tell: FS is not Off, frm is below RMM
            entry.line(f"%mstatus = or i64 {mstatus.raw}, {FS_DIRTY}")
            entry.line(f"%frm = and i64 {frm.raw}, {RMM - 1}")
            entry.branch_if((((mstatus & FS_DIRTY) != 0) & frm.ltu(RMM)).raw, head, "no_fp", True)
        else:
            entry.branch(head)
        self.b.prologue(entry)

    def _exits(self) -> None:
        b = self.b
        if self.uses_fp:
            b.place("no_fp")
            self._tail(b.pointer("%tbl", self.symbols["h_interpret"]), "%rp", Value("%cnt", 64, b))
        for kind in ("dispatch", "dynamic", "poll", "interpret"):
            b.place(f"exit_{kind}")
            self.x.store_written()
            self.f.store_written()
            if self.uses_fp:
                with b.when(b.load(self.fp_written) != 0):
                    mstatus = b.pointer("%st", HART.offset["mstatus"])
                    b.store(mstatus, b.load(mstatus) | FS_DIRTY)
            place, count = b.load(self.exit_place), b.load(self.exit_count)
            if kind == "dynamic":
                self._dynamic(place, count)
                continue
            rp = b.pointer("%rp", (place - self.region.head) * SCALE)
            if kind == "dispatch":
                offset = b.load(rp, 32).zext(64)
                self._tail(b.pointer("%tbl", offset), rp, count)
            else:
                self._tail(b.pointer("%tbl", self.symbols[f"h_{kind}"]), rp, count)

    def _dynamic(self, target: Value, count: Value) -> None:
        b = self.b
        entry = b.pointer(
            b.pointer("%tlb", REGIME.offset["itlb"]), ((target >> 12) & (ITLB_ENTRIES - 1)) * ITLB_ENTRY.size
        )
        tag = b.load(b.pointer(entry, ITLB_ENTRY.offset["tag"]))
        hit, miss, fine, look = b.label(), b.label(), b.label(), b.label()
        b.branch_if((tag == (target & -PAGE)).raw, hit, miss, True)
        b.place(miss)
        b.store(b.pointer("%st", HART.offset["pc"]), target)
        self._tail(b.pointer("%tbl", self.symbols["h_goto_counted"]), "null", count)
        b.place(hit)
        delta = b.load(b.pointer(entry, ITLB_ENTRY.offset["delta"]))
        b.store(b.pointer("%st", HART.offset["delta"]), delta)
        rp = b.to_pointer(delta + (target << 3))
        b.branch_if(self._undisturbed(count), fine, look, True)
        b.place(look)
        self._tail(b.pointer("%tbl", self.symbols["h_poll"]), rp, count)
        b.place(fine)
        self._tail(b.pointer("%tbl", b.load(rp, 32).zext(64)), rp, count)

    def _tail(self, target: str, rp: str, count: Value) -> None:
        b = self.b
        result = b.op(f"musttail call {CC} i64 {target}(ptr %st, ptr {rp}, i64 {count.raw}, ptr %tlb, ptr %tbl)")
        b.terminate(f"ret i64 {result}")


class _StepEmitter(HandlerEmitter):
    """The Hart protocol for one step: operands are ints, registers are the region's."""

    def __init__(self, context: _Context, step: Step) -> None:
        Core.__init__(self, context.b, context.isa, step.insn.name)
        self.variant, self.fast = Variant(step.insn, step.length), True
        self._depth, self._resync = 0, False
        self._context, self._step = context, step
        self.x: Any = context.x
        self.f: Any = context.f
        if context.uses_fp:
            self.s = _FpState(self)

    def fp_dirty(self) -> None:
        self.b.store(self._context.fp_written, 1)

    def fields(self) -> dict[str, Operand]:
        return {**self._step.operands, **ordering_bits(self._step.insn)}

    @property
    def pc(self) -> Value:
        return _Pc(self._step.at, self._context)

    @property
    def next_pc(self) -> Value:
        return _Pc(self._step.at + self._step.length, self._context)

    def _bail(self) -> None:
        if self._depth == 0:
            raise NeedsSlow
        self._context.leave("interpret", self._step.at, self._context.retired())

    def jump(self, target: Value) -> None:
        if self.b.muted:
            return
        if self._step.at in self._context.region.spins:  # nobody waits in here
            self._context.leave("interpret", self._step.at, self._context.retired())
            return
        retired = self._context.retired(1)
        if isinstance(target, _Pc):
            self._context.go(target.at, self._step.at, retired)
        else:
            self._context.leave("dynamic", target, retired)

    def pause(self) -> None:
        raise NeedsSlow

    def leave_for_exact_fp(self, branch: bool) -> None:
        """Rounding modes that the host lacks are the interpreter's."""
        if not branch:
            raise NeedsSlow
        self._context.leave("interpret", self._step.at, self._context.retired())

    def _missed(self) -> None:
        self._context.leave("interpret", self._step.at, self._context.retired())

    def _tight_distance(self) -> Value:
        return Value(tight_distance_on(self._context.region.page, self._step.at, self._context.isa), 64)

    def _now(self) -> Value:
        return self.s.slice_end + self._context.retired()


def region_ir(isa: IsaSpec, page: bytes, head: int, symbols: dict[str, int], name: str = "region") -> tuple[str, int]:
    """IR of the region at page offset ``head`` of ``page`` (4096 bytes) and its number of guest instructions: 0, and no
    IR, if what is there is no instruction, or one that lies on two pages.

    ``symbols`` are the interpreter's, by offset from its start.
    """
    region = Region(isa, page, head)
    if not region.steps:
        return "", 0
    module = Module()
    _Context(module, isa, region, symbols, name).define()
    return module.text(), len(region.steps)
