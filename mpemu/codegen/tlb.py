"""Native routines that drop translations and decoded code, and the one that finds the records of a code page."""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.blocks import each_block, fill_block, for_each
from mpemu.codegen.decoder import DECODE, NOWHERE
from mpemu.codegen.memory import FETCH, note_used, ram_offset
from mpemu.codegen.pool import place_of
from mpemu.codegen.records import IMM, RECORD, RECORD_PAGE, SLOTS
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.codegen.sites import forget_sites, forget_sites_of_page
from mpemu.codegen.tlb2 import forget_all, forget_page
from mpemu.codegen.tlb_entries import dtlb_entry, itlb_entry, probe_code
from mpemu.codegen.window import close_window, close_window_for_stores
from mpemu.isa.value import Value
from mpemu.layout import (
    CODE_PAGE,
    DTLB_ENTRIES,
    DTLB_ENTRY,
    HART,
    ITLB_ENTRIES,
    ITLB_ENTRY,
    OWN_HANDLERS,
    PAGE,
    PAGE_SHIFT,
    REGIME,
    REGIMES,
    Struct,
)

FETCH_ACCESS_FAULT = 1
REACHED_SIZE = 8 * CODE_PAGE.item["reached"].count


@native
def flush_regime(h: Native, regime: Value) -> None:
    """Forget everything in one regime's TLBs."""
    for item, size in (("dtlb", DTLB_ENTRIES * DTLB_ENTRY.size), ("itlb", ITLB_ENTRIES * ITLB_ENTRY.size)):
        fill_block(h, h.at(regime, REGIME.offset[item]), size, 0xFF)
    close_window(h, regime)
    forget_sites(h, regime)
    forget_all(h, regime)
    h.put(h.at(regime, REGIME.offset["used"]), 0)


def each_used_regime(h: Native, body: Callable[[Value, Value], None]) -> None:
    """``body(regime address, used)`` for the regimes that hold anything."""
    base = h.b.from_pointer(h.hart("regimes"))

    def one(i: Value) -> None:
        regime = base + i * REGIME.size
        used = h.get(h.at(regime, REGIME.offset["used"]))
        with h.when(used != 0):
            body(regime, used)

    for_each(h, REGIMES, one)


@native
def flush_tlb(h: Native) -> None:
    """SFENCE.VMA of all addresses, or anything cached from satp or PMP changed. Code is looked at again as well: guests
    that reuse a page for code (xv6) rely on the address-space switch for that."""
    h.s.code_generation = h.s.code_generation + 1

    def drop(regime: Value, used: Value) -> None:
        h.call("flush_regime", regime)

    each_used_regime(h, drop)


@native
def flush_code(h: Native) -> None:
    """FENCE.I: no jump may find a code page without comparing it with memory first, as it is from here on."""
    h.b.fence("acquire")
    h.s.code_generation = h.s.code_generation + 1

    def drop(regime: Value, used: Value) -> None:
        fill_block(h, h.at(regime, REGIME.offset["itlb"]), ITLB_ENTRIES * ITLB_ENTRY.size, 0xFF)

    each_used_regime(h, drop)


@native
def flush_page(h: Native, va: Value) -> None:
    """SFENCE.VMA of one address: its entries, and where superpages are cached every entry within the same one."""

    def drop(regime: Value, used: Value) -> None:
        close_window(h, regime)
        d, i = dtlb_entry(h.b, h.at(regime), va), itlb_entry(h.b, h.at(regime), va)
        h.put(h.b.pointer(d, DTLB_ENTRY.offset["read_tag"]), ALL_ONES)
        h.put(h.b.pointer(d, DTLB_ENTRY.offset["write_tag"]), ALL_ONES)
        h.put(h.b.pointer(i, ITLB_ENTRY.offset["tag"]), ALL_ONES)
        with h.when((used & 2) == 0):
            forget_sites_of_page(h, regime, va)
        with h.otherwise():
            forget_sites(h, regime)
            _flush_around(h, va, regime + REGIME.offset["dtlb"], DTLB_ENTRIES, DTLB_ENTRY, ("read_tag", "write_tag"))
            _flush_around(h, va, regime + REGIME.offset["itlb"], ITLB_ENTRIES, ITLB_ENTRY, ("tag",))

    each_used_regime(h, drop)
    forget_page(h, va)


