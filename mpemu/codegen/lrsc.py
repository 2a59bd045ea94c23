"""Exact LR/SC: an SC fails if any other hart stored to the granule since the LR, ABA included.

In a tight sequence (tight.py) a comparison of values is exact, and this is all that its SC does; the inline forms of LR
and SC (handlers.py) do nothing else. For other LRs only pages on which somebody has executed one pay
(docs/design/0005). Each RAM page has a mark: UNMARKED; MARKING, or MARKING plus an epoch, while it is being marked;
MARKED. Each hashed 64-byte granule has a version word: even, or odd while a store to it is under way on a page whose
mark is not UNMARKED.

Marking: set MARKING, take a new epoch, put it in the mark, ask every hart to drop its write tags. A hart acknowledges
an epoch at a safepoint, which never lies between its look at a mark and the store that follows; an idle hart counts as
having acknowledged (lrsc_ack all ones) and catches up before it runs on. When all have, the page is MARKED: from then
on every store to it bumps its granule's version. An LR before that is no valid reservation; its SC fails, nobody waits.

A device that writes to RAM says so before and after it (dma_begins, dma_ends): before, the versions of the granules
are bumped, which ends reservations on them; until after, no LR makes one on these pages. So no SC falls between the
device's write and the word of it, and no hart waits for a device. A device counts itself in, fences, looks at marks and
bumps; an LR finds the mark, reads the version, then the count: if it misses the device, it has read before the bump.

Orders that matter: the mark is set before the epoch is bumped, so that whoever acknowledges the epoch finds the mark
when it looks again. The epoch is bumped before any ack is read, and an idle hart, waking up, publishes its ack, fences,
and then reads the epoch: one of the two sees the other.
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.core import Core
from mpemu.codegen.memory import (
    LOAD_ACCESS_FAULT,
    LOAD_MISALIGNED,
    READ,
    STORE_ACCESS_FAULT,
    STORE_MISALIGNED,
    WRITE,
    is_marked,
    page_mark,
    ram_offset,
)
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.codegen.spinlock import until_held
from mpemu.codegen.tlb import for_each
from mpemu.codegen.tlb_entries import MARKED_TAG, dtlb_entry
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, HART, LINES, PAGE, PAGE_SHIFT, VERSION_WORDS

UNMARKED, MARKED, MARKING = 0, 1, 2
"""A page's mark; what is above MARKING is MARKING plus the epoch that marks the page (epochs begin with 1)."""
GRANULE = 64
"""Bytes that share a version word."""
KICK_EPOCH = 2
"""Bit of the `kick` line: an epoch is to be acknowledged."""
DISTRUST = 16
"""LRs that go by versions after a tight sequence was left for another SC to the same address."""


def version_word(h: Native, offset: Value) -> str:
    """Version words of neighbouring granules lie in different host cache lines: harts that work on granules of their
    own, side by side, must not fight for a line here."""
    granule = offset.udiv(GRANULE)
    in_line, lines = 8, VERSION_WORDS // 8
    return h.machine("versions", ((granule & (lines - 1)) * in_line) | (granule.udiv(lines) & (in_line - 1)))


@native
def lock_version(h: Native, offset: Value) -> None:
    """Hold the version word of the granule at RAM ``offset`` (odd) until rmw_end."""
    word = version_word(h, offset)
    with until_held(h) as held:
        seen = h.get(word, order="monotonic")
        with h.when((seen & 1) == 0, likely=True):
            _, mine = h.b.compare_exchange(word, seen, seen | 1)
            with h.when(mine):
                held()
    h.s.locked_version = h.b.from_pointer(word)


@native
def begin_update(h: Native, offset: Value) -> None:
    """Before an atomic update of RAM at ``offset``, rmw_end behind it: on a marked page it holds the version."""
    h.s.locked_version = 0
    with h.when(is_marked(h, offset)):
        h.call("lock_version", offset)


@native
def acknowledge_epoch(h: Native) -> None:
    """At a safepoint: drop write tags if a page is being marked, and say so."""
    line = h.hart("lines", LINES.index("kick"))
    h.rmw("and", line, ~KICK_EPOCH & 0xFF, 8)
    epoch = h.get(h.machine("lrsc_epoch"), order="seq_cst")
    with h.when(epoch != h.s.lrsc_epoch):
        h.call("drop_write_tags")
        h.s.lrsc_epoch = epoch
    h.put(h.hart("lrsc_ack"), epoch, order="seq_cst")


