"""What the places of a region that access memory have found: *sites*.

Asking the TLB makes an access wait for an entry whose place depends on the address. But one instruction mostly goes
where it went the last time. A site is a stretch of guest addresses that may all be read, or all be written, and lie in
one piece in RAM; each place of a region where nothing is known of a register (stretches.py) is given one of its
regime's by number. The code compares the address with the site's bounds, and has its addend: nothing that it waits for
depends on the address.

Outside the site a function of the interpreter is asked (refill.py). If the TLB has the page, it makes that the site; a
page beside the site's end that continues it in RAM is added to it, and where a superpage's window is known the site is
that. So a site says nothing that the TLB has not said since its last flush, and it goes wherever an entry of the TLB
does: :func:`forget_sites`, :func:`forget_sites_of_page`.

Places of several regions may have the same number: then they get in each other's way, and nothing worse. For that
reads have the first half of the sites and writes the other, and the bounds leave room for the widest access.
"""

from __future__ import annotations

from typing import NamedTuple

from mpemu.codegen.blocks import BLOCK, LANES, VECTOR, constant_vector, each_block, fill_block
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.routines import Native
from mpemu.isa.hart import Isa
from mpemu.isa.value import Value
from mpemu.layout import PAGE, REGIME, SITES

PRESERVING = "preserve_mostcc"
"""Calling convention of what regions call out of line: nearly all registers are the caller's."""
FAR_FROM_END = 1 << 16
"""Bytes in front of where addresses end that no stretch has (stretches.py): sums with what is near don't wrap."""
ROOM = 7
"""Bytes by which the widest access exceeds the narrowest."""
_SIZE = 8 * SITES


def site_place(number: int, writes: bool) -> int:
    """Byte offset in REGIME.site_* of the site with a number (any; there are finitely many sites)."""
    half = SITES // 2
    return 8 * (number % half + half * writes)


class Site(NamedTuple):
    """Pointers to what is known of it: its first address, at how many from there an access may begin (0: it is not in
    use), and how far host addresses are off."""

    low: str
    size: str
    addend: str


def site_at(b: Builder, regime: str, place: Value | int) -> Site:
    """``regime``: pointer to the REGIME."""
    low, size, addend = (
        b.pointer(regime, place + REGIME.offset[name]) for name in ("site_low", "site_bytes", "site_addend")
    )
    return Site(low, size, addend)


def site_holds(h: Native, regime: Value, place: Value, address: Value, size: Value) -> Value:
    """1 bit: the site has ``size`` bytes from ``address`` on."""
    site = site_at(h.b, h.at(regime), place)
    start, length = h.get(site.low), h.get(site.size)
    offset, whole = address - start, length + ROOM
    return (length != 0) & offset.ltu(whole) & (offset + size).leu(whole)


def note_page(h: Native, regime: Value, place: Value, va: Value, addend: Value, writes: bool) -> None:
    """The TLB says that the page of ``va``, which is FAR_FROM_END, may be read, or written, with this addend."""
    site = site_at(h.b, h.at(regime), place)
    window = h.get(h.at(regime, REGIME.offset["window_writes" if writes else "window_reads"]))
    in_window = (va - h.get(h.at(regime, REGIME.offset["window_low"]))).ltu(window)
    with h.when(in_window | (h.get(site.addend) == addend), likely=False):
        arguments = ", ".join(f"i64 {value.raw}" for value in (regime, place, va, addend, window))
        h.b.line(f"call {PRESERVING} void @{_EXTEND}({arguments})")
    with h.otherwise():
        h.put(site.low, va & -PAGE)
        h.put(site.size, PAGE - ROOM)
        h.put(site.addend, addend)


_EXTEND = "extend_site"


def define_extend(module: Module, isa: Isa) -> None:
    """The rarer part of :func:`note_page`, where the site may become more than a page. A function, so that the other
    part needs few registers."""
    names = ("regime", "place", "va", "addend", "window")
    parameters = ", ".join(f"i64 %{name}" for name in names)
    b = Builder(module, f"dso_local {PRESERVING} void @{_EXTEND}({parameters})", "nounwind noinline")
    h = Native(b, isa, _EXTEND)
    regime, place, va, addend, window = (Value(f"%{name}", 64, b) for name in names)
    site = site_at(b, h.at(regime), place)
    window_low, window_host = (h.get(h.at(regime, REGIME.offset[name])) for name in ("window_low", "window_host"))
    reaches_end = (window_low + window + FAR_FROM_END).leu(window_low)
    # the page table may have been changed since, without a fence: then the TLB may know some pages anew, the window not
    is_there = (va - window_low).ltu(window) & (window_host - window_low == addend)
    with h.when(is_there & ~reaches_end):
        h.put(site.low, window_low)
        h.put(site.size, window - ROOM)
        h.put(site.addend, addend)
        b.terminate("ret void")
    page, start, span = va & -PAGE, h.get(site.low), h.get(site.size)
    behind, before = page == start + (span + ROOM), page + PAGE == start
    with h.when((behind | before) & (span != 0) & (h.get(site.addend) == addend)):
        h.put(site.low, before.mux(page, start))
        h.put(site.size, span + PAGE)
        b.terminate("ret void")
    h.put(site.low, page)
    h.put(site.size, PAGE - ROOM)
    h.put(site.addend, addend)
    b.terminate("ret void")
    module.define(b)


def forget_sites(h: Native, regime: Value) -> None:
    fill_block(h, site_at(h.b, h.at(regime), 0).size, _SIZE, 0)


def forget_sites_of_page(h: Native, regime: Value, va: Value) -> None:
    """Drop the sites that have any of the page of ``va``."""
    b = h.b
    page = b.op(f"insertelement {VECTOR} undef, i64 {(va & -PAGE).raw}, i32 0")
    page = b.op(f"shufflevector {VECTOR} {page}, {VECTOR} undef, <{LANES} x i32> zeroinitializer")

    def look(offset: Value) -> None:
        site = site_at(b, h.at(regime), offset)
        starts, sizes = (b.op(f"load {VECTOR}, ptr {pointer}, align 8") for pointer in (site.low, site.size))
        distance = b.op(f"sub {VECTOR} {page}, {starts}")
        has = b.op(f"icmp ult {VECTOR} {distance}, {sizes}")  # sites of pages begin with a page
        b.line(
            f"store {VECTOR} {b.op(f'select <{LANES} x i1> {has}, {VECTOR} {constant_vector(0)}, {VECTOR} {sizes}')}, "
            f"ptr {site.size}, align 8"
        )

    each_block(h, _SIZE, look)


assert PAGE - ROOM > 0 and _SIZE % BLOCK == 0