def _flush_around(h: Native, va: Value, start: Value, count: int, entry: Struct, tags: tuple[str, ...]) -> None:
    """Drop every one of the ``count`` TLB entries from ``start`` on whose (super)page holds ``va``."""

    def look(n: Value) -> None:
        at = start + n * entry.size
        mask = h.get(h.at(at, entry.offset["size_mask"]))
        for name in tags:
            tag = h.at(at, entry.offset[name])
            with h.when(((h.get(tag) ^ va) & mask) == 0):
                h.put(tag, ALL_ONES)

    for_each(h, count, look)


@native
def drop_write_tags(h: Native) -> None:
    """A page has been marked for LR/SC: stores must find out, so no store may hit the TLB until it has looked again."""

    def drop(regime: Value, used: Value) -> None:
        start = regime + (REGIME.offset["dtlb"] + DTLB_ENTRY.offset["write_tag"])
        for_each(h, DTLB_ENTRIES, lambda n: h.put(h.at(start + n * DTLB_ENTRY.size), ALL_ONES))
        close_window_for_stores(h, regime)
        forget_sites(h, regime)
        forget_all(h, regime)

    each_used_regime(h, drop)


@native
def reset_records(h: Native) -> None:
    """The pool of record pages is full: start it anew."""
    pages = h.local(h.m.ram_size)
    for i in range(4):
        pages.set(pages.get() + h.get(h.machine("rom_size", i)))
    fill_block(h, h.at(h.s.page_index), ((pages.get() >> PAGE_SHIFT << 2) + 63) & -64, 0)
    h.s.record_next = 0
    h.call("flush_code")


@native
def same_page(h: Native, a: Value, b: Value) -> None:
    """1 if two pages of host memory hold the same bytes."""
    difference = h.local(0, 512)

    def compare(o: Value) -> None:
        x = h.b.load(h.at(a, o), 512, align=8)
        y = h.b.load(h.at(b, o), 512, align=8)
        difference.set(difference.get() | (x ^ y))

    each_block(h, PAGE, compare)
    h.ret(difference.get() == 0)


def copy_page(h: Native, target: str, source: Value) -> None:
    each_block(h, PAGE, lambda o: h.b.store(h.b.pointer(target, o), h.b.load(h.at(source, o), 512, align=8), align=8))


@native
def code_page(h: Native, host: Value, page: Value) -> None:
    """The records (their address) of the code page at host address ``host``, number ``page`` in the page index.

    Records stand for a copy of the page's bytes. The copy is compared with memory whenever the hart could have learned
    of a change (code_generation), so code is coherent exactly where the architecture says so.
    """
    slot = h.at(h.s.page_index, page << 2)
    with h.when(h.get(slot, 32) == 0):
        with h.when(h.s.record_next == h.s.record_pages):
            h.call("reset_records")
        number = h.s.record_next + 1
        h.s.record_next = number
        h.put(slot, number.lo(32))
        h.put(h.at(h.s.code_pages + (number - 1) * CODE_PAGE.size, CODE_PAGE.offset["source"]), 0)
        h.count("pages_decoded")
    number = h.get(slot, 32).zext(64) - 1
    records = h.s.records + number * RECORD_PAGE
    descriptor = h.s.code_pages + number * CODE_PAGE.size
    generation = h.at(descriptor, CODE_PAGE.offset["generation"])
    source = h.at(descriptor, CODE_PAGE.offset["source"])
    copy = descriptor + CODE_PAGE.offset["copy"]
    with h.when((h.get(source) == host) & (h.get(generation) == h.s.code_generation)):
        h.ret(records)
    h.put(generation, h.s.code_generation)
    with h.when(h.get(source) == host), h.when(h.call("same_page", host, copy) != 0):
        h.ret(records)
    h.put(source, host)
    copy_page(h, h.at(copy), host)
    fill_block(h, h.at(descriptor, CODE_PAGE.offset["reached"]), REACHED_SIZE, 0)
    fill_block(h, h.hart("own_record"), 8 * OWN_HANDLERS, 0)  # those of this page: what its records were is gone
    with h.when(number.ltu(h.s.record_high)):
        fill_block(h, h.at(records), RECORD_PAGE, 0)
    with h.otherwise():  # never used: zeros that need not even be in memory yet
        h.s.record_high = number + 1
    h.call("set_goto_record", records + SLOTS * RECORD)
    with h.when(h.s.translator != 0):
        h.call("use_known_regions", number)
    h.ret(records)


