"""Native routines that find hot code, ask for its translation, and put translated regions into use.

At the end of a slice a hart is somewhere in the code that it runs most: the record where it is gets points. So does,
fewer, one without a region to which a region leads. A place with enough points is requested: where it is in the hart's
decode cache, and which pages of that the hart can jump to from there, go into a free slot of TRANSLATOR.requests (0 ->
1 by compare-exchange, filled, then 2 with release), and the doorbell rings. The translator reads the cache's copies by
itself. Nobody waits: with all slots taken the request is dropped, and the place becomes hot again. A place that has
been asked for is asked for again when its points have doubled.

The translator publishes append-only: page and region entries are written first, ``published`` last. A hart that sees a
new number compares the new pages, byte for byte, with those that it has decoded, numbers its own accordingly, and puts
the new regions into their records; a page that it decodes later gets its number, and the regions that are known. A
region lives in a record, the best one for its place (Kind.rank in unit.py); so whatever drops or rewrites records
(FENCE.I, changed code, a full pool) drops it too. A place whose region was made quickly goes on collecting points, and
becomes worth an optimised one. An optimised region that a computed jump often leads out of is asked for anew
(region_jumps.py).
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.blocks import for_each
from mpemu.codegen.page_hash import HASH_FACTOR
from mpemu.codegen.pool import is_decoded, place_of, slot_of
from mpemu.codegen.records import HANDLER, PAGE_NUMBER, RECORD_PAGE
from mpemu.codegen.routines import Native, native
from mpemu.isa.value import Value
from mpemu.layout import (
    CODE_PAGE,
    HEAT,
    HEAT_ROUND,
    ITLB_ENTRIES,
    ITLB_ENTRY,
    KNOWN_GUEST,
    MAX_REGIONS,
    PAGE,
    PAGE_SHIFT,
    POINTS_PER_EXIT,
    POINTS_PER_QUICK_EXIT,
    POINTS_PER_SAMPLE,
    REGIME,
    REGION_ENTRY,
    REGION_PAGES,
    REGION_PLACE,
    REQUEST,
    REQUESTS,
    TRANSLATOR,
)
from mpemu.unit import CAREFUL, GENERATIONS, MAX_DISTANCE, OPTIMISED, Kind

RANK_SIZE = 4
"""Bytes in front of a region's code that hold its rank."""
ATTEMPTS = 4
"""Slots that a hart tries."""


def _shared(h: Native, item: str, offset: Value | int = 0) -> str:
    return h.at(h.s.translator, offset + TRANSLATOR.offset[item])


def _code_page(h: Native, number: Value) -> Value:
    return h.s.code_pages + number * CODE_PAGE.size


