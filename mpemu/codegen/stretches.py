"""Where registers of a region point to, with paging: *stretches* of guest addresses that lie in RAM in one piece.

Without paging there is one window for all that a region accesses (window.py). With paging there is a stretch for each
register that is known to point into RAM: where it starts and ends, and how far host addresses are off the guest's, in
values of the function that move with the register. So, while a pointer stays within its stretch, an access costs
nothing, or a comparison with one end; what has to be compared is found by bounds.py as for windows.

Where nothing is known of a register, or it leaves its stretch, the stretch is that of a site (sites.py), which the
comparison has a number for. Outside of that a function of the interpreter is asked. It knows what the TLB knows; only
for the page of an access itself there is a walk, so that no accessed or dirty bit is set for what is merely likely.
What is known stays so while the region goes on: regions leave for instructions that change it, and other harts ask for
it by a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mpemu.codegen.bounds import Check
from mpemu.codegen.ir import Builder
from mpemu.codegen.refill import call_data_stretch, data_stretch
from mpemu.codegen.sites import ROOM, site_at, site_place
from mpemu.isa.value import Value


class Walk(NamedTuple):
    """The access that is made next: ``size`` bytes at the register's value + ``immediate``."""

    immediate: int
    size: int


class RegionStretches:
    """Of a region."""

    def __init__(self, b: Builder, symbols: dict[str, int]) -> None:
        self._b, self._symbols = b, symbols
        self._slots: dict[int, tuple[str, ...]] = {}

    def pointer(self, register: int, address: Value) -> str:
        """The host address of ``address``, which is in the stretch of ``register``."""
        return self._b.to_pointer(address + self._b.load(self._slot(register)[0]))

    def move(self, target: int, source: int) -> None:
        if target != source:
            for to, of in zip(self._slot(target), self._slot(source), strict=True):
                self._b.store(to, self._b.load(of))

    def check(
        self,
        register: int,
        base: Value,
        check: Check,
        number: int,
        missed: Callable[[], None],
        walk: Walk | None = None,
    ) -> None:
        """See that the span of ``check`` from ``base`` on is in the stretch of ``register``, or ``missed()``. It has
        the site with ``number``; ``walk``: the page of that access may be walked for."""
        b = self._b
        slots = self._slot(register)
        place = site_place(number, check.span.writes)
        if check.anew:
            inside, outside = self._compare_with_site(base, check, place)
            self._ask(base, check, place, missed, walk, outside, inside)
            b.place(inside)
            self._use(place, slots)
        else:
            inside, outside, found = b.label(), b.label(), b.label()
            b.branch_if(self.stays(register, base, check).raw, inside, outside, True)
            self._ask(base, check, place, missed, walk, outside, found)
            with b.aside(found):
                self._use(place, slots)
                b.branch(inside)
            b.place(inside)

    def stays(self, register: int, base: Value, check: Check) -> Value:
        """1 bit: a register that moves, in one direction, is still in its stretch. (Or it isn't for what has 8 bytes,
        where the stretch ends: then the site says.)"""
        _, start, size, end = (self._b.load(slot) for slot in self._slot(register))
        if check.start:
            return (base + check.span.low - start).ltu(size)
        return (base + max(check.span.high - (ROOM + 1), 0)).ltu(end)

    def _compare_with_site(self, base: Value, check: Check, place: int) -> tuple[str, str]:
        """(Label of what is to be placed if the site has the span, label where to go on if not)."""
        b = self._b
        inside, outside = b.label(), b.label()
        site = site_at(b, "%tlb", place)
        low, size = b.load(site.low), b.load(site.size)
        offset = base + check.span.low - low
        b.branch_if(offset.ltu(size).raw, inside, outside, True)
        if more := max(check.span.size - (ROOM + 1), 0):
            b.place(inside)
            inside = b.label()
            b.branch_if((offset + more).ltu(size).raw, inside, outside, True)
        return inside, outside

    def _ask(
        self,
        base: Value,
        check: Check,
        place: int,
        missed: Callable[[], None],
        walk: Walk | None,
        outside: str,
        found: str,
    ) -> None:
        """The block ``outside``, which makes the site have the span, and goes on at ``found``; or leaves."""
        b = self._b
        span = check.span
        with b.aside(outside):
            leave = b.label()
            function = b.pointer("%tbl", self._symbols[data_stretch(span.writes)])
            access, size = (walk.immediate - span.low + 1, walk.size) if walk else (0, 0)
            known = call_data_stretch(b, function, base + span.low, place, span.size, access, size)
            b.branch_if((known != 0).raw, found, leave, True)
            b.place(leave)
            missed()

    def _use(self, place: int, slots: tuple[str, ...]) -> None:
        """The site is the register's stretch from now on."""
        b = self._b
        low, size, addend = (b.load(item) for item in site_at(b, "%tlb", place))
        for slot, value in zip(slots, (addend, low, size, low + size), strict=True):
            b.store(slot, value)

    def _slot(self, register: int) -> tuple[str, ...]:
        """Addend, start, at how many addresses from there 8 bytes may begin, the end of those."""
        if register not in self._slots:
            self._slots[register] = tuple(self._b.alloca("i64") for _ in range(4))
        return self._slots[register]