@native
def fetch_page(h: Native, va: Value) -> None:
    """Delta of the code page at ``va`` (see ITLB_ENTRY), entered in the ITLB. Traps if it can't be executed."""
    pa = h.call("translate", va, FETCH, 2)
    h.count("tlb_misses")
    offset, is_ram = ram_offset(h, pa)
    host, page = h.local(0), h.local(0)
    with h.when(is_ram, likely=True):
        host.set(h.m.ram + (offset & -PAGE))
        page.set(offset >> PAGE_SHIFT)
    with h.otherwise():
        first = h.local(h.m.ram_size >> PAGE_SHIFT)
        for i in range(4):
            rom_offset = pa - h.get(h.machine("rom_base", i))
            size = h.get(h.machine("rom_size", i))
            with h.when(rom_offset.ltu(size)):
                host.set(h.get(h.machine("rom_host", i)) + (rom_offset & -PAGE))
                page.set(first.get() + (rom_offset >> PAGE_SHIFT))
            first.set(first.get() + (size >> PAGE_SHIFT))
    with h.when(host.get() == 0):
        h.trap(FETCH_ACCESS_FAULT, va)
    delta = h.call("code_page", host.get(), page.get()) - ((va & -PAGE) << 3)
    entry = itlb_entry(h.b, h.at(h.s.regime), va)
    h.put(h.b.pointer(entry, ITLB_ENTRY.offset["tag"]), va & -PAGE)
    h.put(h.b.pointer(entry, ITLB_ENTRY.offset["delta"]), delta)
    h.put(h.b.pointer(entry, ITLB_ENTRY.offset["size_mask"]), -(Value(1, 64) << h.s.walk_shift))
    note_used(h)
    h.ret(delta)


@native
def fetch_halfword(h: Native, va: Value) -> None:
    """Two bytes of code as the decode cache has them; traps as a fetch does."""
    known, where = probe_code(h.b, h.at(h.s.regime), va)
    delta = h.local(h.get(where))
    with h.when(~known):
        delta.set(h.call("fetch_page", va))
    number, _ = place_of(h, delta.get() + ((va & -PAGE) << 3))
    copy = h.s.code_pages + number * CODE_PAGE.size + CODE_PAGE.offset["copy"]
    h.ret(h.get(h.at(copy, va & (PAGE - 1)), 16))


@native
def fetch_word(h: Native, pc: Value) -> None:
    """The instruction at ``pc``: 16 or 32 bits, the latter possibly from two pages."""
    low = h.call("fetch_halfword", pc)
    with h.when((low & 3) != 3):
        h.ret(low)
    h.ret(low | (h.call("fetch_halfword", pc + 2) << 16))


@native
def current_instruction(h: Native) -> None:
    """The bits of the instruction at pc, for tval; it was fetched, so this can't trap but in a race (then 0)."""
    word, status = h.call_status("fetch_word", h.s.pc)
    h.ret((status == 0).mux(word, 0))


@native
def straddling(h: Native, pc: Value) -> None:
    """Decode an instruction that begins in the last two bytes of a page into the hart's scratch records.

    The delta for which the scratch records have pc's address goes to HART.delta.
    """
    word = h.call("fetch_word", pc)
    scratch = h.b.from_pointer(h.hart("scratch"))
    with h.when((h.s.scratch_key != pc) | (h.s.scratch_word != word)):
        h.s.scratch_key = pc
        h.s.scratch_word = word
        h.call(DECODE, word, scratch, NOWHERE)
        h.call("set_goto_record", scratch + 2 * RECORD)
    h.s.delta = scratch - (pc << 3)


assert HART.item["scratch"].count >= 3 * RECORD
assert IMM + 8 == RECORD
