"""The *window* of a regime: one large stretch of guest addresses that lies in RAM as a whole.

The TLB knows pages; a window is the same for what is mapped in one piece: all of RAM where there is no paging, or a
superpage (a kernel's linear map; neighbouring superpages join). Regions that are made for regimes without paging work
by it: a guest address is compared with its bounds, and the host address is ``window_host`` - ``window_low`` off that;
no table is looked at. What is compared may be several accesses at once (bounds.py), so there are limits by size.
With paging the window is what sites (sites.py) may grow to.

No guest address, however wild, passes the comparison unless it is in RAM: that is what contains the guest. At
everything else such a region is left.

A window says what TLB entries say, for the same regime, and is dropped wherever those are: SFENCE.VMA, satp, PMP,
privilege by the regime itself. Stores do not go through it while any page is marked for LR/SC (marks.py), which
they have to notice; marking asks every hart to drop its write tags, and those drop this as well.
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.bounds import FARTHEST, WIDEST, Check
from mpemu.codegen.ir import Builder
from mpemu.codegen.routines import Native, native
from mpemu.isa.privileged import MPP_SHIFT, MPRV, Access
from mpemu.isa.value import Value
from mpemu.layout import REGIME, WINDOW_LIMITS

SMALLEST_SHIFT = 21
"""log2 of the smallest superpage that is worth a window."""


class RegionWindow:
    """The window in a region, which looks at it when it is entered: what it is does not change before it is left.

    ``writes``: of what may be read and written; else of what may be read."""

    def __init__(self, b: Builder, writes: bool) -> None:
        self._b, self._writes = b, writes
        self._used: dict[str, int] = {}
        """Names of values, with the offsets of what they are in REGIME."""

    def enter(self, entry: Builder, regime: str) -> Value:
        """At the region's entry, when everything else of it has been made. 1 bit: there is a window without paging."""
        low, host = (entry.load(entry.pointer(regime, REGIME.offset[name])) for name in ("window_low", "window_host"))
        entry.line(f"%window = inttoptr i64 {(host - low).raw} to ptr")
        for name, offset in self._used.items():
            entry.line(f"{name} = load i64, ptr {entry.pointer(regime, offset)}, align 8")
        return entry.load(entry.pointer(regime, _of_size("limits", 0, self._writes))) != 0

    def pointer(self, address: Value) -> str:
        """The host address, if it is in the window."""
        return self._b.pointer("%window", address)

    def check(self, base: Value, check: Check, missed: Callable[[], None]) -> None:
        """See that what is checked of the span from ``base`` on is in the window, or ``missed()``."""
        b = self._b
        inside, outside = b.label(), b.label()
        b.branch_if(self.passes(base, check).raw, inside, outside, True)
        with b.aside(outside):
            missed()
        b.place(inside)

    def passes(self, base: Value, check: Check) -> Value:
        """1 bit."""
        span = check.span
        if check.start and check.end:
            return self._holds(base + span.low, span.size)
        return self._begins_before(base + span.low) if check.start else self._ends_behind(base, span.high)

    def _holds(self, address: Value, size: int) -> Value:
        """1 bit: ``size`` bytes from ``address`` on are in it. (Not of all that are: at RAM's start a ``size`` that is
        no power of 2 counts as one.)"""
        shift = _shift(size)
        start = address + (size - (1 << shift))
        return (start - self._low()).ltu(self._value("limits", shift))

    def _begins_before(self, address: Value) -> Value:
        """1 bit: that is in the window, or behind it."""
        return address.geu(self._low())

    def _ends_behind(self, address: Value, size: int) -> Value:
        """1 bit: ``size`` bytes from ``address`` on end in the window, or in front of it. (A size counts as above.)"""
        return address.leu(self._value("ends", _shift(size)))

    def _low(self) -> Value:
        self._used["%window_low"] = REGIME.offset["window_low"]
        return Value("%window_low", 64, self._b)

    def _value(self, what: str, shift: int) -> Value:
        name = f"%window_{what}_{shift}"
        self._used[name] = _of_size(what, shift, self._writes)
        return Value(name, 64, self._b)


def _shift(size: int) -> int:
    return max(size - 1, 0).bit_length()


def _of_size(what: str, shift: int, writes: bool) -> int:
    """Where in REGIME window_limits or window_ends of 2 ** ``shift`` bytes is."""
    assert 0 <= shift < WINDOW_LIMITS, f"there is no limit for 2 ** {shift} bytes"
    return REGIME.offset[f"window_{what}"] + 8 * (shift + WINDOW_LIMITS * writes)


# -- opening and closing it
def _item(h: Native, name: str) -> str:
    return h.at(h.s.regime, REGIME.offset[name])


