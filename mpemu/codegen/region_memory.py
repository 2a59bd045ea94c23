"""Loads and stores in regions that are made for a window (window.py): through that, else by the TLB."""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.ir import Builder, Module
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRIES, DTLB_ENTRY, PAGE, REGIME

_PROBE = "probe"
_ITEMS = ("window_low", "window_host", "window_reads", "window_writes")


class WindowedMemory:
    """The window of the regime in which the region runs, its bounds in values of the function."""

    def __init__(self, module: Module, b: Builder) -> None:
        self._module, self._b = module, b
        self._offsets: dict[str, Value] = {}
        _define_probe(module)

    def enter(self, entry: Builder, unfit: str) -> None:
        """At the region's entry; without a window to ``unfit``."""
        for name in _ITEMS:
            pointer = entry.pointer("%tlb", REGIME.offset[name])
            entry.line(f"%{name} = load i64, ptr {pointer}, align 8")
        entry.line("%window = inttoptr i64 %window_host to ptr")
        fit = entry.label()
        entry.branch_if((Value("%window_reads", 64, entry) != 0).raw, fit, unfit, True)
        entry.place(fit)

    def begin(self, continues: bool) -> None:
        """A block begins; ``continues``: nothing but the block before it leads there."""
        if not continues:
            self._offsets.clear()

    def access(
        self,
        base: Value,
        immediate: int,
        writes: bool,
        perform: Callable[[str], Value],
        missed: Callable[[], None],
        width: int,
    ) -> Value:
        """``perform(pointer)`` at guest address ``base`` + ``immediate``; ``missed()`` emits how to leave."""
        b = self._b
        within = self._within(base)
        limit = Value("%window_writes" if writes else "%window_reads", 64, b)
        inside, outside, known, join = (b.label() for _ in range(4))
        b.branch_if(within.ltu(limit).raw, inside, outside, True)
        b.place(inside)
        result = perform(b.pointer(b.pointer("%window", within), immediate))
        b.branch(join)
        with b.aside(outside):
            other = self._by_tlb(base + immediate, writes, perform, missed, width, known)
            b.branch(join)
        b.place(join)
        if result is other:
            return result
        merged = b.op(f"phi i{width} [ {result.raw}, %{inside} ], [ {other.raw}, %{known} ]")
        return Value(merged, width, b)

    def _by_tlb(
        self,
        address: Value,
        writes: bool,
        perform: Callable[[str], Value],
        missed: Callable[[], None],
        width: int,
        known: str,
    ) -> Value:
        """The same in the block ``known``, by what the TLB says."""
        b = self._b
        leave = b.label()
        tag = DTLB_ENTRY.offset["write_tag" if writes else "read_tag"]
        mask = -PAGE | (width // 8 - 1)
        found = b.op(f"call preserve_mostcc ptr @{_PROBE}(ptr %tlb, i64 {address.raw}, i64 {mask}, i64 {tag})")
        b.branch_if(b.op(f"icmp ne ptr {found}, null"), known, leave, True)
        b.place(leave)
        missed()
        b.place(known)
        return perform(found)

    def _within(self, base: Value) -> Value:
        """Offset of ``base`` in the window; what is outside is at least as large as the limits."""
        known = self._offsets.get(str(base.raw))
        if known is None:
            known = base - Value("%window_low", 64, self._b)
            self._offsets[str(base.raw)] = known
        return known


def _define_probe(module: Module) -> None:
    """``ptr @probe(regime, address, mask, tag's offset)``: host address by the TLB, or null. It is far from what is
    hot: registers stay as they are around its calls."""
    header = f"internal preserve_mostcc ptr @{_PROBE}(ptr %tlb, i64 %address, i64 %mask, i64 %tag)"
    b = Builder(module, header, "nounwind noinline cold")
    address = Value("%address", 64, b)
    entry = b.pointer("%tlb", (address >> (12 - 5)) & ((DTLB_ENTRIES - 1) << 5))
    hit, miss = b.label(), b.label()
    tag = b.load(b.pointer(entry, Value("%tag", 64, b)))
    b.branch_if((tag == (address & Value("%mask", 64, b))).raw, hit, miss, True)
    b.place(miss)
    b.terminate("ret ptr null")
    b.place(hit)
    b.terminate(f"ret ptr {b.to_pointer(address + b.load(b.pointer(entry, DTLB_ENTRY.offset['addend'])))}")
    module.define(b)
