"""How control leaves a region: the kinds of exits (region.py lists them), each of them once per region.

What leaves stores what has to be in the hart's struct, says where to and after how many instructions
(:meth:`RegionExits.take`), and shares the rest: statistics, and the search for the record at which the interpreter, or
another region, goes on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpemu.codegen.handlers import CC
from mpemu.codegen.ir import Builder
from mpemu.codegen.records import RECORD
from mpemu.codegen.region_jumps import is_often, note_jump
from mpemu.codegen.tlb_entries import probe_code
from mpemu.isa.privileged import FS
from mpemu.isa.value import Value
from mpemu.layout import HART, PAGE, REGION_EXITS, REGION_VISIT

SCALE = RECORD // 2
"""Bytes of records per byte of code."""


class Handled(NamedTuple):
    """An exit that does not simply dispatch a record: the interpreter's handler :attr:`symbol` counts it as ``reason``
    (REGION_EXITS), and ``then`` goes on."""

    symbol: str
    reason: str
    then: str


HANDLED = {
    "poll": Handled("h_region_poll", "poll", "h_slice"),
    "interpret": Handled("h_region_slow", "slow instruction", "h_interpret"),
    "miss": Handled("h_region_miss", "miss", "h_held_up"),
    "unfit": Handled("h_region_unfit", "unfit", "h_held_up"),
    "windowless": Handled("h_region_windowless", "unfit", "h_refit"),
}
"""By kind."""
FAR = "far_"
"""Before the kind of an exit whose place lies on another page than the region's head."""
COMPUTED, RETURN = "jump", "return"
"""The kinds whose place is an address; of others it is an offset in the head's page, unless they are far."""


