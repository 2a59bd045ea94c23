"""Native routines that put another region into a record than the best one, which does not fit what runs there.

A region that is made for a window does not fit where there is none: the same code with paging, say. One whose registers
point across pages that are not neighbours in RAM, or to devices, is refused or left again and again (stretches.py);
one that is made carefully looks at each access by itself. Until there is one, the quick tier's is used. The region that
is found stays: it runs everywhere. If the record is made anew the best region is tried anew.
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.blocks import for_each
from mpemu.codegen.hot import is_windowed, page_number, region_place, regions_of
from mpemu.codegen.pool import is_decoded, place_of, slot_of
from mpemu.codegen.records import HANDLER
from mpemu.codegen.region_jumps import is_often
from mpemu.codegen.routines import Native, native
from mpemu.isa.value import Value
from mpemu.layout import HEAT, HEAT_ROUND, HOLD_UPS, POINTS_PER_EXIT, POINTS_PER_SAMPLE, REGION_ENTRY, REGION_VISIT
from mpemu.unit import CAREFUL, OPTIMISED, Kind

WITHIN = 128
"""Instructions executed in regions: one that is refused, or left for an access, so soon after the last time ..."""
OFTEN = 64
"""... so many times in a row does not fit."""


def _use_best(h: Native, record: Value, fits: Callable[[Value], Value]) -> Value:
    """Put the best region for the place of ``record`` of which the rank ``fits`` there: 1 bit, there is one."""
    number, offset = place_of(h, record)
    page = h.get(page_number(h, number), 32).zext(64)
    best, code_of_best = h.local(0), h.local(0)

    def look(index: Value, entry: str) -> None:
        places, count, rank = (
            h.get(h.b.pointer(entry, REGION_ENTRY.offset[name]), 32).zext(64) for name in ("places", "count", "rank")
        )

        def compare(i: Value) -> None:
            place, code = region_place(h, places, i)
            with h.when(place == offset):
                best.set(rank)
                code_of_best.set(code.zext(64))

        with h.when(fits(rank) & rank.geu(best.get())):  # of the same rank the oldest is the last
            for_each(h, count, compare)

    with h.when(page != 0):
        regions_of(h, page - 1, look)
    found = code_of_best.get() != 0
    with h.when(found):
        h.put(h.at(record, HANDLER), code_of_best.get().lo(32))
    return found


@native
def refit(h: Native, record: Value) -> None:
    """A region that is made for a window has been entered at ``record`` without one: use, or ask for, another one."""
    heat = h.hart("heat", slot_of(record, HEAT) ^ 1)
    before = h.get(heat, 32).zext(64)
    after = (before + POINTS_PER_EXIT) & (HEAT_ROUND - 1)
    h.put(heat, after.lo(32), 32)
    was, now = before.udiv(POINTS_PER_SAMPLE), after.udiv(POINTS_PER_SAMPLE)
    with h.when((was == now) | ~is_decoded(h, record)):
        h.ret(0)
    with h.when(_use_best(h, record, lambda rank: ~is_windowed(rank))):
        h.ret(1)
    with h.when((now & (HEAT_ROUND // POINTS_PER_SAMPLE // 4 - 1)) == 1):
        h.call("request_region", record, Kind(OPTIMISED).rank, 0, 0)


@native
def held_up(h: Native) -> None:
    """The region that was entered last, at HART.rp, has been refused, or left for an access that it can't do. If that
    is so again and again: use one that is made carefully; or the quick one, and ask for such."""
    record, now = h.s.rp, h.s.region_instructions + (h.s.region_work & (REGION_VISIT - 1))
    place = slot_of(record, HOLD_UPS)
    same = h.get(h.hart("held_record", place)) == record
    again = same & (now - h.get(h.hart("held_at", place))).ltu(WITHIN)
    times = again.mux(h.get(h.hart("held_times", place)) + 1, 1)
    h.put(h.hart("held_record", place), record)
    h.put(h.hart("held_at", place), now)
    h.put(h.hart("held_times", place), times)
    with h.when(((times & (OFTEN - 1)) != 0) | ~is_decoded(h, record)):
        h.ret(0)
    careful, optimised = Kind(CAREFUL).rank, Kind(OPTIMISED).rank
    with h.when(~_use_best(h, record, lambda rank: rank.geu(careful) & rank.ltu(optimised))):
        _use_best(h, record, lambda rank: rank.ltu(careful))
        with h.when(is_often(times, OFTEN)):  # there may never be one: it is asked for less and less
            h.call("request_region", record, careful, 0, 0)


assert OFTEN & (OFTEN - 1) == HOLD_UPS & (HOLD_UPS - 1) == 0
