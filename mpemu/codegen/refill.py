"""What a region calls where its window, or site, or inline probe of the TLB says no: the access goes on if it can.

Leaving the region for a page that the TLB merely lacks would cost more than the walk. There is a function in the
interpreter for each kind of access (:func:`data_address`). It preserves nearly all registers and takes but three, so
that the cold branch costs the hot path nothing. It answers with a host address, or with 0 where the interpreter has
to do the instruction: faults, devices, pages marked for LR/SC, accesses across pages. Then nothing of the hart's
architectural state has changed, but accessed and dirty bits, which a walk may set any number of times.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.marks import is_marked
from mpemu.codegen.memory import READ, WRITE, ram_offset
from mpemu.codegen.routines import Native, native
from mpemu.codegen.sites import PRESERVING, define_extend, note_page
from mpemu.codegen.tlb2 import look_up
from mpemu.codegen.tlb_entries import dtlb_entry
from mpemu.isa.hart import Isa
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, PAGE
from mpemu.vcpu.exits import OK

SIZES = (1, 2, 4, 8)
_WALK = "data_walk"


def data_address(writes: bool, size: int, any_alignment: bool) -> str:
    """Symbol of the function for accesses of ``size`` bytes, which must be aligned unless ``any_alignment``."""
    return f"data_{'write' if writes else 'read'}{8 * size}{'' if any_alignment else '_aligned'}"


def call_data_address(b: Builder, function: str, address: Value, site: int) -> str:
    """Host address (a ptr) of a guest access, or null. ``function``: pointer to the function for it; ``site``: place of
    the site that shall be where this was (sites.py)."""
    return b.op(f"call {PRESERVING} ptr {function}(ptr %st, i64 {address.raw}, i64 {site})")


def define_data_addresses(module: Module, isa: Isa) -> None:
    _define_walk(module, isa)
    define_extend(module, isa)
    for writes in (False, True):
        for size in SIZES:
            for any_alignment in (False, True) if module.host.ANY_ALIGNMENT else (False,):
                _define(module, isa, writes, size, any_alignment)


def _define(module: Module, isa: Isa, writes: bool, size: int, any_alignment: bool) -> None:
    """Both levels of the TLB here, the rest in a routine."""
    symbol = data_address(writes, size, any_alignment)
    b = Builder(module, f"dso_local {PRESERVING} ptr @{symbol}(ptr %st, i64 %address, i64 %site)", "nounwind noinline")
    h = Native(b, isa, symbol)
    va = Value("%address", 64, b)
    tag = DTLB_ENTRY.offset["write_tag" if writes else "read_tag"]
    possible = (va & (PAGE - 1)).leu(PAGE - size) if any_alignment else (va & (size - 1)) == 0
    with h.when(~possible, likely=False):
        b.terminate("ret ptr null")
    entry = dtlb_entry(b, h.at(h.s.regime), va)
    with h.when(h.get(b.pointer(entry, tag)) == (va & -PAGE)):
        addend = h.get(b.pointer(entry, DTLB_ENTRY.offset["addend"]))
        if any_alignment:  # others have no sites
            note_page(h, h.s.regime, Value("%site", 64, b), va, addend, writes)
        b.terminate(f"ret ptr {b.to_pointer(va + addend)}")
    found, addend = look_up(h, va, tag)
    with h.when(found, likely=True):
        b.terminate(f"ret ptr {b.to_pointer(va + addend)}")
    arguments = f"ptr %st, i64 {va.raw}, i64 {size}, i64 {int(writes)}"
    b.terminate(f"ret ptr {b.op(f'call {PRESERVING} ptr @{_WALK}({arguments})')}")
    module.define(b)


def _define_walk(module: Module, isa: Isa) -> None:
    """The routine, called so that registers are preserved: they are saved here, only if it comes to that."""
    parameters = "ptr %st, i64 %address, i64 %size, i64 %writes"
    b = Builder(module, f"dso_local {PRESERVING} ptr @{_WALK}({parameters})", "nounwind noinline")
    h = Native(b, isa, _WALK)
    address, status = h.call_status(
        "walk_for_data", *(Value(f"%{name}", 64, b) for name in ("address", "size", "writes"))
    )
    b.terminate(f"ret ptr {b.to_pointer((status == OK).mux(address, 0))}")
    module.define(b)


@native
def walk_for_data(h: Native, va: Value, size: Value, writes: Value) -> None:
    """Host address of an access of ``size`` bytes at ``va``, within a page that the TLB knows from now on, or 0."""
    for access, name in ((READ, "read_tag"), (WRITE, "write_tag")):
        with h.when(writes == access):
            pa, status = h.call_status("translate", va, access, size)
            offset, is_ram = ram_offset(h, pa)
            with h.when((status != OK) | ~is_ram):
                h.ret(0)
            if access == WRITE:
                with h.when(is_marked(h, offset)):
                    h.ret(0)
            h.count("tlb_misses")
            h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset[name], 0)
            h.call("open_window", va, offset, access)
            h.ret(h.m.ram + offset)


assert (READ, WRITE) == (0, 1)
