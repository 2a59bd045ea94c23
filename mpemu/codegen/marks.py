"""Marks of RAM pages and version words of granules: what stores, and LR/SC that is not tight, go by (lrsc.py).

A page's mark is UNMARKED, MARKED or RESERVED, which is MARKED and an LR has been there lately, or in between: PREPARED
and then ASKED on the way to a mark (marking.py), UNMARKING on the way back. Those three hold a token above them, which
is given out once: who finds the same mark again knows that it has not changed in the meantime.

On a page whose mark is not UNMARKED every store locks the granule's version word (odd), stores and publishes the next
(even). Where it is UNMARKED stores look at nothing, by the write tags of the TLB, until the hart has been asked to drop
them.
"""

from __future__ import annotations

from mpemu.codegen.routines import Native, native
from mpemu.codegen.spinlock import until_held
from mpemu.isa.value import Value
from mpemu.layout import PAGE_SHIFT, VERSION_WORDS

UNMARKED, MARKED, RESERVED = 0, 1, 2
PREPARED, ASKED, UNMARKING = 0, 1, 2
"""What a mark with a token is."""
TOKEN_SHIFT = 2
TOKENS = 1 << 29
"""Of the 2**30 that there is room for. When so many have been given out, marks stay."""
GRANULE = 64
"""Bytes that share a version word."""


def page_mark(h: Native, offset: Value) -> str:
    """Pointer to the LR/SC mark of the page at RAM ``offset``."""
    return h.at(h.m.page_marks, (offset >> PAGE_SHIFT) << 2)


def is_marked(h: Native, offset: Value) -> Value:
    """1 bit: stores to the page go by versions. Whoever may do without does so before its next safepoint."""
    return h.get(page_mark(h, offset), 32, "acquire") != UNMARKED


def may_be_reserved(mark: Value) -> Value:
    """1 bit: with this mark every hart's stores to the page go by versions."""
    return (mark - MARKED).leu(RESERVED - MARKED)


def with_token(kind: int, token: Value) -> Value:
    return (token << TOKEN_SHIFT | kind).lo(32)


def token_of(mark: Value) -> Value:
    """Token or epoch; 0: ``mark`` has none."""
    return mark.zext(64) >> TOKEN_SHIFT


def has_token(mark: Value, kind: int) -> Value:
    """1 bit: ``mark`` is of this kind."""
    return (token_of(mark) != 0) & ((mark & ((1 << TOKEN_SHIFT) - 1)) == kind)


def version_word(h: Native, offset: Value) -> str:
    """Version words of neighbouring granules lie in different host cache lines: harts that work on granules of their
    own, side by side, must not fight for a line here."""
    granule = offset.udiv(GRANULE)
    in_line, lines = 8, VERSION_WORDS // 8
    return h.machine("versions", ((granule & (lines - 1)) * in_line) | (granule.udiv(lines) & (in_line - 1)))


@native
def lock_version(h: Native, offset: Value) -> None:
    """Hold the version word of the granule at RAM ``offset`` (odd) until rmw_end."""
    word = version_word(h, offset)
    with until_held(h) as held:
        seen = h.get(word, order="monotonic")
        with h.when((seen & 1) == 0, likely=True):
            _, mine = h.b.compare_exchange(word, seen, seen | 1)
            with h.when(mine):
                held()
    h.s.locked_version = h.b.from_pointer(word)


@native
def bump_version(h: Native, offset: Value) -> None:
    """End the reservations of the granule at RAM ``offset``."""
    h.call("lock_version", offset)
    h.call("rmw_end")


@native
def begin_update(h: Native, offset: Value) -> None:
    """Before the guest changes the granule at RAM ``offset``, rmw_end behind it: on a marked page this holds the
    version, and now and then finds out whether the mark is still of use (marking.py)."""
    h.s.locked_version = 0
    with h.when(is_marked(h, offset)):
        updates = h.s.marked_updates + 1
        h.s.marked_updates = updates
        with h.when(updates.geu(h.m.mark_patience), likely=False):
            h.s.marked_updates = 0
            h.call("look_at_mark", offset)
        h.call("lock_version", offset)


@native
def rmw_end(h: Native) -> None:
    """End what begin_update or lock_version began: publish the granule's next version."""
    word = h.s.locked_version
    with h.when(word != 0):
        pointer = h.at(word)
        h.put(pointer, h.get(pointer) + 1, order="release")  # locked versions are odd
        h.s.locked_version = 0