@native
def hash_page(h: Native, copy: Value) -> None:
    value = h.local(0)

    def mix(i: Value) -> None:
        value.set((value.get() ^ h.get(h.at(copy, i << 3))) * HASH_FACTOR)

    for_each(h, PAGE // 8, mix)
    h.ret(value.get())


@native
def warm(h: Native, record: Value, points: Value) -> None:
    """The hart goes on at ``record``, which gets ``points``."""
    with h.when((h.s.translator == 0) | ~is_decoded(h, record)):
        h.ret(0)
    handler = h.get(h.at(record, HANDLER), 32).zext(64)
    is_known = h.s.cached_regions.geu(KNOWN_GUEST)
    enough, tier = h.local(is_known.mux(h.s.hotness_known, h.s.hotness)), h.local(h.s.first_tier)
    has_window = h.get(h.at(h.s.regime, REGIME.offset["window_bare"])) != 0
    with h.when(handler.geu(h.s.regions_start)):
        # what is optimised, but for any regime, is worth being made for a window, too
        rank = rank_of(h, handler)
        with h.when(rank.geu(Kind(OPTIMISED).rank) & (is_windowed(rank) | ~has_window)):
            h.ret(0)
        enough.set(h.s.hotness_2)
        tier.set(OPTIMISED)
    heat = h.hart("heat", slot_of(record, HEAT))
    before = h.get(heat, 32).zext(64)
    after = (before + points) & (HEAT_ROUND - 1)
    h.put(heat, after.lo(32), 32)
    # asked for once it has enough points, and each time that they have doubled: what is hottest is translated first
    was, now = before.udiv(enough.get()), after.udiv(enough.get())
    with h.when(was.clz().leu(now.clz())):
        h.ret(0)
    windowed = has_window & (tier.get() == OPTIMISED)
    rank = ((tier.get() << 1) + windowed.zext(64)) * GENERATIONS
    by_exit = (points != POINTS_PER_SAMPLE).zext(64)
    with h.when(h.call("request_region", record, rank, by_exit, 0) == 0):
        h.put(heat, 0, 32)


@native
def warm_behind(h: Native, record: Value) -> None:
    """The region that was entered at HART.rp leads to ``record``, which has none."""
    handler = h.get(h.at(h.s.rp, HANDLER), 32).zext(64)
    points = h.local(POINTS_PER_QUICK_EXIT)
    with h.when(handler.geu(h.s.regions_start)), h.when(rank_of(h, handler).geu(Kind(CAREFUL).rank)):
        points.set(POINTS_PER_EXIT)
    h.call("warm", record, points.get())


def rank_of(h: Native, handler: Value) -> Value:
    """Of a region, by its handler offset."""
    return h.get(h.at(h.s.handlers, handler - RANK_SIZE), 32).zext(64)


def is_windowed(rank: Value) -> Value:
    """1 bit: of Kind.rank."""
    return (rank.udiv(GENERATIONS) & 1) != 0


@native
def ask_anew(h: Native, record: Value) -> None:
    """The jalr at HART.left_jump often leads out of an optimised region, this time to ``record``: ask for the region to
    be made anew. (One that was made quickly is going to be made again in any case.)"""
    handler = h.get(h.at(h.s.rp, HANDLER), 32).zext(64)
    with h.when((h.s.translator == 0) | ~is_decoded(h, record) | handler.ltu(h.s.regions_start)):
        h.ret(0)
    rank = rank_of(h, handler)
    with h.when(rank.ltu(Kind(OPTIMISED).rank) | (rank.urem(GENERATIONS) == GENERATIONS - 1)):
        h.ret(0)
    h.call("request_region", record, rank, 1, h.s.left_jump)


@native
def request_region(h: Native, record: Value, rank: Value, by_exit: Value, jump: Value) -> None:
    """Ask for the region at ``record``, of the pool's page that is the current one: 1, or 0 if there is no free slot.
    ``by_exit``: a region has just led there; ``jump``: as REQUEST.left_jump."""
    number, offset = place_of(h, record)
    for attempt in range(ATTEMPTS):
        slot = (h.s.hartid * ATTEMPTS + attempt) & (REQUESTS - 1)
        request = h.s.translator + slot * REQUEST.size + TRANSLATOR.offset["requests"]
        state = h.at(request, REQUEST.offset["state"])
        _, mine = h.b.compare_exchange(state, Value(0, 64), Value(1, 64))
        with h.when(mine):
            left_page, left_offset = place_of(h, h.s.rp)
            here = (h.s.records + number * RECORD_PAGE - h.s.delta).sra(3)
            for name, value in (
                ("hart", h.s.hartid),
                ("offset", offset),
                ("rank", rank),
                ("page", number),
                ("address", here),
                ("left_page", (by_exit != 0).mux(left_page + 1, 0)),
                ("left_offset", left_offset),
                ("left_distance", (h.s.left_page - here).sra(PAGE_SHIFT)),
                ("left_jump", jump),
                ("count", h.call("list_pages", h.b.from_pointer(h.at(request, REQUEST.offset["around"])), here)),
            ):
                h.put(h.at(request, REQUEST.offset[name]), value)
            h.put(state, 2, order="release")
            h.s.requests = h.s.requests + 1
            h.call("signal", h.get(_shared(h, "doorbell")))
            h.ret(1)
    h.s.requests_dropped = h.s.requests_dropped + 1


@native
def list_pages(h: Native, target: Value, here: Value) -> None:
    """Write to ``target`` what the current regime's ITLB knows, as REQUEST.around wants it, by distance from the page
    at ``here``: how many there are."""
    count = h.local(0)

    def look(i: Value) -> None:
        entry = h.s.regime + i * ITLB_ENTRY.size + REGIME.offset["itlb"]
        tag = h.get(h.at(entry, ITLB_ENTRY.offset["tag"]))
        distance = (tag - here).sra(PAGE_SHIFT)
        record = h.get(h.at(entry, ITLB_ENTRY.offset["delta"])) + (tag << 3)
        is_near = (distance + MAX_DISTANCE).leu(2 * MAX_DISTANCE)
        with h.when(((tag & (PAGE - 1)) == 0) & is_near & is_decoded(h, record)):
            number, _ = place_of(h, record)
            h.put(h.at(target, count.get() << 3), (distance << 32) | number)
            count.set(count.get() + 1)

    for_each(h, ITLB_ENTRIES, look)
    h.ret(count.get())


@native
def use_region(h: Native, number: Value, index: Value, older: Value) -> None:
    """Put region ``index`` into the records of the pool's page ``number``, wherever it can be entered and none of a
    higher rank is. Of the same rank the one that was published first stays, whenever a hart sees them: as it was made
    when nothing else was there, it is made for what runs most. ``older``: 1 if it is older than those that are there.
    """
    entry = _shared(h, "regions", index * REGION_ENTRY.size)
    places, count, page, rank = (
        h.get(h.b.pointer(entry, REGION_ENTRY.offset[name]), 32).zext(64)
        for name in ("places", "count", "page", "rank")
    )
    h.put(_shared(h, "page_used", page & (REGION_PAGES - 1)), 1, 8)
    h.s.cached_regions = h.s.cached_regions + h.get(h.b.pointer(entry, REGION_ENTRY.offset["cached"]), 32).zext(64)

    def use(i: Value) -> None:
        offset, code = region_place(h, places, i)
        record = h.s.records + number * RECORD_PAGE + (offset << 3)
        handler = h.at(record, HANDLER)
        with h.when(h.get(handler, 32) == 0):
            h.call("decode_run", record)
        present = h.get(handler, 32).zext(64)
        worse = h.local(present.ltu(h.s.regions_start), 1)
        with h.when(~worse.get()):
            worse.set(rank_of(h, present).ltu(rank + older))
        with h.when(worse.get()):
            h.put(handler, code)

    for_each(h, count, use)


def region_place(h: Native, places: Value, i: Value) -> tuple[Value, Value]:
    """Of the array ``places``, element ``i``: (page offset, handler offset, 32 bits)."""
    place = h.s.handlers + places + i * REGION_PLACE.size
    offset, code = (h.get(h.at(place, REGION_PLACE.offset[name]), 32) for name in ("offset", "code"))
    return offset.zext(64) & (PAGE - 2), code


def regions_of(h: Native, page: Value, body: Callable[[Value, str], object]) -> None:
    """``body(index, entry)`` for the regions of the translator's page that this hart has seen, newest first."""
    next_index = h.local(h.get(_shared(h, "page_first", (page & (REGION_PAGES - 1)) << 2), 32).zext(64))
    with h.loop() as done:
        with h.when(next_index.get() == 0):
            done()
        at = (next_index.get() - 1) & (MAX_REGIONS - 1)
        entry = _shared(h, "regions", at * REGION_ENTRY.size)
        with h.when(at.ltu(h.s.regions_seen)):
            body(at, entry)
        next_index.set(h.get(h.b.pointer(entry, REGION_ENTRY.offset["next"]), 32).zext(64))


def page_number(h: Native, number: Value) -> str:
    return h.at(h.s.records + number * RECORD_PAGE, PAGE_NUMBER)


def _same(h: Native, number: Value, page: Value) -> Value:
    """1 bit: the pool's page ``number`` holds what the translator's page ``page`` does."""
    mine = _code_page(h, number) + CODE_PAGE.offset["copy"]
    theirs = h.s.translator + page * PAGE + TRANSLATOR.offset["page_copy"]
    return h.call("same_page", mine, theirs) != 0


@native
def use_new_regions(h: Native) -> None:
    """Look at what has been published since the last time."""
    published = h.get(_shared(h, "published"), order="acquire")
    pages = h.get(_shared(h, "pages"), order="acquire")
    end = h.get(_shared(h, "code_end"))
    h.b.module.host.sync_code(h.b, h.at(h.s.handlers, h.s.code_synced), h.at(h.s.handlers, end))
    h.s.code_synced = end

    def look(i: Value) -> None:
        page = (h.s.translated_pages_seen + i) & (REGION_PAGES - 1)
        wanted = h.get(_shared(h, "page_hash", page << 3))

        def match(number: Value) -> None:
            mine = h.get(h.at(_code_page(h, number), CODE_PAGE.offset["hash"]))
            with h.when(mine == wanted), h.when(_same(h, number, page)):
                h.put(page_number(h, number), (page + 1).lo(32), 32)

        for_each(h, h.s.record_next, match)

    for_each(h, pages - h.s.translated_pages_seen, look)
    h.s.translated_pages_seen = pages

    def use(i: Value) -> None:
        index = (h.s.regions_seen + i) & (MAX_REGIONS - 1)
        entry = _shared(h, "regions", index * REGION_ENTRY.size)
        page = h.get(h.b.pointer(entry, REGION_ENTRY.offset["page"]), 32)

        def match(number: Value) -> None:
            with h.when(h.get(page_number(h, number), 32) == page + 1):
                h.call("use_region", number, index, 0)

        for_each(h, h.s.record_next, match)

    for_each(h, published - h.s.regions_seen, use)
    h.s.regions_seen = published


@native
def use_known_regions(h: Native, number: Value) -> None:
    """The pool's page ``number`` has just been decoded anew. (What is new to this hart, use_new_regions finds.)"""
    copy = _code_page(h, number) + CODE_PAGE.offset["copy"]
    mine = h.call("hash_page", copy)
    h.put(h.at(_code_page(h, number), CODE_PAGE.offset["hash"]), mine)

    def match(page: Value) -> None:
        with h.when(h.get(_shared(h, "page_hash", page << 3)) == mine), h.when(_same(h, number, page)):
            h.put(page_number(h, number), (page + 1).lo(32), 32)
            regions_of(h, page, lambda index, entry: h.call("use_region", number, index, 1))

    for_each(h, h.s.translated_pages_seen, match)
