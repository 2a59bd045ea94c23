"""What regions note of computed jumps that lead out of them, for the translator to guess from.

A hart has a table of JUMPs, hashed by source and target, which the translator reads as it reads code pages: at any
time, without a lock (surroundings.py). An entry that another jump needs is overwritten. So what is found there may be
old, torn or another program's; a region compares where a jump really goes before it goes there.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder
from mpemu.codegen.page_hash import HASH_FACTOR
from mpemu.isa.value import Value
from mpemu.layout import HART, JUMP, JUMPS, JUMPS_START

OFTEN = 1 << 18
"""Times that a jump led out of an optimised region to one place after which that is worth making anew. It takes a
millisecond or two of leaving, and a tenth of a second of compiling."""


def note_jump(b: Builder, source: Value, target: Value) -> Value:
    """The jump at virtual address ``source`` leaves the region for ``target``: how often that has been noted."""
    slot = ((source ^ (target << 32)) * HASH_FACTOR) >> (64 - JUMPS.bit_length() + 1)
    table = b.to_pointer(b.load(b.pointer("%st", HART.offset["code_pages"])) + JUMPS_START)
    entry = b.pointer(table, slot * JUMP.size)
    where = {name: b.pointer(entry, JUMP.offset[name]) for name in JUMP.offset}
    is_same = (b.load(where["source"]) == source) & (b.load(where["target"]) == target)
    count = is_same.mux(b.load(where["count"]), 0) + 1
    for name, value in (("source", source), ("target", target), ("count", count)):
        b.store(where[name], value)
    return count


def is_often(count: Value, often: int = OFTEN) -> Value:
    """1 bit: ``count``, which is not 0, is ``often``, a power of two, or has doubled since the last time."""
    return (count & ((count - 1) | (often - 1))) == 0


assert JUMPS & (JUMPS - 1) == OFTEN & (OFTEN - 1) == 0
