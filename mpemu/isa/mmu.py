"""Address translation: Bare, Sv39, Sv48, Sv57 with Svnapot, Svpbmt, Svade and Svadu, and the PMP check of the outcome.

Privileged spec 1.13, "Virtual Address Translation Process" and the sections of the Sv modes. The walk is unrolled: one
copy of a level's checks per level, and one routine for the leaf. What is cached (the TLB) is the machine's business.
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Local, routine
from mpemu.isa.pmp import pmp_check
from mpemu.isa.privileged import (
    ADUE,
    MPP_SHIFT,
    MPRV,
    MXR,
    PBMTE,
    PTE_A,
    PTE_D,
    PTE_N,
    PTE_PBMT,
    PTE_PPN_SHIFT,
    PTE_R,
    PTE_RESERVED,
    PTE_U,
    PTE_V,
    PTE_W,
    PTE_X,
    SATP_BARE,
    SATP_MODE_SHIFT,
    SATP_PPN,
    SUM,
    Access,
    Cause,
    Mode,
)
from mpemu.isa.value import Value

LEVELS = 3
"""Levels that every paged mode has (Sv39); Sv48 and Sv57 have one and two more."""
NAPOT_SHIFT = 16
"""log2 of the one NAPOT size that there is: 64 KiB, sixteen PTEs whose ppn ends in 1000."""


def _access_fault(h: Hart, va: Value, access: Value) -> None:
    loads = (access == Access.LOAD).mux(Value(Cause.LOAD_ACCESS, 64), Cause.STORE_ACCESS)
    h.trap((access == Access.FETCH).mux(Cause.FETCH_ACCESS, loads), va)


def _page_fault(h: Hart, va: Value, access: Value) -> None:
    loads = (access == Access.LOAD).mux(Value(Cause.LOAD_PAGE, 64), Cause.STORE_PAGE)
    h.trap((access == Access.FETCH).mux(Cause.FETCH_PAGE, loads), va)


def _any(value: Value, mask: int) -> Value:
    """1 if one of the bits of ``mask`` is set."""
    return (value & mask) != 0


def _page_of(pte: Value) -> Value:
    """Physical address of what the PTE points to."""
    return ((pte >> PTE_PPN_SHIFT) & SATP_PPN) << 12


def _low_bits(count: Value) -> Value:
    """The mask of the ``count`` lowest bits."""
    return (Value(1, 64) << count) - 1


@routine
def translate(h: Hart, va: Value, access: Value, size: Value) -> None:
    """Physical address of ``va`` for an :class:`Access` of ``size`` bytes, or the exception it raises.

    An access that crosses a page is translated page by page by the caller. Leaves log2 of the page size in walk_shift,
    and in walk_bare whether there is no paging.
    """
    mstatus = h.s.mstatus
    as_mpp = (access != Access.FETCH) & _any(mstatus, MPRV)
    priv = as_mpp.mux((mstatus >> MPP_SHIFT) & 3, h.s.priv)
    satp = h.s.satp
    mode = satp >> SATP_MODE_SHIFT
    bare = (priv == Mode.M) | (mode == SATP_BARE)
    with h.when(bare):
        with h.when(h.call(pmp_check, va, size, access, priv) == 0):
            _access_fault(h, va, access)
        h.s.walk_shift = 12
        h.s.walk_bare = 1
        h.ret(va)
    if bare.constant == 1:
        return  # the reference model knows, and would trace the walk for nothing

    levels = mode - 5  # 8, 9, 10 are Sv39, Sv48, Sv57
    unused = (64 - 12 - levels * 9) & 63
    with h.when((va << unused).sra(unused) != va):
        _page_fault(h, va, access)
    table = h.local((satp & SATP_PPN) << 12)
    most = LEVELS + (2 if h.isa.has("Sv57") else 1 if h.isa.has("Sv48") else 0)
    for level in reversed(range(most)):
        if level < LEVELS:
            _step(h, va, access, size, priv, table, level)
        else:
            with h.when(levels.gtu(level)):
                _step(h, va, access, size, priv, table, level)


def _step(h: Hart, va: Value, access: Value, size: Value, priv: Value, table: Local, level: int) -> None:
    """Look at the PTE of one level: return the leaf's translation, or set ``table`` to the next table."""
    shift = 12 + 9 * level
    address = table.get() + (((va >> shift) & 0x1FF) << 3)
    with h.when(h.call(pmp_check, address, 8, Access.LOAD, Mode.S) == 0):
        _access_fault(h, va, access)
    pte = h.read_pte(address)
    with h.when(h.s.walk_fault != 0):
        _access_fault(h, va, access)
    write_only = (pte & (PTE_R | PTE_W)) == PTE_W
    with h.when(~_any(pte, PTE_V) | write_only | _any(pte, PTE_RESERVED)):
        _page_fault(h, va, access)
    with h.when(_any(pte, PTE_R | PTE_X)):
        h.ret(h.call(translate_leaf, va, access, size, priv, pte, address, shift))
    if level == 0:
        _page_fault(h, va, access)
        return
    with h.when(_any(pte, PTE_D | PTE_A | PTE_U | PTE_PBMT | PTE_N)):
        _page_fault(h, va, access)
    table.set(_page_of(pte))


