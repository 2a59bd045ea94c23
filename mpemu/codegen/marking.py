"""How pages get their LR/SC marks (marks.py), and how they lose them again.

Marking: the page is PREPARED; a new epoch is taken, the page is ASKED with it, and every hart is asked to drop its
write tags. A hart acknowledges an epoch at a safepoint, which never lies between its look at a mark and the store that
follows; an idle hart counts as having acknowledged (lrsc_ack all ones) and catches up before it runs on. When all have,
the page is RESERVED: from then on every store to it bumps its granule's version. An LR before that is no valid
reservation; its SC fails, nobody waits. Whoever finds a page PREPARED or ASKED goes on with it: its maker may have lost
its core.

Unmarking, since pages outlive their locks: a hart counts its updates of marked pages and looks at the page of every
mark_patience-th of them. If that is RESERVED, it is MARKED from now on, until an LR makes it RESERVED again; if it is
still MARKED at the next such look, no LR has been there. It becomes UNMARKING; the versions of all its granules are
bumped, which ends reservations and waits for whoever is storing; then it is UNMARKED, if it is still the same
UNMARKING. An LR that finds the page UNMARKING makes it RESERVED instead, and does not wait.

Orders that matter: the page is PREPARED before the epoch is taken, so that whoever acknowledges the epoch finds the
mark when it looks again; the token tells that it has been so all the time. The epoch is taken before any ack is read,
and an idle hart, waking up, publishes its ack, fences, and then reads the epoch: one of the two sees the other. An LR
reads the version before the mark (lrsc.py): if it sees the page MARKED or RESERVED, then whatever unmarking succeeds
later has begun later, and bumps the version that the LR has read.
"""

from __future__ import annotations

from mpemu.codegen.blocks import for_each
from mpemu.codegen.marks import (
    ASKED,
    GRANULE,
    MARKED,
    PREPARED,
    RESERVED,
    TOKENS,
    UNMARKED,
    UNMARKING,
    has_token,
    page_mark,
    token_of,
    with_token,
)
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.isa.value import Value
from mpemu.layout import HART, LINES, PAGE

KICK_EPOCH = 2
"""Bit of the `kick` line: an epoch is to be acknowledged."""


@native
def acknowledge_epoch(h: Native) -> None:
    """At a safepoint: drop write tags if a page is being marked, and say so."""
    line = h.hart("lines", LINES.index("kick"))
    h.rmw("and", line, ~KICK_EPOCH & 0xFF, 8)
    epoch = h.get(h.machine("lrsc_epoch"), order="seq_cst")
    with h.when(epoch != h.s.lrsc_epoch):
        h.call("drop_write_tags")
        h.s.lrsc_epoch = epoch
    h.put(h.hart("lrsc_ack"), epoch, order="seq_cst")


@native
def become_idle(h: Native) -> None:
    """From here to become_busy this hart stores nothing."""
    h.put(h.hart("lrsc_ack"), ALL_ONES, order="seq_cst")


@native
def become_busy(h: Native) -> None:
    h.put(h.hart("lrsc_ack"), h.s.lrsc_epoch, order="seq_cst")
    h.full_fence()
    h.call("acknowledge_epoch")


@native
def all_acknowledged(h: Native, epoch: Value) -> None:
    """1 if every hart has dropped the write tags that it had before ``epoch``."""
    result = h.local(1)

    def look(i: Value) -> None:
        ack = h.get(h.hart("lrsc_ack", base=h.other_hart(i)), order="seq_cst")
        with h.when(ack.ltu(epoch)):
            result.set(0)

    for_each(h, h.m.harts, look)
    h.ret(result.get())


@native
def mark_page(h: Native, offset: Value) -> None:
    """Begin or go on marking the page at RAM ``offset``, or keep its mark: 1 when it is RESERVED."""
    mark = page_mark(h, offset)
    with h.when(h.get(mark, 32, "monotonic") == UNMARKED):
        h.rmw("add", h.machine("marked_pages"), 1)  # before the first of them has a mark: window.py
        _, mine = h.b.compare_exchange(mark, Value(UNMARKED, 32), with_token(PREPARED, _token(h)))
        with h.when(~mine):
            h.rmw("sub", h.machine("marked_pages"), 1)
    prepared = h.get(mark, 32, "seq_cst")
    with h.when(has_token(prepared, PREPARED)):
        epoch = h.rmw("add", h.machine("lrsc_epoch"), 1) + 1
        _, mine = h.b.compare_exchange(mark, prepared, with_token(ASKED, epoch))
        with h.when(mine):

            def ask(i: Value) -> None:
                other = h.other_hart(i)
                with h.when(other != h.b.from_pointer("%st")):
                    h.rmw("or", h.hart("lines", LINES.index("kick"), base=other), KICK_EPOCH, 8)

            for_each(h, h.m.harts, ask)
    h.call("acknowledge_epoch")
    state = h.get(mark, 32, "seq_cst")
    asked = has_token(state, ASKED)
    with h.when(asked), h.when(h.call("all_acknowledged", token_of(state)) == 0):
        h.call("spin_hint")  # whoever has to acknowledge may need this core
        h.ret(0)
    with h.when(asked | (state == MARKED) | has_token(state, UNMARKING)):
        _, mine = h.b.compare_exchange(mark, state, Value(RESERVED, 32))
        with h.when(mine & asked):
            h.count("pages_marked")
    h.ret(h.get(mark, 32, "seq_cst") == RESERVED)


def _token(h: Native) -> Value:
    return h.rmw("add", h.machine("mark_tokens"), 1) + 1


@native
def look_at_mark(h: Native, offset: Value) -> None:
    """Is the mark of the page at RAM ``offset`` still of use?"""
    mark = page_mark(h, offset)
    state = h.get(mark, 32, "monotonic")
    with h.when(state == RESERVED):
        h.b.compare_exchange(mark, state, Value(MARKED, 32))
    with h.when(state == MARKED):
        h.call("unmark_page", offset)


@native
def unmark_page(h: Native, offset: Value) -> None:
    """Take the mark from the page at RAM ``offset`` if it is MARKED: 1 if that was done."""
    mark = page_mark(h, offset)
    with h.when((h.m.mark_tokens | h.m.lrsc_epoch).geu(TOKENS)):
        h.ret(0)
    unmarking = with_token(UNMARKING, _token(h))
    _, mine = h.b.compare_exchange(mark, Value(MARKED, 32), unmarking)
    with h.when(~mine):
        h.ret(0)

    def bump(i: Value) -> None:
        h.call("bump_version", (offset & -PAGE) + i * GRANULE)

    for_each(h, PAGE // GRANULE, bump)
    _, done = h.b.compare_exchange(mark, unmarking, Value(UNMARKED, 32))
    with h.when(done):
        h.rmw("sub", h.machine("marked_pages"), 1)
        h.count("pages_unmarked")
    h.ret(done.zext(64))


assert HART.item["lrsc_ack"].kind == "u64"
