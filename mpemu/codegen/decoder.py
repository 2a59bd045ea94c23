"""The native decoder: a decision tree over the instruction table that writes records, and the loop around it.

The tree tests the bits that all remaining candidates fix, with a switch, until one is left. A leaf writes the record:
operands in their places, and the handler of the variant that fits them. What no pattern matches gets the illegal-
instruction handler.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from mpemu.codegen.core import SINK
from mpemu.codegen.facts import facts
from mpemu.codegen.ir import Module
from mpemu.codegen.pool import place_of, slot_of
from mpemu.codegen.records import (
    HANDLER,
    IMM,
    RECORD,
    TURN,
    A,
    B,
    C,
    Variant,
    operand_slots,
    specialisations,
)
from mpemu.codegen.routines import Native, native
from mpemu.isa.hart import Operand, Routine
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import COMPRESSED, INSNS, Compressed, Field, Insn, Pattern
from mpemu.isa.value import Value
from mpemu.layout import CODE_PAGE, OWN_HANDLERS, PAGE

NOWHERE = 1 << 32
"""As page offset: the record is not on a page, no jump from it is near."""
ENDS, ID_SHIFT = 1 << 8, 16
"""decode() returns length | ENDS if the block ends here | handler number << ID_SHIFT."""

# What the table handler_facts says of a handler; slots as in records.py.
FACT_QUIET, FACT_READS_A, FACT_READS_B, FACT_READS_C, FACT_WRITES_A = 1, 2, 4, 8, 16
# For tight.py: LR, SC (of 64 bits: DOUBLE), WRS, and what may lie between them.
FACT_PURE, FACT_BRANCHES, FACT_RESERVES, FACT_CONDITIONAL, FACT_DOUBLE, FACT_WAITS = 32, 64, 128, 256, 512, 1024
MAX_SPIN_LOOP = 48
"""Bytes of the longest loop that is looked at."""

# Handlers that are not an instruction's, by number.
UNDECODED, GOTO, STRADDLE, ILLEGAL = range(4)
SPECIAL_HANDLERS = ("h_undecoded", "h_goto_record", "h_straddle", "h_illegal")


def _decode(h: Native, word: Value, record: Value, page_offset: Value) -> None:
    raise NotImplementedError("compiled by build_interpreter, which knows the handlers' numbers")


DECODE = Routine("decode", _decode, ("word", "record", "page_offset"), "Decode one instruction into a record.")


@dataclass(frozen=True)
class Candidate:
    pattern: Pattern
    source: Insn | Compressed


def field_value(field: Field, word: Value) -> Value:
    """Operand of the instruction ``word`` (64-bit value), as Field.extract does it."""
    value = Value(0, 64)
    for source, width, low in field.parts:
        part = (word >> source) & ((1 << width) - 1)
        value = value | (part << low)
    if field.signed:
        shift = 64 - field.width
        value = (value << shift).sra(shift)
    return value + field.bias if field.bias else value


class DecoderEmitter:
    """Emits the body of the routine `decode`."""

    def __init__(self, h: Native, handlers: dict[Variant, int], exts: frozenset[str]) -> None:
        self.h, self.b, self.handlers, self.exts = h, h.b, handlers, exts
        self.relative = {v.insn.name for v in handlers if v.way}

    def emit(self, word: Value, record: Value, page_offset: Value) -> None:
        self.word, self.record, self.page_offset = word, record, page_offset
        base = [Candidate(i.pattern, i) for i in INSNS.values() if i.ext in self.exts]
        short = [Candidate(c.pattern, c) for c in COMPRESSED if c.ext in self.exts and INSNS[c.base].ext in self.exts]
        with self.h.when((word & 3) == 3):
            self._tree(base, 0, 4)
        self._tree(short, 0, 2)

    def _tree(self, candidates: Sequence[Candidate], tested: int, length: int) -> None:
        """Decide among ``candidates``, all of which agree with the word on the bits ``tested``."""
        b = self.b
        if not candidates:
            self._illegal(length)
            return
        common = ~tested & 0xFFFF_FFFF
        for c in candidates:
            common &= c.pattern.mask
        if common:
            groups: dict[int, list[Candidate]] = {}
            for c in candidates:
                groups.setdefault(c.pattern.match & common, []).append(c)
            labels = {value: b.label() for value in groups}
            other = b.label()
            cases = " ".join(f"i64 {value}, label %{label}" for value, label in labels.items())
            b.terminate(f"switch i64 {(self.word & common).raw}, label %{other} [ {cases} ]")
            for value, group in groups.items():
                b.place(labels[value])
                self._tree(group, tested | common, length)
            b.place(other)
            self._illegal(length)
            return
        first = max(candidates, key=lambda c: c.pattern.mask.bit_count())
        rest = [c for c in candidates if c is not first]
        unseen = first.pattern.mask & ~tested
        condition = (self.word & unseen) == (first.pattern.match & unseen) if unseen else Value(1, 1)
        if isinstance(first.source, Compressed):
            for name in first.source.nonzero:
                condition = condition & (field_value(first.pattern.fields[name], self.word) != 0)
        with self.h.when(condition):
            self._leaf(first, length)
        if not b.terminated:
            self._tree(rest, tested, length)

    def _illegal(self, length: int) -> None:
        self._set_handler(Value(ILLEGAL, 64))
        self.h.ret(length | ENDS | ILLEGAL << ID_SHIFT)

    def _leaf(self, candidate: Candidate, length: int) -> None:
        fields = {name: field_value(f, self.word) for name, f in candidate.pattern.fields.items()}
        if isinstance(candidate.source, Compressed):
            insn = INSNS[candidate.source.base]
            operands = {
                name: fields[v] if isinstance(v, str) else Value(v, 64) for name, v in candidate.source.operands.items()
            }
            for name in insn.operands:
                operands.setdefault(name, Value(0, 64))
        else:
            insn, operands = candidate.source, fields
        for name, slot in operand_slots(insn).items():
            at = self.h.at(self.record, slot)
            if slot == IMM:
                if insn.name not in self.relative:
                    self.b.store(at, operands[name])
            else:
                self.b.store(at, self._stored(name, operands[name]).lo(8))
        if IMM not in operand_slots(insn).values():
            self.b.store(self.h.at(self.record, IMM), 0)
        self._choose(insn, length, operands)

    def _stored(self, name: str, value: Value) -> Value:
        return (value == 0).mux(Value(SINK, 64), value) if name == "rd" else value

    def _choose(self, insn: Insn, length: int, operands: dict[str, Value]) -> None:
        """Set the handler of the most specific variant that fits and return."""
        for fixed in specialisations(insn):
            fits = Value(1, 1)
            for name, value in fixed.items():
                fits = fits & (operands[name] == value)
            if fits.constant != 0:
                with self.h.when(fits):
                    self._done(insn, length, tuple(fixed.items()), operands)
        if not self.b.terminated:
            self._done(insn, length, (), operands)

    def _done(self, insn: Insn, length: int, fixed: tuple[tuple[str, int], ...], operands: dict[str, Value]) -> None:
        if insn.name not in self.relative:
            self._finish(insn, length, Value(self.handlers[Variant(insn, length, "", fixed)], 64))
            return
        distance = operands["imm"]
        near = (self.page_offset + distance).ltu(PAGE)
        number = {way: self.handlers[Variant(insn, length, way, fixed)] for way in ("far", "fwd", "back")}
        direction = distance.le(0).mux(Value(number["back"], 64), number["fwd"])
        scaled = distance * (RECORD // 2)
        self.b.store(self.h.at(self.record, IMM), near.mux(scaled, distance))
        self._finish(insn, length, near.mux(direction, number["far"]))

    def _finish(self, insn: Insn, length: int, number: Value) -> None:
        self._set_handler(number)
        ends = ENDS if insn.ends_block and insn.name not in ("beq", "bne", "blt", "bge", "bltu", "bgeu") else 0
        self.h.ret((number << ID_SHIFT) | (length | ends))

    def _set_handler(self, number: Value) -> None:
        set_handler(self.h, self.record, number)


def set_handler(h: Native, record: Value, number: Value) -> None:
    h.put(h.at(record, HANDLER), handler_offset(h, number))


def handler_offset(h: Native, number: Value) -> Value:
    """The offset (32 bits) of a handler by number; the linker fills the table."""
    return h.get(h.b.op(f"getelementptr i32, ptr @handler_offsets, i64 {number.raw}"), 32)


@native
def set_goto_record(h: Native, record: Value) -> None:
    """Make a record that continues at the pc that it has, on whatever page that is."""
    set_handler(h, record, Value(GOTO, 64))


@native
def decode_run(h: Native, record: Value) -> None:
    """Decode from an undecoded record of a page to the end of its block, joining pairs for which there is a handler."""
    number, place = place_of(h, record)
    start = record - (place << 3)
    page = h.s.code_pages + number * CODE_PAGE.size
    copy, reached = (page + CODE_PAGE.offset[item] for item in ("copy", "reached"))
    offset = h.local(place)
    before, before_record = h.local(0), h.local(0)
    with h.loop() as done:
        at = offset.get()
        with h.when(at.geu(PAGE)):
            done()
        here = start + (at << 3)
        with h.when(h.get(h.at(here, HANDLER), 32) != 0):
            done()
        word_of_bits = h.at(reached, at >> 7 << 3)
        h.put(word_of_bits, h.get(word_of_bits) | (Value(1, 64) << ((at >> 1) & 63)))
        low = h.get(h.at(copy, at), 16).zext(64)
        word = h.local(low)
        with h.when((low & 3) == 3):
            with h.when(at == PAGE - 2):
                set_handler(h, here, Value(STRADDLE, 64))
                done()
            word.set(low | (h.get(h.at(copy, at + 2), 16).zext(64) << 16))
        result = h.call(DECODE, word.get(), here, at)
        number_of = h.local(result >> ID_SHIFT)
        spin = table(h, "spin_handler", number_of.get())
        with h.when(spin != 0):
            turn = h.call("is_spin_loop", copy, at, h.get(h.at(here, IMM)).sra(3))
            with h.when(turn != 0):
                h.put(h.at(here, TURN), turn.lo(8))
                set_handler(h, here, spin)
                number_of.set(spin)
        with h.when((table(h, "handler_facts", number_of.get()) & FACT_RESERVES) != 0):
            h.put(h.at(here, IMM), h.call("tight_distance", copy, at))
        mine = number_of.get()
        with h.when(before_record.get() != 0):
            joined = h.call("fused_handler", before.get(), mine)
            with h.when(joined != 0):
                set_handler(h, before_record.get(), joined)
        before.set(mine)
        before_record.set(here)
        with h.when((result & ENDS) != 0):
            done()
        offset.set(at + (result & 0xFF))


@native
def own_handler(h: Native, record: Value) -> None:
    """The handler (its offset) of the instruction of a record that leads to a region. It is remembered until a page is
    decoded anew (code_page in tlb.py)."""
    slot = slot_of(record, OWN_HANDLERS)
    known = h.hart("own_handler", slot)
    with h.when(h.get(h.hart("own_record", slot)) == record):
        h.ret(h.get(known, 32).zext(64))
    number, at = place_of(h, record)
    copy = h.s.code_pages + number * CODE_PAGE.size + CODE_PAGE.offset["copy"]
    low = h.get(h.at(copy, at), 16).zext(64)
    high = h.get(h.at(copy, at + 2), 16).zext(64)
    scratch = h.b.from_pointer(h.hart("scratch")) + RECORD
    handler = h.local(h.call(DECODE, ((low & 3) != 3).mux(low, low | (high << 16)), scratch, at) >> ID_SHIFT)
    spin = table(h, "spin_handler", handler.get())
    distance = h.get(h.at(scratch, IMM)).sra(3)
    with h.when(spin != 0), h.when(h.call("is_spin_loop", copy, at, distance) != 0):
        handler.set(spin)
    found = handler_offset(h, handler.get())
    h.put(h.hart("own_record", slot), record)
    h.put(known, found)
    h.ret(found)


@native
def is_spin_loop(h: Native, copy: Value, end: Value, distance: Value) -> None:
    """Not 0 if the jump at page offset ``end`` over ``distance`` (negative) bytes closes a loop that can only wait:
    short, of quiet instructions (facts.py), none of them a call, no register read in it before it is written in it.
    How many these are."""
    with h.when(distance.lt(-MAX_SPIN_LOOP)):
        h.ret(0)
    record = h.b.from_pointer(h.hart("scratch")) + RECORD  # the one that a straddling instruction leaves unused
    offset = h.local(end + distance)
    read, written, turn = h.local(0), h.local(0), h.local(0)
    with h.loop() as done:
        at = offset.get()
        turn.set(turn.get() + 1)
        low = h.get(h.at(copy, at), 16).zext(64)
        is_short = (low & 3) != 3
        high = h.get(h.at(copy, at + 2), 16).zext(64)
        result = h.call(DECODE, is_short.mux(low, low | (high << 16)), record, NOWHERE)
        known = table(h, "handler_facts", result >> ID_SHIFT)
        with h.when((known & FACT_QUIET) == 0):
            h.ret(0)
        for slot, fact in ((A, FACT_READS_A), (B, FACT_READS_B), (C, FACT_READS_C)):
            number = h.get(h.at(record, slot), 8).zext(64) & 31
            bit = ((known & fact) != 0).mux(Value(1, 64) << number, 0)
            read.set(read.get() | (bit & ~written.get() & ~1))
        with h.when((known & FACT_WRITES_A) != 0):
            number = h.get(h.at(record, A), 8).zext(64) & 31
            with h.when(((known & FACT_BRANCHES) != 0) & (number != 0)):  # a call: who knows what that does
                h.ret(0)
            written.set(written.get() | (Value(1, 64) << number))
        with h.when(at.geu(end)):
            done()
        offset.set(at + (result & 0xFF))
    h.ret(((read.get() & written.get()) == 0).mux(turn.get(), 0))


def define_table(module: Module, name: str, values: Sequence[int]) -> None:
    """A constant table of u16, read by :func:`table`."""
    text = ", ".join(f"i16 {v}" for v in values) or "i16 0"
    module.declare(f"@{name} = internal constant [{max(len(values), 1)} x i16] [{text}]")


def table(h: Native, name: str, index: Operand) -> Value:
    raw = index.raw if isinstance(index, Value) else index
    return h.get(h.b.op(f"getelementptr i16, ptr @{name}, i64 {raw}"), 16).zext(64)


def define_fact_tables(module: Module, isa: IsaSpec, numbers: dict[Variant, int], handlers: int) -> None:
    """handler_facts: FACT_* of each handler; spin_handler: of each backward jump its spinning form, else 0."""
    known, spin = [0] * handlers, [0] * handlers
    slots = {A: FACT_READS_A, B: FACT_READS_B, C: FACT_READS_C}
    for variant, number in numbers.items():
        found = facts(isa, variant)
        places = operand_slots(variant.insn)
        bits = FACT_QUIET if found.quiet else 0
        for name in found.reads:
            bits |= slots.get(places[name], 0)
        if "rd" in found.writes:
            bits |= FACT_WRITES_A
        for holds, bit in (
            (found.pure, FACT_PURE),
            (found.relative_jump, FACT_BRANCHES),
            (found.reserves, FACT_RESERVES),
            (found.conditional, FACT_CONDITIONAL),
            (64 in (found.reserves, found.conditional), FACT_DOUBLE),
            (found.waits, FACT_WAITS),
        ):
            bits |= bit if holds else 0
        known[number] = bits
        if variant.way == "back":
            spin[number] = numbers[dataclasses.replace(variant, way="spin")]
    define_table(module, "handler_facts", known)
    define_table(module, "spin_handler", spin)


def define_fusion_table(module: Module, handlers: int, pairs: dict[tuple[int, int], int]) -> None:
    """Tables for fused_handler: per first handler a range of (second, fused)."""
    rows = sorted((first, second, fused) for (first, second), fused in pairs.items())
    firsts = [row[0] for row in rows]
    define_table(module, "fusion_start", [bisect_left(firsts, number) for number in range(handlers + 1)])
    define_table(module, "fusion_second", [row[1] for row in rows])
    define_table(module, "fusion_fused", [row[2] for row in rows])


@native
def fused_handler(h: Native, first: Value, second: Value) -> None:
    """The handler that executes two instructions in a row, or 0."""
    end = table(h, "fusion_start", first + 1)
    index = h.local(table(h, "fusion_start", first))
    with h.loop() as done:
        i = index.get()
        with h.when(i == end):
            done()
        with h.when(table(h, "fusion_second", i) == second):
            h.ret(table(h, "fusion_fused", i))
        index.set(i + 1)
