"""What a region calls where a stretch, or an inline probe of the TLB, says no: the access goes on if it can.

Leaving the region for a page that the TLB merely lacks would cost more than the walk. There is a function in the
interpreter for each kind of access by the TLB (:func:`data_address`), and two that find stretches
(:func:`data_stretch`). They preserve nearly all registers and take but three, so that the cold branch costs the hot
path nothing. They answer with 0 where the interpreter has to do the instruction: faults, devices, pages marked for
LR/SC, what is not in RAM in one piece. Then nothing of the hart's architectural state has changed, but accessed and
dirty bits of the page that is accessed, which a walk may set any number of times.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.marks import is_marked
from mpemu.codegen.memory import READ, WRITE, ram_offset
from mpemu.codegen.routines import Native, native
from mpemu.codegen.sites import FAR_FROM_END, PRESERVING, define_extend, note_page, site_holds
from mpemu.codegen.tlb2 import look_up
from mpemu.codegen.tlb_entries import dtlb_entry
from mpemu.isa.hart import Isa
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, PAGE
from mpemu.vcpu.exits import OK

SIZES = (1, 2, 4, 8)
_WALK, _REST = "data_walk", "_rest"


def data_address(writes: bool, size: int) -> str:
    """Symbol of the function for accesses of ``size`` bytes, which must be aligned."""
    return f"data_{'write' if writes else 'read'}{8 * size}"


def call_data_address(b: Builder, function: str, address: Value) -> str:
    """Host address (a ptr) of a guest access, or null. ``function``: pointer to the function for it."""
    return b.op(f"call {PRESERVING} ptr {function}(ptr %st, i64 {address.raw})")


def data_stretch(writes: bool) -> str:
    """Symbol of the function that finds a stretch (stretches.py)."""
    return f"data_stretch_{'writes' if writes else 'reads'}"


def call_data_stretch(b: Builder, function: str, first: Value, site: int, size: int, access: int, width: int) -> Value:
    """Not 0: the site at ``site`` has ``size`` bytes from ``first`` on. ``access``: if not 0, ``width`` bytes at
    ``first`` + ``access`` - 1 are accessed next, and may be walked for."""
    what = site | size << 16 | access << 32 | width << 48
    return b.value(b.op(f"call {PRESERVING} i64 {function}(ptr %st, i64 {first.raw}, i64 {what})"))


def _define_stretch(module: Module, isa: Isa, writes: bool) -> None:
    """What is on one page that the first level of the TLB knows; the rest is :func:`_define_rest_of_stretch`'s, so that
    this needs few registers."""
    symbol = data_stretch(writes)
    b = Builder(module, f"dso_local {PRESERVING} i64 @{symbol}(ptr %st, i64 %first, i64 %what)", "nounwind noinline")
    h = Native(b, isa, symbol)
    first, what = Value("%first", 64, b), Value("%what", 64, b)
    place, size = what & 0xFFFF, (what >> 16) & 0xFFFF
    entry = dtlb_entry(b, h.at(h.s.regime), first)
    known = h.get(b.pointer(entry, _tag(writes))) == (first & -PAGE)
    is_plain = known & ((first & (PAGE - 1)) + size).leu(PAGE) & _is_far_from_end(first)
    with h.when(is_plain, likely=True):
        with h.when(~site_holds(h, h.s.regime, place, first, size)):
            addend = h.get(b.pointer(entry, DTLB_ENTRY.offset["addend"]))
            note_page(h, h.s.regime, place, first, addend, writes)
        b.terminate("ret i64 1")
    b.terminate(f"ret i64 {b.op(f'call {PRESERVING} i64 @{symbol}{_REST}(ptr %st, i64 %first, i64 %what)')}")
    module.define(b)


def _tag(writes: bool) -> int:
    """Offset in DTLB_ENTRY."""
    return DTLB_ENTRY.offset["write_tag" if writes else "read_tag"]


def _is_far_from_end(address: Value) -> Value:
    return address.ltu(-FAR_FROM_END % (1 << 64))


def _define_rest_of_stretch(module: Module, isa: Isa, writes: bool) -> None:
    symbol = data_stretch(writes) + _REST
    b = Builder(module, f"dso_local {PRESERVING} i64 @{symbol}(ptr %st, i64 %first, i64 %what)", "nounwind noinline")
    h = Native(b, isa, symbol)
    first, what = Value("%first", 64, b), Value("%what", 64, b)
    place, size, access, width = what & 0xFFFF, (what >> 16) & 0xFFFF, (what >> 32) & 0xFFFF, what >> 48
    last = first + (size - 1)
    va = first + (access - 1)
    tag = _tag(writes)
    with h.when(~_is_far_from_end(first)):
        b.terminate("ret i64 0")
    with h.when(access != 0):
        known, _ = _known(h, va, tag)
        with h.when(~known, likely=False):
            within = (va & (PAGE - 1)).leu(Value(PAGE, 64) - width)
            with h.when(~within):
                b.terminate("ret i64 0")
            arguments = f"ptr %st, i64 {va.raw}, i64 {width.raw}, i64 {int(writes)}"
            walked = h.b.from_pointer(b.op(f"call {PRESERVING} ptr @{_WALK}({arguments})"))
            with h.when(walked == 0):
                b.terminate("ret i64 0")
    known, addend = _known(h, first, tag)
    with h.when(~known, likely=False):
        b.terminate("ret i64 0")
    with h.when(~site_holds(h, h.s.regime, place, first, Value(1, 64))):
        note_page(h, h.s.regime, place, first, addend, writes)
    with h.when(((first ^ last) & -PAGE) != 0, likely=False):
        known, other = _known(h, last, tag)
        with h.when(~known):
            b.terminate("ret i64 0")
        with h.when(~site_holds(h, h.s.regime, place, last, Value(1, 64))):
            note_page(h, h.s.regime, place, last, other, writes)
    b.terminate(f"ret i64 {site_holds(h, h.s.regime, place, first, size).zext(64).raw}")
    module.define(b)


def _known(h: Native, va: Value, tag: int) -> tuple[Value, Value]:
    """(1 bit: either level of the TLB knows the page of ``va``; its addend)."""
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    known = h.local(h.get(h.b.pointer(entry, tag)) == (va & -PAGE), 1)
    addend = h.local(h.get(h.b.pointer(entry, DTLB_ENTRY.offset["addend"])))
    with h.when(~known.get(), likely=False):
        found, other = look_up(h, va, tag)
        known.set(found)
        addend.set(other)
    return known.get(), addend.get()


def define_data_addresses(module: Module, isa: Isa) -> None:
    _define_walk(module, isa)
    define_extend(module, isa)
    for writes in (False, True):
        if module.host.ANY_ALIGNMENT:
            _define_rest_of_stretch(module, isa, writes)
            _define_stretch(module, isa, writes)
        for size in SIZES:
            _define(module, isa, writes, size)


def _define(module: Module, isa: Isa, writes: bool, size: int) -> None:
    """Both levels of the TLB here, the rest in a routine."""
    symbol = data_address(writes, size)
    b = Builder(module, f"dso_local {PRESERVING} ptr @{symbol}(ptr %st, i64 %address)", "nounwind noinline")
    h = Native(b, isa, symbol)
    va = Value("%address", 64, b)
    tag = _tag(writes)
    with h.when((va & (size - 1)) != 0, likely=False):
        b.terminate("ret ptr null")
    found, addend = _known(h, va, tag)
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
