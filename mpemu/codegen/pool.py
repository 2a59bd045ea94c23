"""A hart's pool of decoded pages: where a record is in it."""

from __future__ import annotations

from mpemu.codegen.records import RECORD_PAGE
from mpemu.codegen.routines import Native
from mpemu.isa.value import Value


def is_decoded(h: Native, record: Value) -> Value:
    """1 bit: it is one of the pool, not of an instruction that straddles two pages."""
    return (record - h.s.records).ltu(h.s.record_next * RECORD_PAGE)


def place_of(h: Native, record: Value) -> tuple[Value, Value]:
    """(Page of the pool, page offset) of one of the pool's records."""
    pool = record - h.s.records
    number = pool.udiv(RECORD_PAGE)
    return number, (pool - number * RECORD_PAGE) >> 3


def slot_of(record: Value, slots: int) -> Value:
    """Of a table with ``slots`` slots, a power of two, that is hashed by record."""
    return ((record >> 4) ^ (record >> 16)) & (slots - 1)