class RegionExits:
    """``symbols``: the interpreter's, by offset from its start. ``entered``: %cnt at the region's entry. ``many``:
    exits meet, so what each of them says goes through the stack; hot code would have values ready in registers."""

    def __init__(self, b: Builder, symbols: dict[str, int], entered: Value | None = None, many: bool = False) -> None:
        self._b, self._symbols, self._many = b, symbols, many
        self._entered = Value("%cnt", 64, b) if entered is None else entered
        self._count = b.alloca("i64")
        self._place = b.alloca("i64")
        self._source = b.alloca("i64")
        self._fp_written = b.alloca("i64")
        self._taken: dict[str, None] = {}

    # -- inside the region
    def goes_to(self, place: Value | int, retired: Value) -> None:
        """Of the exit that is taken next: where the guest goes on, after how many instructions. ``place``: an offset in
        the head's page, or an address where the kind says so."""
        self._b.store(self._count, retired, volatile=self._many)
        self._b.store(self._place, place, 64, volatile=self._many)

    def take(self, kind: str) -> None:
        """To the shared exit ``kind``."""
        self._taken[kind] = None
        self._b.branch(f"exit_{kind}")

    def comes_from(self, source: Value) -> None:
        """Of the *jump* or *return* that is taken next: the address of the instruction that jumps."""
        self._b.store(self._source, source)

    def fp_dirty(self) -> None:
        """A floating-point register or flag was written."""
        self._b.store(self._fp_written, 1)

    def enter(self, entry: Builder) -> None:
        """At the region's entry."""
        entry.store(self._fp_written, 0)

    # -- behind it
    def define(self, uses_fp: bool) -> None:
        """The exits that were taken."""
        b = self._b
        for kind in self._taken:
            b.place(f"exit_{kind}")
            if uses_fp:
                with b.when(b.load(self._fp_written) != 0):
                    mstatus = b.pointer("%st", HART.offset["mstatus"])
                    b.store(mstatus, b.load(mstatus) | FS)
            place, count = b.load(self._place), b.load(self._count)
            self._add("region_work", count - self._entered + REGION_VISIT)
            if kind in (COMPUTED, RETURN) or kind.startswith(FAR):
                self._to_address(kind, place, count)
            else:
                self._to_record(kind, self._record(place), count)

    def refuse(self, kind: str) -> None:
        """The block ``kind``: the region can't be entered, and nothing was done."""
        self._b.place(kind)
        self._tail_to(HANDLED[kind].symbol, "%rp", Value("%cnt", 64, self._b))

    def _record(self, place: Value) -> str:
        """The record at ``place`` of the head's page, from that of the entry."""
        b = self._b
        return b.pointer("%rp", (place - (entered_at(b) & (PAGE - 1))) * SCALE)

    def _to_record(self, kind: str, rp: str, count: Value) -> None:
        b = self._b
        if kind == "dispatch":
            offset = b.load(rp, 32).zext(64)
            with b.when(offset.ltu(b.load(b.pointer("%st", HART.offset["regions_start"]))), likely=False):
                b.store(b.pointer("%st", HART.offset["left_page"]), Value("%page", 64, b))
                self._tail_to("h_leave", rp, count)
            self._tail(b.pointer("%tbl", offset), rp, count)
        else:
            self._tail_to(HANDLED[kind].symbol, rp, count)

    def _to_address(self, kind: str, target: Value, count: Value) -> None:
        b = self._b
        if kind in (COMPUTED, RETURN):
            source = b.load(self._source)
            often = is_often(note_jump(b, source, target)) if kind == COMPUTED else None
            with b.when(target.leu(source)):
                disturbed = Value(undisturbed(b, count), 1, b) == 0
                with b.when(disturbed, likely=False):
                    self._by_itlb("poll", target, count)
            self._by_itlb(kind, target, count, often)
        else:
            self._by_itlb(kind.removeprefix(FAR), target, count)

    def _by_itlb(self, kind: str, target: Value, count: Value, often: Value | None = None) -> None:
        """Continue at the record of ``target``, if the ITLB knows its page. ``often``: 1 bit, a computed jump has led
        there often."""
        b = self._b
        known, where = probe_code(b, "%tlb", target)
        hit, miss = b.label(), b.label()
        b.branch_if(known.raw, hit, miss, True)
        b.place(miss)
        b.store(b.pointer("%st", HART.offset["pc"]), target)
        self._add("region_exits", 1, REGION_EXITS.index("unknown page"))
        self._tail_to("h_attend_counted" if kind == "poll" else "h_goto_counted", "null", count)
        b.place(hit)
        delta = b.load(where)
        b.store(b.pointer("%st", HART.offset["delta"]), delta)
        rp = b.to_pointer(delta + (target << 3))
        if often is not None:
            with b.when(often, likely=False):
                b.store(b.pointer("%st", HART.offset["left_page"]), Value("%page", 64, b))
                b.store(b.pointer("%st", HART.offset["left_jump"]), b.load(self._source))
                self._tail_to("h_jumped", rp, count)
        self._to_record(kind if kind in HANDLED else "dispatch", rp, count)

    def _add(self, item: str, more: Value | int, index: int = 0) -> None:
        """To a statistics item of the hart."""
        where = self._b.pointer("%st", HART.offset[item] + 8 * index)
        self._b.store(where, self._b.load(where) + more)

    def _tail_to(self, symbol: str, rp: str, count: Value) -> None:
        self._tail(self._b.pointer("%tbl", self._symbols[symbol]), rp, count)

    def _tail(self, target: str, rp: str, count: Value) -> None:
        b = self._b
        result = b.op(f"musttail call {CC} i64 {target}(ptr %st, ptr {rp}, i64 {count.raw}, ptr %tlb, ptr %tbl)")
        b.terminate(f"ret i64 {result}")


def entered_at(b: Builder) -> Value:
    """The address at which the region was entered."""
    return (b.from_pointer("%rp") - b.load(b.pointer("%st", HART.offset["delta"]))).sra(3)


def define_page(b: Builder, pc: Value) -> Value:
    """%page: the address of the head's page, in which the region was entered at ``pc``."""
    b.line(f"%page = and i64 {pc.raw}, {-PAGE}")
    return Value("%page", 64, b)


def undisturbed(b: Builder, retired: Value, longer: int = 0) -> Any:
    """1 bit: no interrupt line that counts, and the slice lasts, for ``longer`` more instructions."""
    lines = b.load(b.pointer("%st", HART.offset["lines"]), order="monotonic")
    due = lines & b.load(b.pointer("%st", HART.offset["line_mask"]))
    return ((due == 0) & retired.lt(-longer)).raw
