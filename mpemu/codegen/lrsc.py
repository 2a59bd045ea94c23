"""Exact LR/SC: an SC fails if any other hart stored to the granule since the LR, ABA included.

In a tight sequence (tight.py) a comparison of values is exact, and this is all that its SC does; the inline forms of LR
and SC (handlers.py) do nothing else. For other LRs only pages on which somebody has executed one of late pay
(docs/design/0005): stores to them change the version words of their granules (marks.py).

Such an LR sees to it that its page is marked (marking.py), then reads the granule's version, the page's mark, and the
value, in this order. It is a reservation if the version was even and the mark says that all stores go by versions. The
SC is a compare-exchange of that version to its odd neighbour, the store, and the next version.

Why no store lies between LR and SC, if the SC succeeds: one that goes by versions would have changed the version. One
that does not has looked at the mark before the page was marked; then the hart has acknowledged the epoch behind it, so
it lies before the mark, and before the value was read. Or it has looked after the page was unmarked; then the version
was bumped after the LR had seen the mark, so the SC, which succeeded, lies before that. Nor does it matter how often
the page has been unmarked and marked: versions only grow, and each unmarking bumps those of the whole page.

A device that writes to RAM says so before and after it (dma_begins, dma_ends): before, the versions of the granules
are bumped, which ends reservations on them; until after, no LR makes one on these pages. So no SC falls between the
device's write and the word of it, and no hart waits for a device. A device counts itself in, fences, looks at marks and
bumps; an LR reads the version, finds the mark, then reads the count: if it misses the device, the device finds the
mark, and bumps after that, unless the page was unmarked, which has bumped as well.
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.core import Core
from mpemu.codegen.marks import GRANULE, RESERVED, is_marked, may_be_reserved, page_mark, version_word
from mpemu.codegen.memory import (
    LOAD_ACCESS_FAULT,
    LOAD_MISALIGNED,
    READ,
    STORE_ACCESS_FAULT,
    STORE_MISALIGNED,
    WRITE,
    ram_offset,
)
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.codegen.tlb_entries import MARKED_TAG, dtlb_entry
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, PAGE, PAGE_SHIFT

DISTRUST = 16
"""LRs that go by versions after a tight sequence was left for another SC to the same address."""


def _ram_offset_of(h: Native, va: Value, size: Value, access: int, tag: str, bits: int, fault: int) -> Value:
    """Offset in RAM of ``va``, by the TLB if it knows (with or without ``bits``); the exception otherwise."""
    result = h.local(0)
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    tagged, page = h.b.pointer(entry, DTLB_ENTRY.offset[tag]), va & -PAGE
    known = h.get(tagged)
    with h.when((known & ~bits) == page, likely=True):
        result.set(va + h.get(h.b.pointer(entry, DTLB_ENTRY.offset["addend"])) - h.m.ram)
        if bits:
            with h.when((known != page) & ~is_marked(h, result.get())):
                h.put(tagged, page)
    with h.otherwise():
        offset, is_ram = ram_offset(h, h.call("translate", va, access, size))
        with h.when(~is_ram):
            h.trap(fault, va)
        filled: Value | int = bits
        if bits:  # only a page that is marked may be entered as one
            filled = is_marked(h, offset).mux(Value(bits, 64), 0)
        h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset[tag], filled)
        result.set(offset)
    return result.get()


def note_tight(h: Core, due: Value, address: Value, value: Value) -> None:
    """The LR of a tight sequence (tight.py) read ``value`` at host ``address``; its SC is due at instret ``due``."""
    h.s.tight_due = due
    h.s.tight_word = address | _is_double(value.width // 8)
    h.s.tight_value = value.zext(64)


def tight_is_due(h: Core, now: Value, address: Value, size: int) -> Value:
    """1 bit: an SC at host ``address`` and instret ``now`` ends the tight sequence that the last LR began."""
    return (h.s.tight_due == now) & (h.s.tight_word == (address | _is_double(size)))


def end_tight_sequence(h: Native) -> None:
    """A trap: the SC that is due, if any, will fail. It has not left its path of its own accord: no distrust."""
    h.s.tight_word = 0


def _is_double(size: int) -> int:
    return size >> 3


@native
def load_reserved(h: Native, va: Value, size: Value, distance: Value) -> None:
    """LR: the value. It begins a tight sequence if ``distance`` is not 0; else a reservation if the page is marked."""
    with h.when((va & (size - 1)) != 0):
        h.trap(LOAD_MISALIGNED, va)
    h.s.reservation = ALL_ONES
    h.s.tight_due = 0
    offset = _ram_offset_of(h, va, size, READ, "read_tag", 0, LOAD_ACCESS_FAULT)
    where = h.at(h.m.ram, offset)
    tight = h.local((distance != 0).zext(64))
    with h.when(h.s.tight_distrust != 0):
        h.s.tight_distrust = h.s.tight_distrust - 1
        tight.set(0)
    with h.when(tight.get() != 0):
        due, address = h.s.instret + distance, h.m.ram + offset
        with h.when(size == 4):
            value = h.get(where, 32, "seq_cst")
            note_tight(h, due, address, value)
            h.ret(value.sext(64))
        value = h.get(where, 64, "seq_cst")
        note_tight(h, due, address, value)
        h.ret(value)
    ready = h.local(1)
    mark = page_mark(h, offset)
    with h.when(h.get(mark, 32, "acquire") != RESERVED, likely=False):
        ready.set(h.call("mark_page", offset))
    with h.when(ready.get() != 0):
        before = h.get(version_word(h, offset), order="seq_cst")
        marked = may_be_reserved(h.get(mark, 32, "seq_cst"))
        with h.when(((before & 1) == 0) & marked & (h.get(_page_dma(h, offset), 32, "seq_cst") == 0)):
            h.s.reservation = offset
            h.s.reservation_version = before
    with h.when(size == 4):
        h.ret(h.get(where, 32, "seq_cst").sext(64))
    h.ret(h.get(where, 64, "seq_cst"))


@native
def store_conditional(h: Native, va: Value, value: Value, size: Value) -> None:
    """SC: 0 on success."""
    with h.when((va & (size - 1)) != 0):
        h.trap(STORE_MISALIGNED, va)
    offset = _ram_offset_of(h, va, size, WRITE, "write_tag", MARKED_TAG, STORE_ACCESS_FAULT)
    reserved = h.s.reservation
    h.s.reservation = ALL_ONES
    with h.when(h.s.tight_due != 0):
        h.ret(h.call("end_tight", offset, value, size))
    with h.when(reserved != offset):
        h.ret(1)
    # The compare-exchange of the version succeeds only if nobody wrote the granule since the LR.
    word = version_word(h, offset)
    version = h.s.reservation_version
    _, mine = h.b.compare_exchange(word, version, version | 1)
    with h.when(~mine):
        h.ret(1)
    target = h.at(h.m.ram, offset)
    with h.when(size == 4):
        h.put(target, value.lo(32), order="monotonic")
    with h.otherwise():
        h.put(target, value, order="monotonic")
    h.put(word, version + 2, order="seq_cst")
    h.ret(0)


@native
def end_tight(h: Native, offset: Value, value: Value, size: Value) -> None:
    """SC where the last LR began a tight sequence: 0 if it is the one, and memory still holds what the LR returned."""
    address, reserved = h.m.ram + offset, h.s.tight_word
    h.s.tight_word = 0
    for width in (32, 64):
        with h.when(size == width // 8):
            due = (h.s.tight_due == h.s.instret) & (reserved == (address | _is_double(width // 8)))
            with h.when(due):
                h.call("begin_update", offset)
                _, stored = h.b.compare_exchange(h.at(address), h.s.tight_value.lo(width), value.lo(width))
                h.call("rmw_end")
                h.ret((~stored).zext(64))
    with h.when((reserved & -2) == address):  # this LR and this SC are a pair, but not by the expected path
        h.s.tight_distrust = DISTRUST
    h.ret(1)


@native
def reservation_lasts(h: Native) -> None:
    """1: there is a reservation, and nobody has been seen to write there (in a tight sequence: by the value)."""
    with h.when(h.s.tight_due != 0):
        word = h.s.tight_word
        with h.when(word == 0):
            h.ret(0)
        with h.when((word & 1) == 0):
            h.ret(h.get(h.at(word), 32, "monotonic") == h.s.tight_value.lo(32))
        h.ret(h.get(h.at(word - 1), order="monotonic") == h.s.tight_value)
    with h.when(h.s.reservation == ALL_ONES):
        h.ret(0)
    h.ret(h.get(version_word(h, h.s.reservation), order="monotonic") == h.s.reservation_version)


@native
def wait_on_reservation(h: Native, short: Value) -> None:
    """WRS: until the reservation is gone or an interrupt line rises, at most some twenty yields.

    1: the handler shall give the turn away, since in deterministic mode nobody else runs meanwhile.
    """
    turns = h.local(0)
    with h.loop() as done:
        with h.when(h.call("reservation_lasts") == 0):
            done()
        with h.when(h.get(h.hart("lines"), order="monotonic") != 0):
            done()
        with h.when(h.m.clock_mode == 2):
            h.ret(1)
        with h.when(turns.get() == 200):
            done()
        turns.set(turns.get() + 1)
        h.call("spin_hint")
    h.s.spins = 0


def _page_dma(h: Native, offset: Value) -> str:
    """Pointer to the count of devices that are writing to the page at RAM ``offset``."""
    return h.at(h.m.page_dma, (offset >> PAGE_SHIFT) << 2)


def _each(h: Native, offset: Value, size: Value, unit: int, body: Callable[[Value], object]) -> None:
    """``body(start)`` for the aligned units of RAM that ``size`` bytes (not 0) at ``offset`` lie in."""
    position = h.local(offset & -unit)
    with h.loop() as done:
        with h.when(position.get().geu(offset + size)):
            done()
        body(position.get())
        position.set(position.get() + unit)


@native
def dma_begins(h: Native, offset: Value, size: Value) -> None:
    """A device is about to write ``size`` bytes of RAM at ``offset``: end the reservations there."""
    _each(h, offset, size, PAGE, lambda page: h.rmw("add", _page_dma(h, page), 1, 32))
    h.full_fence()

    end = offset + size

    def look(page: Value) -> None:
        with h.when(is_marked(h, page)):
            behind = page + PAGE
            start, stop = page.ltu(offset).mux(offset, page), behind.ltu(end).mux(behind, end)
            _each(h, start, stop - start, GRANULE, lambda granule: h.call("bump_version", granule))

    _each(h, offset, size, PAGE, look)


@native
def dma_ends(h: Native, offset: Value, size: Value) -> None:
    """It has written what dma_begins announced. (Any thread may call this: nothing but the counts is touched.)"""
    _each(h, offset, size, PAGE, lambda page: h.rmw("sub", _page_dma(h, page), 1, 32))
