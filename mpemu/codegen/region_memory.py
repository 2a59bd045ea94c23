"""Loads and stores in regions.

A region that is made for a window (window.py) compares addresses with its bounds, others with the bounds of stretches
that registers point to (stretches.py): as far as they are not known to be within them (bounds.py). Atomics ask the TLB,
as does everything where the host can't load and store without regard to alignment; what that lacks a function of the
interpreter is asked for (refill.py), out of line. At what remains the region is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from mpemu.codegen.bounds import Check
from mpemu.codegen.ir import Builder
from mpemu.codegen.refill import call_data_address, data_address
from mpemu.codegen.stretches import RegionStretches, Walk
from mpemu.codegen.tlb_entries import probe_data
from mpemu.codegen.window import RegionWindow
from mpemu.isa.value import Value
from mpemu.unit import Kind

Perform = Callable[[str], Value]
"""Emits an access at a host address; a store answers with what it stores."""


class RegionMemory:
    """How a region reaches memory: with ``windowed`` by its regime's window; if it ``is_bounded`` without asking the
    TLB. It ``stores``, or not. Its sites have the numbers from ``first_site`` on."""

    def __init__(self, b: Builder, symbols: dict[str, int], kind: Kind, stores: bool, first_site: int) -> None:
        self._b, self._symbols = b, symbols
        self.is_bounded = b.module.host.ANY_ALIGNMENT
        self.windowed = kind.windowed and self.is_bounded
        self._window = RegionWindow(b, stores)
        self._stretches = RegionStretches(b, symbols)
        self._sites = itertools.count(first_site)

    def enter(self, entry: Builder, unfit: str) -> None:
        """At the region's entry; without the window that it is made for to ``unfit``."""
        if self.windowed:
            fit = entry.label()
            entry.branch_if(self._window.enter(entry, "%tlb").raw, fit, unfit, True)
            entry.place(fit)

    def check(
        self, register: int, base: Value, check: Check, missed: Callable[[], None], walk: Walk | None = None
    ) -> None:
        """See that what is checked is so of ``register``, which holds ``base``, or ``missed()``. ``walk``: the page of
        that access may be walked for."""
        if self.windowed:
            self._window.check(base, check, missed)
        else:
            self._stretches.check(register, base, check, next(self._sites), missed, walk)

    def fits(self, register: int, base: Value, check: Check) -> Value:
        """1 bit: what is checked is so, as far as is known here. ``check`` is not anew, with paging."""
        if self.windowed:
            return self._window.passes(base, check)
        return self._stretches.stays(register, base, check)

    def moved(self, target: int, source: int) -> None:
        """Of register ``target`` is known from now on what is of ``source``, of which it is a constant off."""
        if not self.windowed:
            self._stretches.move(target, source)

    def access(
        self,
        register: int,
        base: Value,
        immediate: int,
        writes: bool,
        perform: Perform,
        missed: Callable[[], None],
        width: int,
        check: Check | None,
    ) -> Value:
        """``perform(pointer)``, for a load or store at guest address ``base`` + ``immediate``; ``base`` is what
        ``register`` holds. ``missed()`` emits how to leave. ``check``: what is not known to be in bounds so far."""
        base = Value(base.raw, 64, self._b)  # pc may be computed anew wherever it is asked for
        if self.windowed or (self.is_bounded and register):
            if check:
                # a walk for a store would make the page of a load dirty
                walk = Walk(immediate, width // 8) if writes == check.span.writes else None
                self.check(register, base, check, missed, walk)
            memory = self._window.pointer(base) if self.windowed else self._stretches.pointer(register, base)
            return perform(self._b.pointer(memory, immediate))
        return perform(self.pointer(base + immediate, width, writes, missed))

    def pointer(self, address: Value, width: int, writes: bool, missed: Callable[[], None]) -> str:
        """Host address of an access that must be aligned, by the TLB."""
        b = self._b
        inside, outside, known, join = (b.label() for _ in range(4))
        tag = "write_tag" if writes else "read_tag"
        fits, addend = probe_data(b, "%tlb", address, width // 8, tag)
        b.branch_if(fits.raw, inside, outside, True)
        b.place(inside)
        direct = b.to_pointer(address + b.load(addend))
        b.branch(join)
        with b.aside(outside):
            leave = b.label()
            function = b.pointer("%tbl", self._symbols[data_address(writes, width // 8)])
            found = call_data_address(b, function, address)
            b.branch_if(b.op(f"icmp ne ptr {found}, null"), known, leave, True)
            b.place(leave)
            missed()
            b.place(known)
            b.branch(join)
        b.place(join)
        return b.op(f"phi ptr [ {direct}, %{inside} ], [ {found}, %{known} ]")
