"""Where the inline TLBs keep what they know of a page, and how generated code asks them: handlers, regions, routines.

Both are direct-mapped by the lowest bits of the page's number; ``regime`` is a pointer to the REGIME that they belong
to. A tag is the address of the page. An access that is not aligned to its size differs from it in the low bits that are
compared with it, so it never hits: one comparison answers both questions.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder
from mpemu.isa.value import Value
from mpemu.layout import (
    DTLB_ENTRIES,
    DTLB_ENTRY,
    ITLB_ENTRIES,
    ITLB_ENTRY,
    PAGE,
    PAGE_SHIFT,
    REGIME,
    TLB2_ENTRIES,
    TLB2_ENTRY,
)

_SIZE_SHIFT = 5
"""log2 of the size of an entry of any table."""
MARKED_TAG = 1 << 11
"""Bit of a write tag: the page is marked for LR/SC. No inline probe matches it; slow stores are spared the walk."""


def dtlb_entry(b: Builder, regime: str, va: Value) -> str:
    """The DTLB_ENTRY that may know the page of ``va``."""
    return b.pointer(b.pointer(regime, REGIME.offset["dtlb"]), _place(va, DTLB_ENTRIES))


def itlb_entry(b: Builder, regime: str, va: Value) -> str:
    """The ITLB_ENTRY that may know the page of ``va``."""
    return b.pointer(b.pointer(regime, REGIME.offset["itlb"]), _place(va, ITLB_ENTRIES))


def tlb2_entry(b: Builder, table: str, va: Value) -> str:
    """The TLB2_ENTRY that may know the page of ``va``."""
    return b.pointer(table, _place(va, TLB2_ENTRIES))


def _place(va: Value, entries: int) -> Value:
    """In bytes."""
    return (va >> (PAGE_SHIFT - _SIZE_SHIFT)) & ((entries - 1) << _SIZE_SHIFT)


def probe_data(b: Builder, regime: str, va: Value, size: int, tag: str) -> tuple[Value, str]:
    """(1 bit: the page is known by ``tag`` and the access is aligned to its ``size``, pointer to the addend)."""
    entry = dtlb_entry(b, regime, va)
    known = b.load(b.pointer(entry, DTLB_ENTRY.offset[tag])) == (va & (-PAGE | (size - 1)))
    return known, b.pointer(entry, DTLB_ENTRY.offset["addend"])


def probe_code(b: Builder, regime: str, va: Value) -> tuple[Value, str]:
    """(1 bit: the code page of ``va`` is known, pointer to its delta)."""
    entry = itlb_entry(b, regime, va)
    known = b.load(b.pointer(entry, ITLB_ENTRY.offset["tag"])) == (va & -PAGE)
    return known, b.pointer(entry, ITLB_ENTRY.offset["delta"])


assert DTLB_ENTRY.size == ITLB_ENTRY.size == TLB2_ENTRY.size == 1 << _SIZE_SHIFT