@native
def become_idle(h: Native) -> None:
    """From here to become_busy this hart stores nothing."""
    h.put(h.hart("lrsc_ack"), ALL_ONES, order="seq_cst")


@native
def become_busy(h: Native) -> None:
    h.put(h.hart("lrsc_ack"), h.s.lrsc_epoch, order="seq_cst")
    h.full_fence()
    h.call("acknowledge_epoch")


@native
def all_acknowledged(h: Native, epoch: Value) -> None:
    """1 if every hart has dropped the write tags that it had before ``epoch``."""
    result = h.local(1)

    def look(i: Value) -> None:
        ack = h.get(h.hart("lrsc_ack", base=h.other_hart(i)), order="seq_cst")
        with h.when(ack.ltu(epoch)):
            result.set(0)

    for_each(h, h.m.harts, look)
    h.ret(result.get())


@native
def mark_page(h: Native, offset: Value) -> None:
    """Begin or go on marking the page at RAM ``offset``: 1 when it is marked."""
    mark = page_mark(h, offset)
    with h.when(h.get(mark, 32, "monotonic") == UNMARKED):
        h.b.compare_exchange(mark, Value(UNMARKED, 32), Value(MARKING, 32))
    with h.when(h.get(mark, 32, "seq_cst") == MARKING):  # whoever set it may have lost its core: anybody can go on
        epoch = h.rmw("add", h.machine("lrsc_epoch"), 1) + 1
        _, mine = h.b.compare_exchange(mark, Value(MARKING, 32), (epoch + MARKING).lo(32))
        with h.when(mine):

            def ask(i: Value) -> None:
                other = h.other_hart(i)
                with h.when(other != h.b.from_pointer("%st")):
                    h.rmw("or", h.hart("lines", LINES.index("kick"), base=other), KICK_EPOCH, 8)

            for_each(h, h.m.harts, ask)
    h.call("acknowledge_epoch")
    state = h.get(mark, 32, "acquire").zext(64)
    with h.when(state == MARKED):
        h.ret(1)
    with h.when(h.call("all_acknowledged", state - MARKING) == 0):
        h.call("spin_hint")  # whoever has to acknowledge may need this core
        h.ret(0)
    h.put(mark, MARKED, 32, order="seq_cst")
    h.count("pages_marked")
    h.ret(1)


def _ram_offset_of(h: Native, va: Value, size: Value, access: int, tag: str, bits: int, fault: int) -> Value:
    """Offset in RAM of ``va``, by the TLB if it knows (with or without ``bits``); the exception otherwise."""
    result = h.local(0)
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    known = h.get(h.b.pointer(entry, DTLB_ENTRY.offset[tag])) & ~bits
    with h.when(known == (va & -PAGE), likely=True):
        result.set(va + h.get(h.b.pointer(entry, DTLB_ENTRY.offset["addend"])) - h.m.ram)
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
    with h.when(h.get(page_mark(h, offset), 32, "acquire") != MARKED, likely=False):
        ready.set(h.call("mark_page", offset))
    with h.when(ready.get() != 0):
        word = version_word(h, offset)
        before = h.get(word, order="seq_cst")
        with h.when(((before & 1) == 0) & (h.get(_page_dma(h, offset), 32, "seq_cst") == 0)):
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

    def bump(granule: Value) -> None:
        h.call("lock_version", granule)
        h.call("rmw_end")

    def look(page: Value) -> None:
        with h.when(is_marked(h, page)):
            behind = page + PAGE
            start, stop = page.ltu(offset).mux(offset, page), behind.ltu(end).mux(behind, end)
            _each(h, start, stop - start, GRANULE, bump)

    _each(h, offset, size, PAGE, look)


@native
def dma_ends(h: Native, offset: Value, size: Value) -> None:
    """It has written what dma_begins announced. (Any thread may call this: nothing but the counts is touched.)"""
    _each(h, offset, size, PAGE, lambda page: h.rmw("sub", _page_dma(h, page), 1, 32))


assert HART.item["lrsc_ack"].kind == "u64"