@native
def open_window(h: Native, va: Value, offset: Value, access: Value) -> None:
    """The page of ``va``, at RAM ``offset``, has been translated for ``access``: is it part of something larger?

    A regime has paging or has none until it is flushed: one is for M-mode alone, satp changes with a flush, and what
    MPRV says with a change of context. So no window without paging is open where there is some."""
    bare = h.s.walk_bare != 0
    with h.when(~bare & h.s.walk_shift.ltu(SMALLEST_SHIFT)):
        h.ret(0)
    writes = access == Access.STORE
    is_marked = h.get(h.machine("marked_pages"), order="seq_cst") != 0
    with h.when(bare):
        h.call("open_bare_window", va - offset, is_marked.zext(64))
        h.ret(0)
    with h.when(writes & is_marked):
        h.ret(0)
    # of the superpage, what lies in RAM, as offsets
    size = Value(1, 64) << h.s.walk_shift
    in_page = va & (size - 1)
    below = h.local(in_page)
    with h.when(below.get().gtu(offset)):
        below.set(offset)
    above = h.local(size - in_page)
    with h.when(above.get().gtu(h.m.ram_size - offset)):
        above.set(h.m.ram_size - offset)
    length = below.get() + above.get()
    start = offset - below.get()
    with h.when(_allowed(h, start, length, access) == 0):
        h.ret(0)
    h.call("join_window", va - below.get(), length, h.m.ram + start, writes.zext(64))


def _allowed(h: Native, offset: Value | int, length: Value, access: Value | int) -> Value:
    """By PMP: not 0 if so, of RAM from ``offset`` on."""
    mstatus = h.s.mstatus
    priv = ((mstatus & MPRV) != 0).mux((mstatus >> MPP_SHIFT) & 3, h.s.priv)
    return h.call("pmp_check", h.m.ram_base + offset, length, access, priv)


@native
def open_bare_window(h: Native, low: Value, marked: Value) -> None:
    """All of RAM, from guest address ``low`` on, for what PMP allows; with any page ``marked`` not for writes."""
    with h.when((h.get(_item(h, "window_bare")) != 0) & ((marked != 0) | (h.get(_item(h, "window_writes")) != 0))):
        h.ret(0)
    reads = (_allowed(h, 0, h.m.ram_size, Access.LOAD) != 0).mux(h.m.ram_size, 0)
    writes = ((marked == 0) & (_allowed(h, 0, h.m.ram_size, Access.STORE) != 0)).mux(h.m.ram_size, 0)
    for name, value in (
        ("low", low),
        ("host", h.m.ram),
        ("reads", reads),
        ("writes", writes),
        ("bare", (reads != 0).zext(64)),
    ):
        h.put(_item(h, f"window_{name}"), value)
    for shift in range(WINDOW_LIMITS):
        for stores, size in ((False, reads), (True, reads & writes)):
            more = (1 << shift) - 1
            for what, value in (("limits", (size == 0).mux(size, size - more)), ("ends", low + size - (more + 1))):
                h.put(h.at(h.s.regime, _of_size(what, shift, stores)), value)


@native
def join_window(h: Native, low: Value, size: Value, host: Value, writes: Value) -> None:
    """Join [low, low + size), for reads or for writes, to the window if both are the same mapping side by side; else it
    is the window from now on."""
    old_low, old_host = h.get(_item(h, "window_low")), h.get(_item(h, "window_host"))
    reads_at, writes_at = REGIME.offset["window_reads"], REGIME.offset["window_writes"]
    mine = (writes != 0).mux(Value(writes_at, 64), reads_at)
    here, there = h.at(h.s.regime, mine), h.at(h.s.regime, Value(reads_at + writes_at, 64) - mine)
    had = h.get(here)
    with h.when((old_host - old_low) == (host - low)):
        inside = low - old_low
        with h.when(inside.leu(had) & (had != 0)):  # in it, or directly behind it
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
    for name in ("window_reads", "window_bare"):
        h.put(h.at(regime, REGIME.offset[name]), 0)
    _refuse(h, regime, writes=False)
    close_window_for_stores(h, regime)


def close_window_for_stores(h: Native, regime: Value) -> None:
    h.put(h.at(regime, REGIME.offset["window_writes"]), 0)
    _refuse(h, regime, writes=True)


def _refuse(h: Native, regime: Value, writes: bool) -> None:
    """No region enters any more. (None is inside, where the window is closed.)"""
    h.put(h.at(regime, _of_size("limits", 0, writes)), 0)


assert max(WIDEST, FARTHEST) <= 1 << (WINDOW_LIMITS - 1)
