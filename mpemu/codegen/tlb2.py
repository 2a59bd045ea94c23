"""The second level of the data TLB: pages of 4 KiB for which the first has no room, so that a miss there costs no walk.

It is consulted where the first level has failed, never inline: it can be large, and one table serves all regimes of the
hart. An entry is valid while its stamp is that of the regime. A flush gives the regime a new stamp, which costs nothing
and leaves no old entry behind; SFENCE.VMA of one address drops the one entry that may hold its page. Superpages are not
in here, so nothing has to be searched for them: what they map in one piece is reached by the window (window.py).

Every walk that fills the first level fills this one, too: what it says of a page is never older than what the first
level says.
"""

from __future__ import annotations

from mpemu.codegen.marks import is_marked
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.codegen.tlb_entries import MARKED_TAG, dtlb_entry, tlb2_entry
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, PAGE, REGIME, TLB2_ENTRY


def _entry(h: Native, va: Value) -> str:
    return tlb2_entry(h.b, h.hart("tlb2"), va)


def _stamp(h: Native, regime: Value) -> str:
    return h.at(regime, REGIME.offset["stamp"])


def forget_all(h: Native, regime: Value) -> None:
    """Drop all that the second level holds for ``regime``."""
    stamp = h.s.last_stamp + 1
    h.s.last_stamp = stamp
    h.put(_stamp(h, regime), stamp)


def forget_page(h: Native, va: Value) -> None:
    """Drop the page of ``va``, in all regimes."""
    h.put(h.b.pointer(_entry(h, va), TLB2_ENTRY.offset["stamp"]), 0)  # no regime has that


def remember(h: Native, va: Value, addend: Value, tag: Value, tagged: Value) -> None:
    """A walk has found the page of ``va``, of 4 KiB: ``tag`` (as in fill_dtlb) is ``tagged`` from now on."""
    entry = _entry(h, va)
    stamp, known = (h.b.pointer(entry, TLB2_ENTRY.offset[name]) for name in ("stamp", "addend"))
    other = h.b.pointer(entry, tag ^ TLB2_ENTRY.offset["write_tag"])
    current = h.get(_stamp(h, h.s.regime))
    same = (h.get(stamp) == current) & (h.get(known) == addend) & ((h.get(other) & ~MARKED_TAG) == (va & -PAGE))
    with h.when(~same):
        h.put(other, ALL_ONES)
        h.put(stamp, current)
        h.put(known, addend)
    h.put(h.b.pointer(entry, tag), tagged)


def look_up(h: Native, va: Value, tag: Value | int) -> tuple[Value, Value]:
    """(1 bit: the page of ``va`` is known here for the access of ``tag`` and not marked, its addend); if so, the first
    level knows it from now on."""
    entry = _entry(h, va)
    current = h.get(h.b.pointer(entry, TLB2_ENTRY.offset["stamp"])) == h.get(_stamp(h, h.s.regime))
    found = (h.get(h.b.pointer(entry, tag)) == (va & -PAGE)) & current
    with h.when(found, likely=True):
        _copy(h, entry, va)
    return found, h.get(h.b.pointer(entry, TLB2_ENTRY.offset["addend"]))


def _copy(h: Native, entry: str, va: Value) -> None:
    """To the first level."""
    first = dtlb_entry(h.b, h.at(h.s.regime), va)
    for name in ("read_tag", "write_tag", "addend"):
        h.put(h.b.pointer(first, DTLB_ENTRY.offset[name]), h.get(h.b.pointer(entry, TLB2_ENTRY.offset[name])))
    h.put(h.b.pointer(first, DTLB_ENTRY.offset["size_mask"]), -PAGE & ALL_ONES)


@native
def recall(h: Native, va: Value, tag: Value) -> None:
    """1 if the page of ``va`` is known here for the access of ``tag``: then the first level knows it from now on, as
    marked if it is."""
    entry = _entry(h, va)
    found = (h.get(h.b.pointer(entry, tag)) & ~MARKED_TAG) == (va & -PAGE)
    current = h.get(h.b.pointer(entry, TLB2_ENTRY.offset["stamp"])) == h.get(_stamp(h, h.s.regime))
    with h.when(found & current):
        written = h.b.pointer(entry, TLB2_ENTRY.offset["write_tag"])
        offset = va + h.get(h.b.pointer(entry, TLB2_ENTRY.offset["addend"])) - h.m.ram
        with h.when(h.get(written) == (va & -PAGE | MARKED_TAG)), h.when(~is_marked(h, offset)):
            h.put(written, va & -PAGE)
        _copy(h, entry, va)
        h.ret(1)


assert DTLB_ENTRY.offset["write_tag"] == TLB2_ENTRY.offset["write_tag"] == 8
assert DTLB_ENTRY.offset["read_tag"] == TLB2_ENTRY.offset["read_tag"] == 0
