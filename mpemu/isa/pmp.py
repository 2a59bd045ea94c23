"""Physical memory protection: 16 entries, granularity 4 KiB. Privileged spec 1.13, "Physical Memory Protection".

Since the granularity is a page (G = 10), all of a page has the same permissions, which is what lets a TLB entry hold
the outcome. Writing an entry computes the pages that it matches once (:data:`pmp_update`); a check then only compares.
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand, routine
from mpemu.isa.privileged import (
    PMP_A_SHIFT,
    PMP_L,
    PMP_NAPOT,
    PMP_OFF,
    PMP_R,
    PMP_TOR,
    PMP_W,
    PMP_X,
    Mode,
)
from mpemu.isa.state import PMP_ENTRIES
from mpemu.isa.value import Value

GRAIN = 10
"""G of the manual: log2 of the granularity in words of 4 bytes."""
PMPADDR_MASK = (1 << 54) - 1
_CONFIG_MASK = PMP_R | PMP_W | PMP_X | 3 << PMP_A_SHIFT | PMP_L
_NOWHERE = (1 << 64) - 1


def _get(h: Hart, name: str, entry: int) -> Value:
    value: Value = getattr(h.s, f"{name}_{entry}")
    return value


def _set(h: Hart, name: str, entry: int, value: Operand) -> None:
    setattr(h.s, f"{name}_{entry}", value)


def _mode(config: Value) -> Value:
    return (config >> PMP_A_SHIFT) & 3


@routine
def pmp_check(h: Hart, pa: Value, size: Value, access: Value, priv: Value) -> None:
    """1 if ``priv`` may access [pa, pa + size), else 0. ``access`` is an :class:`Access`; the end is below 2**64."""
    first = pa >> 12
    last = (pa + size - 1) >> 12
    machine = priv == Mode.M
    count = h.s.pmp_count
    for entry in range(PMP_ENTRIES if count.constant is None else count.constant):
        with h.when(count.leu(entry)):
            h.ret(machine.zext())
        start, end = _get(h, "pmp_first", entry), _get(h, "pmp_end", entry)
        with h.when(start.leu(last) & first.ltu(end)):
            config = _get(h, "pmpcfg", entry)
            permitted = ((config >> access) & 1) != 0
            unlocked = machine & ((config & PMP_L) == 0)
            whole = start.leu(first) & last.ltu(end)  # an access that an entry matches in part fails, in M-mode too
            h.ret((whole & (permitted | unlocked)).zext())
    h.ret(machine.zext())


@routine
def pmp_update(h: Hart) -> None:
    """Derive pmp_first, pmp_end and pmp_count from the configuration bytes and addresses."""
    count = h.local(0)
    below = Value(0, 64)
    for entry in range(PMP_ENTRIES):
        address = _get(h, "pmpaddr", entry)
        mode = _mode(_get(h, "pmpcfg", entry))
        # TOR: from the address below up to this one; the bits below the granularity don't take part.
        tor = mode == PMP_TOR
        tor_start, tor_end = below >> GRAIN, address >> GRAIN
        # NAPOT: the trailing ones and the zero above them say the size.
        filled = address | ((1 << (GRAIN - 1)) - 1)
        region = filled ^ (filled + 1)
        napot_start = (filled & ~region) >> GRAIN
        napot_end = napot_start + ((region + 1) >> GRAIN)
        start = tor.mux(tor_start, napot_start)
        end = tor.mux(tor_end, napot_end)
        empty = (mode == PMP_OFF) | end.leu(start)
        _set(h, "pmp_first", entry, empty.mux(_NOWHERE, start))
        _set(h, "pmp_end", entry, empty.mux(0, end))
        with h.when(mode != PMP_OFF):
            count.set(entry + 1)
        below = address
    h.s.pmp_count = count.get()


# -- the CSRs


def read_config(h: Hart, group: int) -> Value:
    """pmpcfg of entries 8 * group and up."""
    value = Value(0, 64)
    for n in range(8):
        value = value | (_get(h, "pmpcfg", 8 * group + n) << (8 * n))
    return value


def write_config(h: Hart, value: Value, mask: Value, group: int) -> None:
    """Write the bytes that aren't locked.

    WARL choices: NA4 can't be selected with this granularity and becomes NAPOT, so that the rule covers the whole
    granule; W without R is reserved, and drops W.
    """
    for n in range(8):
        entry = 8 * group + n
        old = _get(h, "pmpcfg", entry)
        named = (mask >> (8 * n)) & _CONFIG_MASK
        new = (old & ~named) | ((value >> (8 * n)) & named)
        new = new & ~((~new & PMP_R) << 1)
        new = new | ((new >> 1) & (1 << PMP_A_SHIFT))
        _set(h, "pmpcfg", entry, ((old & PMP_L) != 0).mux(old, new))
    _changed(h)


def read_address(h: Hart, entry: int) -> Value:
    """pmpaddr as the granularity shows it: low ones in NAPOT mode, low zeros else. What is stored stays."""
    address = _get(h, "pmpaddr", entry)
    napot = _mode(_get(h, "pmpcfg", entry)) == PMP_NAPOT
    return napot.mux(address | ((1 << (GRAIN - 1)) - 1), address & ~((1 << GRAIN) - 1))


def write_address(h: Hart, value: Value, mask: Value, entry: int) -> None:
    """Write pmpaddr, unless its entry is locked or the entry above is a locked TOR one, whose lower bound it is.

    CSRRS and CSRRC read, modify and write: bits that the granularity hides are written as they read, not as stored.
    """
    locked = (_get(h, "pmpcfg", entry) & PMP_L) != 0
    if entry + 1 < PMP_ENTRIES:
        above = _get(h, "pmpcfg", entry + 1)
        locked = locked | (((above & PMP_L) != 0) & (_mode(above) == PMP_TOR))
    old = _get(h, "pmpaddr", entry)
    named = mask & PMPADDR_MASK
    _set(h, "pmpaddr", entry, locked.mux(old, (read_address(h, entry) & ~named) | (value & named)))
    _changed(h)


def _changed(h: Hart) -> None:
    h.call(pmp_update)
    h.flush_tlb()
