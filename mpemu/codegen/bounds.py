"""Which addresses a region has to compare with the bounds of memory, and where.

Memory is *one* stretch of addresses, the regime's window (window.py), or one for each register that points into some
(stretches.py). Loads and stores by a register whose distance from an address that has been compared is known need no
comparison of their own: a stretch is an interval, so of every register it is enough to know a :class:`Span` of
distances from it that are in there. Three passes over the region's blocks, each a data flow of guest registers:

- backwards, *ahead*: the span that some path goes on to access by a register's value, in this turn of a loop or
  the next. A comparison is made for all of it at once: a function's frame, the fields of a structure.
- backwards, *surely*: by which registers every path through a loop accesses memory. Loops want those registers compared
  before they are entered, so that it is not in every turn; so do other places where the region is entered. What they
  want is the *guard* of the block, and holds there whoever comes.
- forwards, *known*: what has been compared on all paths. Where an access is not within that, it is compared before it.

Copies and sums with constants (a stack pointer that moves by a frame) carry what is known along. Where several turns of
a loop follow one another (unrolling.py), the guard of the first wants what all of them go on to access. If it doesn't
hold the loop itself goes on; so what is compared within the turns is no more than in that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mpemu.codegen.facts import facts
from mpemu.codegen.records import Variant
from mpemu.codegen.shape import Shape, Step
from mpemu.codegen.unrolling import Blocks, Spot
from mpemu.isa.profiles import IsaSpec
from mpemu.unit import OPTIMISED

WIDEST = 2048
"""Bytes of a span that is compared at once, at most, where there is one stretch."""
WIDEST_OF_MANY = 64
"""The same where there are many, which may end with every page."""
WIDEST_OF_TURNS = 512
"""The same for several turns of a loop, in front of which nothing but a comparison is lost."""
NARROWEST = 8
"""The same where nothing but the access itself shall be compared."""
FARTHEST = 4096
"""Bytes between a register's value and what is known of it, at most: much less than there are below RAM and above it,
so that no sum of both wraps around."""
ROUNDS = 4
"""Over all blocks, in which knowledge may change. (Where it still does then, only the guard is known.)"""


class Span(NamedTuple):
    """Bytes at a register's value + ``low`` ... + ``high`` - 1. ``writes``: for stores, too (with many stretches).

    Known of a register: what is at + ``low`` is not in front of memory, what is before + ``high`` is not behind it.
    That says something even if ``low`` is not below ``high``."""

    low: int
    high: int
    writes: bool = False

    @property
    def size(self) -> int:
        return self.high - self.low

    def holds(self, other: Span) -> bool:
        return self.low <= other.low and other.high <= self.high and self.writes >= other.writes

    def hull(self, other: Span) -> Span:
        return Span(min(self.low, other.low), max(self.high, other.high), self.writes or other.writes)

    def common(self, other: Span) -> Span:
        return Span(max(self.low, other.low), min(self.high, other.high), self.writes and other.writes)

    def moved(self, distance: int) -> Span:
        return Span(self.low + distance, self.high + distance, self.writes)

    @property
    def proper(self) -> Span:
        """It, or what has a byte and implies it."""
        low, high = min(self.low, self.high), max(self.low, self.high)
        return Span(low, max(high, low + 1), self.writes)

    @property
    def is_near(self) -> bool:
        return max(abs(self.low), abs(self.high)) <= FARTHEST


Spans = Mapping[int, Span]
"""By register."""


class Check(NamedTuple):
    """What of a ``span`` from a register's value on has to be compared: its ``start`` with the start of its stretch,
    its ``end`` with the end. ``anew``: both, and so far no stretch is known that would do."""

    span: Span
    start: bool
    end: bool
    anew: bool


class _Effect(NamedTuple):
    """Of the step at ``at``: it accesses ``span`` by register ``base``, if any (``writes``: it stores); then
    ``written``, if not 0, is written, with register ``source`` + ``offset`` if that is not 0."""

    at: int
    base: int
    span: Span | None
    writes: bool
    written: int
    source: int
    offset: int


def _effect(isa: IsaSpec, step: Step, one: bool, bounded: bool) -> _Effect:
    operands = step.operands
    known = facts(isa, Variant(step.insn, step.length))
    base, span, writes = 0, None, False
    if known.access and bounded:
        register, offset = known.access.terms
        base, low = operands[register], operands[offset]
        writes = known.access.writes
        span = Span(low, low + known.access.size, writes and not one)
    written, source, distance = operands["rd"] if "rd" in known.writes else 0, 0, 0
    if known.sum:
        first, second = known.sum
        if second == "imm":
            source, distance = operands[first], operands[second]
        elif 0 in (operands[first], operands[second]):
            source = operands[first] or operands[second]
    return _Effect(step.at, base, span, writes, written, source, distance)


class Bounds:
    """Of the ``blocks`` of a region. ``bounded``: it is to compare addresses; ``one``: there is one stretch.

    ``checks``: by step, what has to be compared, by its base register, before it accesses memory; steps that are not
    there need nothing. ``moves``: by step, (register that is written, the one that it is a constant off), where
    something is known of that. ``guards``: by block, what is known whenever it begins. ``stores``: whether any access
    does.
    """

    def __init__(self, region: Shape, blocks: Blocks, isa: IsaSpec, bounded: bool, one: bool) -> None:
        self._region, self._blocks, self._one = region, blocks, one
        many = WIDEST_OF_MANY if region.kind.tier == OPTIMISED else NARROWEST
        self._widest, self._widest_of_turns = (WIDEST, WIDEST) if one else (many, WIDEST_OF_TURNS)
        self._flow = {
            leader: [_effect(isa, step, one, bounded) for step in self._steps(leader)] for leader in region.leaders
        }
        places = [effect.at for effects in self._flow.values() for effect in effects]
        assert len(places) == len({*places}), "a step is in two blocks"  # what one knows the other doesn't
        self.stores = any(effect.writes for effects in self._flow.values() for effect in effects)
        _, self._wanted = self._ahead([Spot(leader) for leader in region.leaders])
        ahead: dict[Spot, Spans] = {}
        self.guards: dict[Spot, dict[int, Span]] = {}
        for scope, leaders in self._find_scopes().items():
            spans, _ = self._ahead(scope)
            surely = self._surely(scope, False)
            stored = surely if one else self._surely(scope, True)
            for leader in leaders:
                ahead[leader] = spans[leader]
                self.guards[leader] = {
                    base: span._replace(writes=span.writes and stored[leader] >> base & 1 == 1)
                    for base, span in spans[leader].items()
                    if surely[leader] >> base & 1
                }
        self._known_behind: dict[Spot, Spans] = {}
        self.checks: dict[Spot, Check] = {}
        self.moves: dict[Spot, tuple[int, int]] = {}
        self._find_known()
        if self._guard_what_stays(ahead):
            self._find_known()
        while self._drop_strangers():
            self._find_known()

    def unguarded(self, leader: Spot, target: Spot) -> Iterator[tuple[int, Check]]:
        """By register: what the guard of the block at ``target`` wants, and is not known behind that at ``leader``."""
        known = self._known_behind[leader]
        for register, span in self.guards.get(target, {}).items():
            if check := _check(known.get(register), span):
                yield register, check

    def _steps(self, leader: int) -> Iterable[Step]:
        """What of a block is executed in the region."""
        for step in self._region.block(leader):
            if (step.at in self._region.spins and not step.is_branch) or not self._region.fast(step):
                return
            yield step

    def _find_scopes(self) -> dict[tuple[Spot, ...], list[Spot]]:
        """Which blocks have guards: heads of loops, also of unrolled ones, and others at which the region is entered.
        By the blocks that are looked at for what a guard wants: the loop around, or the block alone."""
        loops = []
        for head in self._region.leaders:
            back = [before for before in self._region.predecessors[head] if before >= head]
            if back:
                loops.append((max(back) - head, head, max(back)))
        loops.sort()
        found: dict[tuple[Spot, ...], list[Spot]] = {}
        for leader in {head for _, head, _ in loops} | set(self._region.entries):
            _, first, last = next((loop for loop in loops if loop[1] <= leader <= loop[2]), (0, leader, leader))
            scope = tuple(Spot(place) for place in self._region.leaders if first <= place <= last)
            found.setdefault(scope, []).append(Spot(leader))
        for loop in self._blocks.unrolled.values():
            found[tuple(self._blocks.copies(loop))] = [Spot(loop.head, 1)]
        return found

    def _guard_what_stays(self, ahead: Mapping[Spot, Spans]) -> bool:
        """Where the region is entered, what all other ways to that place know shall hold, too."""
        changed = False
        for leader in map(Spot, self._region.entries):
            guard = dict(self.guards[leader])
            for register, span in self._known_before(leader).items():
                is_small = span.proper.size <= FARTHEST
                if is_small and register in ahead[leader] and register not in guard:
                    guard[register], changed = span, True
            self.guards[leader] = guard
        return changed

    def _drop_strangers(self) -> bool:
        """From the guards of copies of loops, registers whose stretch isn't known in front of all turns. None is looked
        for there: if the guard doesn't hold, the loop itself goes on with what it knows."""
        if self._one:
            return False
        strangers = {
            (first, register)
            for first in (Spot(loop.head, 1) for loop in self._blocks.unrolled.values())
            for before in self._blocks.predecessors[first]
            for register, check in self.unguarded(before, first)
            if check.anew
        }
        for first, register in strangers:
            del self.guards[first][register]
        return bool(strangers)

    # -- backwards
    def _ahead(self, scope: Sequence[Spot]) -> tuple[dict[Spot, Spans], dict[int, Span]]:
        """By block of ``scope``; and what each access, by its place, wants to be compared."""
        found: dict[Spot, Spans] = {}
        by_access: dict[int, Span] = {}
        around = 1 if scope[0].turn else 2  # once more around a loop; copies are its turns already
        for leader in [*reversed(scope)] * around:
            spans: dict[int, Span] = {}
            widest = self._widest_of_turns if leader.turn else self._widest
            for place in self._blocks.ways(leader):
                for register, span in found.get(place, {}).items():
                    self._add(spans, register, span, widest)
            for effect in reversed(self._flow[leader.at]):
                if effect.written:
                    later = spans.pop(effect.written, None)
                    # with paging what a pointer is moved to may be on another page, where a loop is entered for good
                    if later and effect.source and (self._one or leader.turn or not effect.offset):
                        self._add(spans, effect.source, later.moved(effect.offset), widest)
                if effect.span:
                    hull = spans.get(effect.base, effect.span).hull(effect.span)
                    wanted = hull if hull.size <= widest and effect.base else effect.span
                    spans[effect.base] = wanted
                    by_access[effect.at] = wanted._replace(writes=effect.span.writes)
            found[leader] = spans
        return found, by_access

    def _surely(self, scope: Sequence[Spot], written: bool) -> dict[Spot, int]:
        """By block of ``scope``, as bits: the registers; those that every path stores by, if ``written``."""
        found = dict.fromkeys(scope, -1)
        changed = True
        while changed:
            changed = False
            for leader in reversed(scope):
                bases = -1 if self._blocks.successors[leader] else 0
                for place in self._blocks.ways(leader):
                    bases &= found.get(place, 0)
                for effect in reversed(self._flow[leader.at]):
                    if effect.written:
                        moves = bases >> effect.written & 1
                        bases &= ~(1 << effect.written)
                        bases |= moves << effect.source
                    if effect.span and effect.writes >= written:
                        bases |= 1 << effect.base
                bases &= ~1
                changed |= bases != found[leader]
                found[leader] = bases
        return found

    def _add(self, spans: dict[int, Span], register: int, span: Span, widest: int) -> None:
        """Unless both together are more than the ``widest``, or too far away."""
        hull = spans.get(register, span).hull(span)
        if hull.size <= widest and hull.is_near:
            spans[register] = hull

    # -- forwards
    def _find_known(self) -> None:
        self._known_behind.clear()
        known: dict[Spot, Spans] = {}
        given_up = set[Spot]()
        rounds, changed = 0, True
        while changed:
            changed = False
            rounds += 1
            for leader in self._blocks.order:
                before = self._guard(leader) if leader in given_up else self._common(leader)
                if before is None or known.get(leader) == before:
                    continue
                if rounds > ROUNDS:
                    given_up.add(leader)
                    before = self._guard(leader)
                known[leader], changed = before, True
                self._known_behind[leader] = self._forward(leader, before)

    def _guard(self, leader: Spot) -> Spans:
        return self.guards.get(leader, {})

    def _common(self, leader: Spot) -> Spans | None:
        """What is known when a block begins, as far as the blocks before it have been looked at; None if none has."""
        guard = self._guard(leader)
        if not leader.turn and leader.at in self._region.entries:
            return guard
        if not any(place in self._known_behind for place in self._blocks.predecessors[leader]):
            return None
        found = dict(self._known_before(leader))
        for register, span in guard.items():  # what was known before may have been said of another stretch
            found[register] = found.get(register, span).hull(span) if self._one else span
        return found

    def _known_before(self, leader: Spot) -> Spans:
        """What is known on all ways to a block from others, as far as they have been looked at."""
        before = [
            self._known_behind[place] for place in self._blocks.predecessors[leader] if place in self._known_behind
        ]
        found: dict[int, Span] = {}
        for register, span in before[0].items() if before else ():
            if all(register in other for other in before):
                for other in before[1:]:
                    span = span.common(other[register])
                found[register] = span
        return found

    def _forward(self, leader: Spot, before: Spans) -> Spans:
        """What is known behind the block; and ``checks`` of its steps."""
        known = dict(before)
        for effect in self._flow[leader.at]:
            step = Spot(effect.at, leader.turn)
            self.checks.pop(step, None)
            if effect.span:
                here = known.get(effect.base)
                if here is None or not here.holds(effect.span):
                    wanted = self._wanted[effect.at]
                    if check := _check(here, wanted):
                        self.checks[step] = check
                        wanted = check.span
                    if effect.base:
                        known[effect.base] = here.hull(wanted) if here and self._one else wanted
            if effect.written:
                source = known.get(effect.source)
                known.pop(effect.written, None)
                self.moves.pop(step, None)
                if effect.source and source and source.moved(-effect.offset).is_near:
                    known[effect.written] = source.moved(-effect.offset)
                    self.moves[step] = effect.written, effect.source
        return known


def _check(known: Span | None, wanted: Span) -> Check | None:
    """Of a register."""
    anew = known is None or wanted.writes > known.writes
    start = known is None or anew or wanted.low < known.low
    end = known is None or anew or wanted.high > known.high
    if known and known.writes:
        wanted = wanted._replace(writes=True)
    return Check(wanted.proper, start, end, anew or (start and end)) if start or end else None
