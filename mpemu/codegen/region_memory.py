"""Loads and stores in regions.

A region that is made for a window (window.py) compares addresses with its bounds, as far as they are not known to be
within them (bounds.py), and is left at those that are not. In others each access has a site of its own (sites.py),
which is not asked again for the page that the last access by the same base register was to. Where that fails a function
of the interpreter (refill.py) is asked, out of line; only if it has no answer either is the region left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mpemu.codegen.bounds import Check
from mpemu.codegen.ir import Builder
from mpemu.codegen.refill import call_data_address, data_address
from mpemu.codegen.sites import NO_SITE, site_place, within_site
from mpemu.codegen.tlb_entries import probe_data
from mpemu.codegen.window import RegionWindow
from mpemu.isa.value import Value
from mpemu.layout import PAGE
from mpemu.unit import Kind

Perform = Callable[[str], Value]
"""Emits an access at a host address; a store answers with what it stores."""


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
    """How a region reaches memory: with ``windowed`` by its regime's window. It ``stores``, or not.

    Its sites have the numbers from ``first_site`` on."""

    def __init__(self, b: Builder, symbols: dict[str, int], kind: Kind, stores: bool, first_site: int) -> None:
        self._b, self._symbols = b, symbols
        self._any_alignment = b.module.host.ANY_ALIGNMENT
        self.windowed = kind.windowed and self._any_alignment
        self._window = RegionWindow(stores)
        self._found: dict[str, _Found] = {}
        """By base register's value: the last access with it."""
        self._sites = itertools.count(first_site)

    def enter(self, entry: Builder, unfit: str) -> None:
        """At the region's entry; without the window that it is made for to ``unfit``."""
        if self.windowed:
            fit = entry.label()
            entry.branch_if(self._window.enter(entry, "%tlb").raw, fit, unfit, True)
            entry.place(fit)

    def passes(self, b: Builder, base: Value, check: Check) -> str:
        """1 bit: of a region with a window, whether this has what is checked, from ``base`` on."""
        span = check.span
        if check.start and check.end:
            fits = self._window.holds(b, base + span.low, span.size)
        elif check.start:
            fits = self._window.begins_before(b, base + span.low)
        else:
            fits = self._window.ends_behind(b, base, span.high)
        return str(fits.raw)

    def begin(self, continues: bool) -> None:
        """A block begins; ``continues``: nothing but the block before it leads there."""
        if not continues:
            self._found.clear()

    def access(
        self,
        base: Value,
        immediate: int,
        writes: bool,
        perform: Perform,
        missed: Callable[[], None],
        width: int,
        check: Check | None,
    ) -> Value:
        """``perform(pointer)``, for a load or store at guest address ``base`` + ``immediate``; ``missed()`` emits how
        to leave. ``check``: if there is a window, what has to be compared with it."""
        base = Value(base.raw, 64, self._b)  # pc may be computed anew wherever it is asked for
        if self.windowed:
            if check:
                self._check(base, check, missed)
            return perform(self._b.pointer(self._window.pointer(self._b, base), immediate))
        return self._access_by_site(base, immediate, writes, perform, missed, width)

    def _check(self, base: Value, check: Check, missed: Callable[[], None]) -> None:
        b = self._b
        inside, outside = b.label(), b.label()
        b.branch_if(self.passes(b, base, check), inside, outside, True)
        with b.aside(outside):
            missed()
        b.place(inside)

    def _access_by_site(
        self, base: Value, immediate: int, writes: bool, perform: Perform, missed: Callable[[], None], width: int
    ) -> Value:
        b = self._b
        inside, outside, known, join = (b.label() for _ in range(4))
        found = self._found.get(str(base.raw))
        distance: Value | None = None
        site = NO_SITE
        if found is not None and (found.writes or not writes):
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
