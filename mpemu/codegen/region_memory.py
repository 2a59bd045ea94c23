"""Loads and stores in regions: through the window if the region is made for one (window.py), else through a site of
their own (sites.py), which is not asked again for the page that the last access by the same base register was to.

Where that fails a function of the interpreter (refill.py) is asked, out of line. Only if it has no answer either is the
region left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mpemu.codegen.ir import Builder
from mpemu.codegen.refill import call_data_address, data_address
from mpemu.codegen.sites import NO_SITE, site_place, within_site
from mpemu.codegen.tlb_entries import probe_data
from mpemu.isa.value import Value
from mpemu.layout import PAGE, REGIME
from mpemu.unit import Kind

Perform = Callable[[str], Value]
"""Emits an access at a host address; a store answers with what it stores."""

_ITEMS = ("window_low", "window_host", "window_reads", "window_writes")


class _Found:
    """The page that an access at ``base`` + ``immediate`` was to, ``distance`` bytes from guest to host. It stays so
    while the region goes on: regions leave for instructions that change it, and other harts ask for it by a line."""

    def __init__(self, base: Value, immediate: int, distance: Value, writes: bool) -> None:
        self.distance, self.writes = distance, writes
        self._base, self._immediate = base, immediate
        self._in_page: Value | None = None

    def reaches(self, immediate: int, size: int) -> Value:
        """1 bit: ``size`` bytes at ``base`` + ``immediate`` are on that page."""
        if self._in_page is None:
            self._in_page = (self._base + self._immediate) & (PAGE - 1)
        return (self._in_page + (immediate - self._immediate)).leu(PAGE - size)


class RegionMemory:
    """How a region reaches memory. With ``windowed`` the bounds of its regime's window are values of the function.

    Its sites have the numbers from ``first_site`` on."""

    def __init__(self, b: Builder, symbols: dict[str, int], kind: Kind, first_site: int) -> None:
        self._b, self._symbols = b, symbols
        self._any_alignment = b.module.host.ANY_ALIGNMENT
        self.windowed = kind.windowed and self._any_alignment
        self._offsets: dict[str, Value] = {}
        self._found: dict[str, _Found] = {}
        """By base register's value: the last access with it."""
        self._sites = itertools.count(first_site)

    def enter(self, entry: Builder, unfit: str) -> None:
        """At the region's entry; without the window that it is made for to ``unfit``."""
        if not self.windowed:
            return
        for name in _ITEMS:
            pointer = entry.pointer("%tlb", REGIME.offset[name])
            entry.line(f"%{name} = load i64, ptr {pointer}, align 8")
        delta = Value("%window_host", 64, entry) - Value("%window_low", 64, entry)
        entry.line(f"%window = inttoptr i64 {delta.raw} to ptr")
        fit = entry.label()
        entry.branch_if((Value("%window_reads", 64, entry) != 0).raw, fit, unfit, True)
        entry.place(fit)

    def begin(self, continues: bool) -> None:
        """A block begins; ``continues``: nothing but the block before it leads there."""
        if not continues:
            self._offsets.clear()
            self._found.clear()

    def access(
        self, base: Value, immediate: int, writes: bool, perform: Perform, missed: Callable[[], None], width: int
    ) -> Value:
        """``perform(pointer)``, for a load or store at guest address ``base`` + ``immediate``; ``missed()`` emits how
        to leave."""
        b = self._b
        inside, outside, known, join = (b.label() for _ in range(4))
        base = Value(base.raw, 64, b)  # pc may be computed anew wherever it is asked for
        found = self._found.get(str(base.raw))
        distance: Value | None = None
        site = NO_SITE
        if self.windowed:
            within = self._within(base)
            fits = within.ltu(Value("%window_writes" if writes else "%window_reads", 64, b))
            b.branch_if(fits.raw, inside, outside, True)
            b.place(inside)
            result = perform(b.pointer(b.pointer("%window", base), immediate))
        elif found is not None and (found.writes or not writes):
            b.branch_if(found.reaches(immediate, width // 8).raw, inside, outside, True)
            b.place(inside)
            result = perform(b.pointer(b.to_pointer(base + found.distance), immediate))
        else:
            address = base + immediate
            if self._any_alignment:
                site = site_place(next(self._sites), writes)
                fits, addend = within_site(b, "%tlb", site, address)
            else:
                fits, addend = self._probe(address, width, writes)
            b.branch_if(fits.raw, inside, outside, True)
            b.place(inside)
            distance = b.load(addend)
            result = perform(b.pointer(b.to_pointer(base + distance), immediate))
        b.branch(join)
        with b.aside(outside):
            address = base + immediate
            pointer = self._ask(address, width, writes, self._any_alignment, site, missed, known)
            other = perform(pointer)
            if distance is not None:
                other_distance = b.from_pointer(pointer) - address
            b.branch(join)
        b.place(join)
        if distance is not None and self._any_alignment:
            merged = b.op(f"phi i64 [ {distance.raw}, %{inside} ], [ {other_distance.raw}, %{known} ]")
            self._found[str(base.raw)] = _Found(base, immediate, Value(merged, 64, b), writes)
        if result is other:  # what a store has stored
            return result
        merged = b.op(f"phi i{width} [ {result.raw}, %{inside} ], [ {other.raw}, %{known} ]")
        return Value(merged, width, b)

    def pointer(self, address: Value, width: int, writes: bool, missed: Callable[[], None]) -> str:
        """Host address of an atomic access, which must be aligned."""
        b = self._b
        inside, outside, known, join = (b.label() for _ in range(4))
        fits, addend = self._probe(address, width, writes)
        b.branch_if(fits.raw, inside, outside, True)
        b.place(inside)
        direct = b.to_pointer(address + b.load(addend))
        b.branch(join)
        with b.aside(outside):
            found = self._ask(address, width, writes, False, NO_SITE, missed, known)
            b.branch(join)
        b.place(join)
        return b.op(f"phi ptr [ {direct}, %{inside} ], [ {found}, %{known} ]")

    def _within(self, base: Value) -> Value:
        """Offset of ``base`` in the window; what is outside is at least as large as the limits."""
        known = self._offsets.get(str(base.raw))
        if known is None:
            known = base - Value("%window_low", 64, self._b)
            self._offsets[str(base.raw)] = known
        return known

    def _probe(self, address: Value, width: int, writes: bool) -> tuple[Value, str]:
        """(1 bit: the TLB knows the page and the access is aligned, pointer to the addend)."""
        return probe_data(self._b, "%tlb", address, width // 8, "write_tag" if writes else "read_tag")

    def _ask(
        self,
        address: Value,
        width: int,
        writes: bool,
        any_alignment: bool,
        site: int,
        missed: Callable[[], None],
        known: str,
    ) -> str:
        """Host address, in the block ``known``; where it can't be had the region is left."""
        b = self._b
        leave = b.label()
        function = b.pointer("%tbl", self._symbols[data_address(writes, width // 8, any_alignment)])
        found = call_data_address(b, function, address, site)
        b.branch_if(b.op(f"icmp ne ptr {found}, null"), known, leave, True)
        b.place(leave)
        missed()
        b.place(known)
        return found
