"""Innermost loops of a region, several turns at once.

At every back edge a region looks for interrupts and at the slice, and compares the addresses of the next turn. In
loops of a few instructions that is most of what the host does. So the blocks of a small loop are there once more for
each of a number of *turns*, which follow one another without any of that in between. The first of them is entered
behind a turn of the loop itself, if the slice is long enough that no look in between would find its end, and if the
addresses that all turns access are in bounds (bounds.py). Else the loop itself goes on; it does so behind the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mpemu.codegen.shape import Shape, Step
from mpemu.layout import PAGE_SHIFT
from mpemu.unit import OPTIMISED

MOST_TURNS = 8
MOST_INSNS = 64
"""Guest instructions in all turns of a loop together; in copies of a region's loops, unless it has more itself."""


class Spot(NamedTuple):
    """The block at place ``at``, or the step there. ``turn``: 0, or in which of the turns of an unrolled loop."""

    at: int
    turn: int = 0


class Loop(NamedTuple):
    """An innermost loop: its blocks, ``head`` first; ``size`` in instructions, all blocks together."""

    head: int
    blocks: tuple[int, ...]
    size: int

    @property
    def turns(self) -> int:
        return min(MOST_TURNS, MOST_INSNS // self.size)

    @property
    def reserve(self) -> int:
        """Instructions, at most, from the beginning of all turns to the last look in between that is left out."""
        return (self.turns - 1) * self.size


class Blocks:
    """The blocks of a region as they are laid out. ``unrolled``: loops, by head."""

    def __init__(self, region: Shape) -> None:
        self._region = region
        self.unrolled: dict[int, Loop] = {}
        self._loop_of: dict[int, Loop] = {}
        room = max(MOST_INSNS, len(region.steps))
        for loop in _innermost(region) if region.kind.tier == OPTIMISED else ():
            size = loop.turns * loop.size
            if loop.turns > 1 and size <= room and self._loop_of.keys().isdisjoint(loop.blocks):
                self.unrolled[loop.head] = loop
                self._loop_of.update(dict.fromkeys(loop.blocks, loop))
                room -= size
        self.order: list[Spot] = []
        for leader in region.leaders:
            self.order.append(Spot(leader))
            around = self._loop_of.get(leader)
            if around and leader == around.blocks[-1]:
                self.order += self.copies(around)
        self.successors = {spot: {*self._behind(spot)} for spot in self.order}
        self.predecessors: dict[Spot, set[Spot]] = {spot: set() for spot in self.order}
        for spot, behind in self.successors.items():
            for place in behind:
                self.predecessors[place].add(spot)

    def copies(self, loop: Loop) -> list[Spot]:
        return [Spot(at, turn) for turn in range(1, loop.turns + 1) for at in loop.blocks]

    def again(self, spot: Spot, place: int) -> Loop | None:
        """The loop of which several turns may follow at ``place``, behind the block at ``spot``."""
        loop = self._loop_of.get(spot.at)
        return loop if loop and place == loop.head and spot.turn in (0, loop.turns) else None

    def follow(self, spot: Spot, place: int) -> Spot:
        """The block at ``place`` behind the one at ``spot``, where :meth:`again` doesn't lead."""
        loop = self._loop_of.get(spot.at)
        if not spot.turn or not loop or place not in loop.blocks or self.again(spot, place):
            return Spot(place)
        return Spot(place, spot.turn + (place == loop.head))

    def ways(self, spot: Spot) -> Iterator[Spot]:
        """What follows, without the ways between a loop and its copies: as if the loop were not unrolled; and as if its
        copies were a loop of their own, which goes on with the first behind the last."""
        for place in self._region.successors[spot.at]:
            yield Spot(place, 1) if spot.turn and self.again(spot, place) else self.follow(spot, place)

    def _behind(self, spot: Spot) -> Iterator[Spot]:
        for place in self._region.successors[spot.at]:
            yield self.follow(spot, place)
            if self.again(spot, place):
                yield Spot(place, 1)


def _innermost(region: Shape) -> Iterator[Loop]:
    """The loops that can be unrolled: on one page, at whose end the interpreter looks for interrupts, too, and without
    calls. They may be left anywhere. (With several back edges, or entered elsewhere, too, they lose: docs/log.md.)"""
    for head in region.leaders:
        back = [before for before in region.predecessors[head] if before >= head]
        if len(back) != 1:
            continue  # no loop, or several
        ahead = _reached(head, region.successors, head, back[0])
        blocks = sorted(ahead & _reached(back[0], region.predecessors, head, back[0]))
        is_innermost = all(
            head == behind or at < behind for at in blocks for behind in region.successors[at] if behind in blocks
        )
        steps = [step for leader in blocks for step in region.block(leader)]
        plain = all(region.fast(step) and not _calls(step) and step.at not in region.spins for step in steps)
        pages = {place >> PAGE_SHIFT for step in steps for place in (step.at, step.behind - 1)}
        entered = any(at in region.entries or not region.predecessors[at] <= {*blocks} for at in blocks[1:])
        if is_innermost and plain and not entered and len(pages) == 1:
            yield Loop(head, tuple(blocks), len(steps))


def _reached(start: int, edges: Mapping[int, set[int]], head: int, last: int) -> set[int]:
    """From ``start`` over ``edges``, by blocks from ``head`` to ``last``, without passing ``head``."""
    found = set[int]()
    work = [start]
    while work:
        at = work.pop()
        if head <= at <= last and at not in found:
            found.add(at)
            if at != head or at == start:
                work += edges[at]
    return found


def _calls(step: Step) -> bool:
    """It is a jump that links, or is computed."""
    return step.is_jump and (step.target is None or step.operands["rd"] != 0)
