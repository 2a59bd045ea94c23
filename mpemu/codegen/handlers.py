"""Compiles instruction bodies into the handlers of the threaded interpreter.

A handler is ``preserve_nonecc i64 (ptr %st, ptr %rp, i64 %cnt, ptr %tlb, ptr %tbl)``: hart, record, instructions
retired minus slice_end (negative while the slice lasts), current regime, start of the blob. It ends in a tail call of
the next record's handler, so guest state that every instruction needs stays in host registers. The first four arguments
live in registers that the C convention preserves: calls out of a slow handler spill nothing.

Every instruction with memory accesses exists twice. The *fast* form probes the TLB inline and, whatever is out of the
ordinary, tail-calls the *slow* form of the same record, which does it all by calling routines; since a body has no
effect before the last point that can trap, starting over is safe. Slow handlers begin by making pc and instret exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpemu.codegen import lrsc
from mpemu.codegen.core import Core, NeedsSlow, RegisterField
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.records import (
    HANDLER,
    IMM,
    RECORD,
    SPIN_GAP,
    SPIN_YIELD,
    TURN,
    Variant,
    operand_slots,
    ordering_bits,
)
from mpemu.codegen.tlb_entries import probe_code, probe_data
from mpemu.isa.hart import Isa, Operand
from mpemu.isa.value import Value, value_of
from mpemu.layout import HART

CC = "preserve_nonecc"
ARGUMENTS = "ptr %st, ptr %rp, i64 %cnt, ptr %tlb, ptr %tbl"
_INPUT, _OUTPUT, _READ, _WRITE = 8, 4, 2, 1
_TSO = 8
_AMO = {"swap": "xchg", "minu": "umin", "maxu": "umax"}


class PcValue(Value):
    """The pc; adding the immediate field to it is remembered, so that a jump there needs no pc at all."""

    def __init__(self, raw: Any, h: HandlerEmitter) -> None:
        super().__init__(raw, 64, h.b)
        self._h = h

    def __add__(self, other: Value | int) -> Value:
        if isinstance(other, ImmediateField):
            return RelativeTarget(self, other)
        return super().__add__(other)


class ImmediateField(Value):
    """The record's i64 as an operand field."""


class RelativeTarget(Value):
    """pc + imm, not computed before its value is asked for."""

    def __init__(self, pc: Value, imm: ImmediateField) -> None:
        self.width, self.ops = 64, pc.ops
        self._pc, self.imm = pc, imm

    @property
    def raw(self) -> Any:  # type: ignore[override]
        return Value._binary(self._pc, "add", self.imm).raw


def fence_orders(predecessors: Operand, successors: Operand, fm: Operand) -> tuple[Value, Value, Value]:
    """What FENCE asks for, as Host.guest_fence wants it. Device accesses count as those of memory."""
    before, behind = value_of(predecessors), value_of(successors)
    loads, stores = _READ | _INPUT, _WRITE | _OUTPUT
    earlier_stores, later_stores = (before & stores) != 0, (behind & stores) != 0
    store_load = earlier_stores & ((behind & loads) != 0) & (value_of(fm) != _TSO)
    return store_load, ((before & loads) != 0) & (behind != 0), earlier_stores & later_stores


