"""The *window* of a regime: one large stretch of guest addresses that lies in RAM as a whole.

The TLB knows pages; a window is the same for what is mapped in one piece: all of RAM where there is no paging, or a
superpage (a kernel's linear map; neighbouring superpages join). Regions that are made for regimes without paging work
by it: an access costs a subtraction and a comparison, and its host address is ``window_host`` - ``window_low`` off the
guest's; no table is looked at. With paging it is what sites (sites.py) may grow to.

Only the base register is compared, for every access with it: offsets of loads and stores have 12 bits, so the window
lacks MARGIN bytes at its start, and those and the widest access at its end. No guest address, however wild, passes the
comparison unless it is in RAM: that is what contains the guest. Everything else goes on to the TLB.

A window says what TLB entries say, for the same regime, and is dropped wherever those are: SFENCE.VMA, satp, PMP,
privilege by the regime itself. Stores do not go through it while any page is marked for LR/SC (marks.py), which
they have to notice; marking asks every hart to drop its write tags, and those drop this as well.
"""

from __future__ import annotations

from mpemu.codegen.routines import Native, native
from mpemu.isa.privileged import MPP_SHIFT, MPRV, Access
from mpemu.isa.value import Value
from mpemu.layout import REGIME

MARGIN = 2048
"""The most that an immediate subtracts; it adds one less."""
WIDEST = 8
"""Bytes of the widest access."""
SMALLEST_SHIFT = 21
"""log2 of the smallest superpage that is worth a window."""


def _item(h: Native, name: str) -> str:
    return h.at(h.s.regime, REGIME.offset[name])


@native
def open_window(h: Native, va: Value, offset: Value, access: Value) -> None:
    """The page of ``va``, at RAM ``offset``, has been translated for ``access``: is it part of something larger?"""
    bare = h.s.walk_bare != 0
    with h.when(~bare & h.s.walk_shift.ltu(SMALLEST_SHIFT)):
        h.ret(0)
    writes = access == Access.STORE
    with h.when(writes & (h.get(h.machine("marked_pages"), order="seq_cst") != 0)):
        h.ret(0)
    # of the page or, bare, of everything: what lies in RAM, as offsets
    size = Value(1, 64) << h.s.walk_shift
    in_page = va & (size - 1)
    below = h.local(bare.mux(offset, in_page))
    with h.when(below.get().gtu(offset)):
        below.set(offset)
    above = h.local(bare.mux(h.m.ram_size - offset, size - in_page))
    with h.when(above.get().gtu(h.m.ram_size - offset)):
        above.set(h.m.ram_size - offset)
    start, length = va - below.get(), below.get() + above.get()
    mstatus = h.s.mstatus
    priv = ((mstatus & MPRV) != 0).mux((mstatus >> MPP_SHIFT) & 3, h.s.priv)
    allowed = h.call("pmp_check", h.m.ram_base + offset - below.get(), length, access, priv)
    with h.when((allowed == 0) | length.leu(2 * MARGIN + WIDEST)):
        h.ret(0)
    host = h.m.ram + offset - below.get() + MARGIN
    h.put(_item(h, "window_bare"), h.s.walk_bare)
    h.call("enter_window", start + MARGIN, length - (2 * MARGIN + WIDEST), host, writes.zext(64))


@native
def enter_window(h: Native, low: Value, size: Value, host: Value, writes: Value) -> None:
    """Join [low, low + size), for reads or for writes, to the window if both are the same mapping side by side; else it
    is the window from now on."""
    old_low, old_host = h.get(_item(h, "window_low")), h.get(_item(h, "window_host"))
    reads_at, writes_at = REGIME.offset["window_reads"], REGIME.offset["window_writes"]
    mine = (writes != 0).mux(Value(writes_at, 64), reads_at)
    here, there = h.at(h.s.regime, mine), h.at(h.s.regime, Value(reads_at + writes_at, 64) - mine)
    had = h.get(here)
    gap = 2 * MARGIN + WIDEST
    with h.when((old_host - old_low) == (host - low)):
        inside = low - old_low
        with h.when(inside.leu(had + gap) & (had != 0)):  # in it, or directly behind it
            with h.when((inside + size).gtu(had)):
                h.put(here, inside + size)
            h.ret(0)
        with h.when((inside == 0) & (had == 0)):
            h.put(here, size)
            h.ret(0)
    with h.when((h.get(there) | had).gtu(size)):  # what is larger is worth more
        h.ret(0)
    h.put(there, 0)
    h.put(_item(h, "window_low"), low)
    h.put(_item(h, "window_host"), host)
    h.put(here, size)


def close_window(h: Native, regime: Value) -> None:
    for name in ("window_reads", "window_writes", "window_bare"):
        h.put(h.at(regime, REGIME.offset[name]), 0)
