"""Finds *tight* LR/SC sequences: those for whose exactness a comparison of values is enough (docs/design/0005).

A sequence is tight if between LR and SC nothing but registers is read or written. Then nobody can tell whether the LR
took place at its own time or directly before the SC; so if the SC finds the value that the LR returned, both happened
at that moment, whatever was stored in between. Neither marks nor versions are needed.

That this path was taken is known by counting: the LR notes at which instret its SC is due. A branch on the way is
harmless if no other path of the same length can lead to the SC and reach memory on it. From the target of a branch that
takes two instructions at least, an access and a jump; so at most one may lie between the first branch and the SC, and
no branch may lead in between. What ends in WRS instead of an SC only waits, and counts as tight as well.

The decoder puts the distance into the LR's record, the translator into the region. Both must find the same, or a
deterministic run would depend on what is translated: a test compares them.
"""

from __future__ import annotations

from mpemu.codegen.decoder import (
    DECODE,
    FACT_BRANCHES,
    FACT_CONDITIONAL,
    FACT_DOUBLE,
    FACT_PURE,
    FACT_WAITS,
    ID_SHIFT,
    NOWHERE,
    table,
)
from mpemu.codegen.facts import Facts, facts
from mpemu.codegen.records import IMM, RECORD, B, Variant
from mpemu.codegen.routines import Native, native
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import decode
from mpemu.isa.value import Value
from mpemu.layout import PAGE

MAX_BETWEEN = 14
"""Instructions between LR and SC, as in the architecture's constrained loops."""
BEHIND_BRANCH = 1
"""Those of them that may lie behind the first branch."""
LONGEST = 4
"""Bytes of an instruction."""
FAR = 2 * PAGE
"""Behind all that a branch in question can lead to."""


def tight_distance_on(page: bytes, start: int, isa: IsaSpec) -> int:
    """Instructions from the LR at offset ``start`` of ``page`` to its SC or WRS, 0 if they are no tight sequence."""
    reserves: Facts | None = None
    base, at, distance, may_follow, led_to = 0, start, 0, MAX_BETWEEN, FAR
    while at <= PAGE - LONGEST:
        decoded = decode(int.from_bytes(page[at : at + LONGEST], "little"), isa.extensions)
        if decoded is None:
            break
        insn, operands, length = decoded
        known = facts(isa, Variant(insn, length))
        if reserves is None:
            reserves, base = known, operands["rs1"]
        elif known.waits or known.conditional:
            fits = known.waits or (known.conditional, operands["rs1"]) == (reserves.reserves, base)
            return distance if fits and led_to > at else 0
        elif not known.pure or not may_follow:
            break
        else:
            may_follow -= 1
            if known.relative_jump:
                target = at + operands["imm"]
                led_to = min(led_to, target if target > start else FAR)
                may_follow = min(may_follow, BEHIND_BRANCH)
        distance += 1
        at += length
    return 0


@native
def tight_distance(h: Native, copy: Value, start: Value) -> None:
    """The same for the decoder; ``copy`` is the address of the page's bytes."""
    record = h.b.from_pointer(h.hart("scratch")) + RECORD  # the one that a straddling instruction leaves unused
    at, distance, may_follow = h.local(start), h.local(0), h.local(MAX_BETWEEN)
    base, double, led_to = h.local(0), h.local(0), h.local(FAR)
    with h.loop() as done:
        here = at.get()
        with h.when(here.gtu(PAGE - LONGEST)):
            done()
        word = h.b.load(h.at(copy, here), 32, align=2).zext(64)
        result = h.call(DECODE, ((word & 3) != 3).mux(word & 0xFFFF, word), record, NOWHERE)
        known = table(h, "handler_facts", result >> ID_SHIFT)
        rs1 = h.get(h.at(record, B), 8).zext(64)
        with h.when(distance.get() == 0):  # the LR itself
            base.set(rs1)
            double.set(known & FACT_DOUBLE)
        with h.otherwise():
            waits, conditional = ((known & bit) != 0 for bit in (FACT_WAITS, FACT_CONDITIONAL))
            with h.when(waits | conditional):
                fits = waits | ((rs1 == base.get()) & ((known & FACT_DOUBLE) == double.get()))
                h.ret((fits & led_to.get().gtu(here)).mux(distance.get(), 0))
            with h.when(((known & FACT_PURE) == 0) | (may_follow.get() == 0)):
                done()
            may_follow.set(may_follow.get() - 1)
            with h.when((known & FACT_BRANCHES) != 0):
                target = here + h.get(h.at(record, IMM))
                with h.when(target.gt(start) & target.ltu(led_to.get())):
                    led_to.set(target)
                with h.when(may_follow.get().gtu(BEHIND_BRANCH)):
                    may_follow.set(BEHIND_BRANCH)
        distance.set(distance.get() + 1)
        at.set(here + (result & 0xFF))
    h.ret(0)