class HandlerEmitter(Core):
    """The Hart protocol while one instruction of a handler is compiled."""

    def __init__(self, b: Builder, isa: Isa, variant: Variant, fast: bool, rp: str = "%rp", cnt: str = "%cnt") -> None:
        super().__init__(b, isa, variant.insn.name)
        self.variant, self.fast = variant, fast
        self.rp, self.cnt = rp, cnt
        self._depth = 0
        self._resync = False
        delta = b.load(b.pointer("%st", HART.offset["delta"]))
        self._pc = PcValue((b.from_pointer(rp) - delta).sra(3).raw, self)

    @property
    def slow_symbol(self) -> str:
        return f"s_{self.variant.insn.name}_{self.variant.length}"

    def fields(self) -> dict[str, Operand]:
        """The operands, bound to the record's contents."""
        b, bound = self.b, dict[str, Operand]()
        fixed = dict(self.variant.fixed)
        for name, slot in operand_slots(self.variant.insn).items():
            if name in fixed:
                continue
            if slot == IMM:
                v = b.load(b.pointer(self.rp, IMM), invariant=True)
                bound[name] = ImmediateField(v.raw, 64, b) if name == "imm" else v
            else:
                raw = b.load(b.pointer(self.rp, slot), 8, invariant=True).zext(64).raw
                bound[name] = RegisterField(raw, b) if name == "rd" else Value(raw, 64, b)
        return {**bound, **fixed, **ordering_bits(self.variant.insn)}

    def emit(self) -> None:
        """The body; open at the end if it falls through."""
        if not self.fast:
            self._commit()
        operands = self.fields()
        self.variant.insn.body(self, *(operands[name] for name in self.variant.insn.operands))

    # -- leaving the handler
    def next_record(self) -> str:
        return self.b.pointer(self.rp, RECORD * self.variant.length // 2)

    def retired(self) -> str:
        return self.b.binary("add", self.cnt, 1, 64)

    def finish(self) -> None:
        """Behind the body: on to the next instruction."""
        if self.b.terminated:
            return
        if self._resync:
            self._resynchronise(self.next_pc)
        else:
            self.dispatch(self.next_record(), self.retired())

    def dispatch(self, rp: str, cnt: str) -> None:
        offset = self.b.load(self.b.pointer(rp, HANDLER), 32).zext(64)
        self.tail(self.b.pointer("%tbl", offset), rp, cnt)

    def tail(self, target: str, rp: str, cnt: str) -> None:
        b = self.b
        result = b.op(f"musttail call {CC} i64 {target}(ptr %st, ptr {rp}, i64 {cnt}, ptr %tlb, ptr %tbl)")
        b.terminate(f"ret i64 {result}")

    def _commit(self) -> None:
        """Make pc and instret exact: routines and traps look at them."""
        self.s.pc = Value(self._pc.raw, 64, self.b)
        self.s.instret = self.s.slice_end + Value(self.cnt, 64, self.b)

    def _resynchronise(self, pc: Value) -> None:
        self.s.pc = pc
        self.s.instret = self.s.instret + 1
        self.tail("@h_resync", "null", "0")

    def _bail(self) -> None:
        """Fast form: start over in the slow one."""
        if self._depth == 0:
            raise NeedsSlow
        self._missed()

    def _slow_only(self) -> bool:
        """True if the caller shall emit nothing: the fast form gives up here, or the code is dead."""
        if self.b.muted:
            return True
        if self.fast:
            self._bail()
            return True
        return False

    def when(self, condition: Value, likely: bool | None = None) -> Any:
        return _Nested(self, super().when(condition, likely))

    def otherwise(self) -> Any:
        return _Nested(self, super().otherwise())

    # -- control
    @property
    def pc(self) -> Value:
        return self._pc

    @property
    def next_pc(self) -> Value:
        return Value._binary(self._pc, "add", self.variant.length)

    def jump(self, target: Value) -> None:
        if self.b.muted:
            return
        if self._resync:
            self._resynchronise(target)
        elif isinstance(target, RelativeTarget):
            if self.variant.way in ("back", "fwd", "spin"):
                destination = self.b.pointer(self.rp, target.imm)
                if self.variant.way == "spin":
                    # the next turn follows directly, or there was something else, and this is another wait
                    turn = self.b.load(self.b.pointer(self.rp, TURN), 8, invariant=True).zext(64)
                    self._spin(destination, self.retired(), "turn_count", turn)
                self._taken(destination, self.retired(), checked=self.variant.way != "fwd")
            else:
                self._jump_dynamic(target)
        elif self.fast:
            self._jump_dynamic(target)
        else:
            self.s.pc = target
            self.s.instret = self.s.instret + 1
            self.tail("@h_goto", "null", "0")

    def _spin(self, rp: str, cnt: str, counter: str, gap: Value) -> None:
        """A turn of a spin loop: one host pause, and from time to time a chance for the hart that it waits for. It is
        of the same wait as the last turn if that was at most ``gap`` instructions ago, by ``counter``."""
        b = self.b
        count = Value(cnt, 64, b)
        same_wait = (count - getattr(self.s, counter)).leu(gap)
        setattr(self.s, counter, count)
        spins = same_wait.mux(self.s.spins, 0) + 1
        self.s.spins = spins
        stay, leave = b.label(), b.label()
        b.branch_if(spins.ltu(SPIN_YIELD).raw, stay, leave, True)
        b.place(leave)
        self.tail("@h_spin", rp, cnt)
        b.place(stay)
        b.module.host.pause(b)

    def _taken(self, rp: str, cnt: str, checked: bool) -> None:
        """Jump to a record; at back edges look for interrupts and the end of the slice first."""
        b = self.b
        if checked:
            lines = b.load(b.pointer("%st", HART.offset["lines"]), order="monotonic")
            due = lines & b.load(b.pointer("%st", HART.offset["line_mask"]))
            for fine, symbol in (((due == 0), "@h_poll"), (Value(cnt, 64, b).lt(0), "@h_slice")):
                go_on, leave = b.label(), b.label()
                b.branch_if(fine.raw, go_on, leave, True)
                b.place(leave)
                self.tail(symbol, rp, cnt)
                b.place(go_on)
        self.dispatch(rp, cnt)

    def _jump_dynamic(self, target: Value) -> None:
        """To a computed address or another page. Every loop has a jump that does not go forward: those are checked."""
        b = self.b
        cnt = self.retired()
        ahead = target.gtu(self._pc)
        known, where = probe_code(b, "%tlb", target)
        hit, miss = b.label(), b.label()
        b.branch_if(known.raw, hit, miss, True)
        b.place(miss)
        self.s.pc = target
        with b.when(ahead):
            self.tail("@h_goto_counted", "null", cnt)
        self.tail("@h_attend_counted", "null", cnt)
        b.place(hit)
        delta = b.load(where)
        self.s.delta = delta
        record = b.to_pointer(delta + (target << 3))
        with b.when(ahead):
            self.dispatch(record, cnt)
        self._taken(record, cnt, checked=True)

    def trap(self, cause: Operand, tval: Operand = 0) -> None:
        if self._slow_only():
            return
        self.s.exc_cause = cause
        self.s.exc_tval = tval
        self.tail("@h_raise", "null", "0")

    def illegal(self) -> None:
        if self._slow_only():
            return
        self.trap(2, self.call("current_instruction"))

    def failed(self, status: Value) -> None:
        with super().when(status == 2):
            self.tail("@h_exit", "null", "0")
        self.tail("@h_raise", "null", "0")

    def call(self, routine: Any, *arguments: Operand) -> Value:
        if self._slow_only():
            return Value(0, 64)
        return super().call(routine, *arguments)

    def context_changed(self, target: Value | None = None) -> None:
        if not self._slow_only():
            self._resynchronise(self.next_pc if target is None else target)

    # -- memory
    def _probe(self, address: Value, width: int, tag_name: str) -> str:
        """The host address behind a guest address by the inline TLB; anything unusual bails out."""
        known, addend = probe_data(self.b, "%tlb", address, width // 8, tag_name)
        self._only_if(known)
        return self.b.to_pointer(address + self.b.load(addend))

    def _only_if(self, condition: Value) -> None:
        """Where that is not so, it can't be done in this form of the body."""
        b = self.b
        go_on, leave = b.label(), b.label()
        b.branch_if(condition.raw, go_on, leave, True)
        with b.aside(leave):
            self._missed()
        b.place(go_on)

    def _missed(self) -> None:
        """Leave this form of the body (the inline TLB does not know the page, say)."""
        self.tail(f"@{self.slow_symbol}", self.rp, self.cnt)

    def load(self, address: Value, width: int) -> Value:
        if self.fast and not self.b.muted:
            return self._read(address, width)
        return self.call(f"slow_load{width}", address).lo(width)

    def store(self, address: Value, value: Value) -> None:
        if self.fast and not self.b.muted:
            self._write(address, value)
        else:
            self.call(f"slow_store{value.width}", address, value.zext(64))

    def _read(self, address: Value, width: int) -> Value:
        return self.b.load(self._probe(address, width, "read_tag"), width, self.b.module.host.GUEST_LOAD)

    def _write(self, address: Value, value: Value) -> None:
        self.b.store(self._probe(address, value.width, "write_tag"), value, order="monotonic")

    def amo(self, op: str, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        name = _AMO.get(op, op)
        if self.fast and not self.b.muted:
            old = self.b.atomic_rmw(name, self._probe(address, value.width, "write_tag"), value)
        else:
            where = self.b.to_pointer(self.call("rmw_begin", address, value.width // 8))
            old = self.b.atomic_rmw(name, where, value)
            self.call("rmw_end")
        self.b.module.host.after_atomic(self.b)
        return old

    def cas(self, address: Value, expected: Value, new: Value, aq: Operand, rl: Operand) -> Value:
        if self.fast and not self.b.muted:
            old, _ = self.b.compare_exchange(self._probe(address, new.width, "write_tag"), expected, new)
        else:
            where = self.b.to_pointer(self.call("rmw_begin", address, new.width // 8))
            old, _ = self.b.compare_exchange(where, expected, new)
            self.call("rmw_end")
        self.b.module.host.after_atomic(self.b)
        return old

    def load_reserved(self, address: Value, width: int, aq: Operand, rl: Operand) -> Value:
        distance = self._tight_distance()
        if not self.b.muted:
            with self.b.when(value_of(rl) != 0, likely=False):
                self.b.fence()
        if not self.fast or self.b.muted:
            return self.call("load_reserved", address, width // 8, distance).lo(width)
        if distance.constant == 0:
            self._bail()
            return Value(0, width)
        self._only_if((distance != 0) & (self.s.tight_distrust == 0))
        where = self._probe(address, width, "read_tag")
        value = self.b.load(where, width, "seq_cst")
        lrsc.note_tight(self, self._now() + distance, self.b.from_pointer(where), value)
        return value

    def store_conditional(self, address: Value, value: Value, aq: Operand, rl: Operand) -> Value:
        if not self.fast or self.b.muted:
            failed = self.call("store_conditional", address, value.zext(64), value.width // 8)
            self.b.module.host.after_atomic(self.b)
            return failed
        where = self._probe(address, value.width, "write_tag")
        self._only_if(lrsc.tight_is_due(self, self._now(), self.b.from_pointer(where), value.width // 8))
        self.s.tight_word = 0
        _, stored = self.b.compare_exchange(where, self.s.tight_value.lo(value.width), value)
        self.b.module.host.after_atomic(self.b)
        return (~stored).zext(64)

    def _tight_distance(self) -> Value:
        """Of the LR that this is: instructions to its SC if they are a tight sequence (tight.py), else 0."""
        return self.b.load(self.b.pointer(self.rp, IMM), invariant=True)

    def _now(self) -> Value:
        """instret of this instruction."""
        return self.s.slice_end + Value(self.cnt, 64, self.b)

    def fence(self, predecessors: Operand, successors: Operand, fm: Operand) -> None:
        if not self.b.muted:
            self.b.module.host.guest_fence(self.b, *fence_orders(predecessors, successors, fm))

    def fence_i(self) -> None:
        if not self._slow_only():
            super().fence_i()
            self._resync = True

    def sfence_vma(self, address: Value | None, asid: Value | None) -> None:
        if not self._slow_only():
            super().sfence_vma(address, asid)
            self._resync = True

    def flush_tlb(self) -> None:
        if not self._slow_only():
            super().flush_tlb()
            self._resync = True

    def check_cbo(self, address: Value, write: bool) -> None:
        self.call("check_cbo", address, int(write))

    def zero_block(self, address: Value) -> None:
        self.call("zero_block", address)

    # -- waiting
    def pause(self) -> None:
        if self.fast and not self.b.muted:
            self._spin(self.next_record(), self.retired(), "pause_count", Value(SPIN_GAP, 64))
        else:
            self.call("spin_hint")

    def wait_for_interrupt(self) -> None:
        if not self._slow_only():
            self.call("wait_for_interrupt")
            self._resync = True

    def wait_on_reservation(self, short: bool) -> None:
        if not self._slow_only():
            with self.when(self.call("wait_on_reservation", int(short)) != 0):
                self.tail("@h_spin", self.next_record(), self.retired())


class RegionEmitter(HandlerEmitter):
    """A fast form in a region of any tier: what it can't do is left to the interpreter."""

    def pause(self) -> None:
        raise NeedsSlow

    def leave_for_exact_fp(self, branch: bool) -> None:
        """Rounding modes that the host lacks are the interpreter's."""
        if not branch:
            raise NeedsSlow
        self._missed()


EmitterFactory = Callable[..., HandlerEmitter]
"""What makes a :class:`HandlerEmitter`, with the same arguments: the class itself, or a subclass that measures."""


class _Nested:
    """A `when` that knows its depth: what is unconditional in a fast handler is not worth bailing out of."""

    def __init__(self, h: HandlerEmitter, inner: Any) -> None:
        self._h, self._inner = h, inner

    def __enter__(self) -> None:
        self._h._depth += 1
        self._inner.__enter__()

    def __exit__(self, *exc: Any) -> Any:
        self._h._depth -= 1
        return self._inner.__exit__(*exc)


def _function(module: Module, symbol: str, attributes: str = "") -> Builder:
    return Builder(module, f'dso_local {CC} i64 @"{symbol}"({ARGUMENTS})', f"nounwind {attributes}".strip())


def compile_handler(
    module: Module, isa: Isa, variant: Variant, emitter: EmitterFactory = HandlerEmitter
) -> tuple[str, bool]:
    """Define the handler of ``variant``: (its symbol, whether it needs the slow form beside it)."""
    symbol = f"f_{variant.symbol}"
    try:
        b = _function(module, symbol)
        h = emitter(b, isa, variant, fast=True)
        h.emit()
        h.finish()
        module.define(b)
        return symbol, f"@{h.slow_symbol}(" in b.text()
    except NeedsSlow:
        return compile_slow(module, isa, variant, f"s_{variant.symbol}", emitter), False


def compile_slow(
    module: Module, isa: Isa, variant: Variant, symbol: str, emitter: EmitterFactory = HandlerEmitter
) -> str:
    b = _function(module, symbol, "noinline")
    h = emitter(b, isa, variant, fast=False)
    h.emit()
    h.finish()
    module.define(b)
    return symbol


def compile_fused(module: Module, isa: Isa, first: Variant, second: Variant) -> str:
    """Define one handler for two instructions in a row; both must have fast forms, the first must fall through."""
    symbol = f"p_{first.symbol}__{second.symbol}"
    b = _function(module, symbol)
    h = HandlerEmitter(b, isa, first, fast=True)
    h._depth = 1
    h.emit()
    follow = HandlerEmitter(b, isa, second, fast=True, rp=h.next_record(), cnt=h.retired())
    follow._depth = 1
    follow.emit()
    follow.finish()
    module.define(b)
    return symbol