@routine
def translate_leaf(
    h: Hart, va: Value, access: Value, size: Value, priv: Value, pte: Value, address: Value, shift: Value
) -> None:
    """Finish a translation at the leaf ``pte``, read at ``address``, of a page of 2**shift bytes."""
    mstatus = h.s.mstatus
    load, store, fetch = access == Access.LOAD, access == Access.STORE, access == Access.FETCH
    page = _page_of(pte)

    # Encodings that are reserved, and superpages that are not aligned.
    wrong = _any(pte, PTE_PBMT)
    if h.isa.has("Svpbmt"):
        wrong = wrong & (~_any(h.s.menvcfg, PBMTE) | ((pte & PTE_PBMT) == PTE_PBMT))
    misaligned = (page & _low_bits(shift)) != 0
    napot = _any(pte, PTE_N)
    if h.isa.has("Svnapot"):
        whole = (page & ((1 << NAPOT_SHIFT) - 1)) == 1 << (NAPOT_SHIFT - 1)
        wrong = wrong | napot.mux(~((shift == 12) & whole), misaligned)
        shift = napot.mux(NAPOT_SHIFT, shift)
    else:
        wrong = wrong | napot | misaligned

    # The U bit; then R, W, X, whose places in the PTE follow the numbers of accesses.
    user = _any(pte, PTE_U)
    hidden = (priv == Mode.U).mux(~user, user & (fetch | ~_any(mstatus, SUM)))
    permitted = ((pte >> (access + 1)) & 1) != 0
    executable = load & _any(mstatus, MXR) & _any(pte, PTE_X)
    with h.when(wrong | hidden | ~(permitted | executable)):
        _page_fault(h, va, access)

    with h.when(~_any(pte, PTE_A) | (store & ~_any(pte, PTE_D))):
        _update_pte(h, va, access, size, pte, address)

    offset = _low_bits(shift)
    pa = (page & ~offset) | (va & offset)
    with h.when(h.call(pmp_check, pa, size, access, priv) == 0):
        _access_fault(h, va, access)
    h.s.walk_shift = shift
    h.s.walk_bare = 0
    h.ret(pa)


def _update_pte(h: Hart, va: Value, access: Value, size: Value, pte: Value, address: Value) -> None:
    """Set A, and D for a store, or raise the page fault that asks software to (Svade).

    The update is a compare-and-swap of the whole PTE. If another hart has changed it meanwhile, the translation starts
    over, which the manual's algorithm allows (it goes back to reading the PTE). A call goes deeper only if somebody won
    the race again, so the depth is bounded by luck alone, but steeply: there is no spurious fault and no way to spin.
    """
    if h.isa.has("Svadu"):
        with h.when(~_any(h.s.menvcfg, ADUE)):
            _page_fault(h, va, access)
    elif h.isa.has("Svade"):
        _page_fault(h, va, access)
        return
    with h.when(h.call(pmp_check, address, 8, Access.STORE, Mode.S) == 0):
        _access_fault(h, va, access)
    new = pte | (access == Access.STORE).mux(Value(PTE_A | PTE_D, 64), PTE_A)
    with h.when(h.cas_pte(address, pte, new) == 0):
        h.ret(h.call(translate, va, access, size))
