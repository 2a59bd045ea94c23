"""Native routines of guest memory: the road that an access takes when the inline TLB says no.

Translation and protection are the architecture's own routines (isa/mmu.py, isa/pmp.py). Behind them an address is RAM,
which is entered in the TLB, or a device: near ones are served here, far ones leave the native loop; their reply is
latched and the instruction runs again.
"""

from __future__ import annotations

from mpemu.codegen.marks import is_marked
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.codegen.tlb2 import remember
from mpemu.codegen.tlb_entries import MARKED_TAG, dtlb_entry
from mpemu.isa.hart import Routine
from mpemu.isa.value import Value
from mpemu.layout import DTLB_ENTRY, PAGE, PAGE_SHIFT, REGIME
from mpemu.vcpu.exits import ExitReason

READ, WRITE, FETCH = 0, 1, 2
LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT, LOAD_MISALIGNED, STORE_MISALIGNED = 5, 7, 4, 6


def ram_offset(h: Native, pa: Value) -> tuple[Value, Value]:
    """(offset in RAM, 1 bit: whether it is RAM). Accesses never cross a page, so the first byte decides."""
    offset = pa - h.m.ram_base
    return offset, offset.ltu(h.m.ram_size)


def note_used(h: Native) -> None:
    used = h.at(h.s.regime, REGIME.offset["used"])
    h.put(used, h.get(used) | 1 | ((h.s.walk_shift != PAGE_SHIFT).zext(64) << 1))


def cached(h: Native, va: Value, tag: str, bits: int = 0) -> tuple[Value, Value]:
    """(1 bit: the TLB knows the page of ``va`` by ``tag`` with ``bits``, offset in RAM if so)."""
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    hit = h.get(h.b.pointer(entry, DTLB_ENTRY.offset[tag])) == ((va & -PAGE) | bits)
    return hit, va + h.get(h.b.pointer(entry, DTLB_ENTRY.offset["addend"])) - h.m.ram


@native
def fill_dtlb(h: Native, va: Value, offset: Value, tag: Value, bits: Value) -> None:
    """Enter the page of ``va``, RAM offset ``offset``; ``tag`` 0: for reads, 8: for writes (DTLB_ENTRY).

    The other tag stays only if it says the same of the same page: after a change of the page table that no SFENCE.VMA
    has followed yet, permission and place must not come from two different PTEs.
    """
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    page = va & -PAGE
    other, here = h.b.pointer(entry, tag ^ 8), h.b.pointer(entry, tag)
    addend, size_mask = (h.b.pointer(entry, DTLB_ENTRY.offset[name]) for name in ("addend", "size_mask"))
    distance, mask = h.m.ram + offset - va, -(Value(1, 64) << h.s.walk_shift)
    same_place = (h.get(addend) == distance) & (h.get(size_mask) == mask)
    with h.when(((h.get(other) & ~MARKED_TAG) != page) | ~same_place):
        h.put(other, ALL_ONES)
    h.put(addend, distance)
    h.put(size_mask, mask)
    h.put(here, page | bits)
    with h.when((h.s.walk_bare == 0) & (h.s.walk_shift == PAGE_SHIFT)):
        remember(h, va, distance, tag, page | bits)
    note_used(h)


def crosses_page(va: Value, size: int) -> Value:
    return (va & (PAGE - 1)).gtu(PAGE - size)


def make_load(width: int) -> Routine:
    size = width // 8

    def slow_load(h: Native, va: Value) -> None:
        with h.when(h.s.mmio_latch != 0):
            _consume_latch(h, va, LOAD_ACCESS_FAULT)
        if size > 1:
            with h.when(crosses_page(va, size), likely=False):
                _load_across(h, va, size)
            hit, known = cached(h, va, "read_tag")
            with h.when(hit):  # misaligned
                h.ret(_load_misaligned(h, h.at(h.m.ram, known), width))
        with h.when(h.call("recall", va, DTLB_ENTRY.offset["read_tag"]) != 0):
            _, known = cached(h, va, "read_tag")
            h.ret(_load_at(h, va, h.at(h.m.ram, known), width))
        h.count("tlb_misses")
        pa = h.call("translate", va, READ, size)
        offset, is_ram = ram_offset(h, pa)
        with h.when(is_ram, likely=True):
            h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset["read_tag"], 0)
            h.call("open_window", va, offset, READ)
            h.ret(_load_at(h, va, h.at(h.m.ram, offset), width))
        with h.when((pa & (size - 1)) != 0):
            h.trap(LOAD_ACCESS_FAULT, va)
        h.ret(h.call("device_load", pa, size, va))

    slow_load.__name__ = f"slow_load{width}"
    return native(slow_load)


def _load_at(h: Native, va: Value, pointer: str, width: int) -> Value:
    """Within a page."""
    with h.when((va & (width // 8 - 1)) != 0):
        h.ret(_load_misaligned(h, pointer, width))
    return h.get(pointer, width, h.b.module.host.GUEST_LOAD)


def _load_misaligned(h: Native, pointer: str, width: int) -> Value:
    """Within a page. In order as an aligned load is, but not in one piece."""
    value = h.b.load(pointer, width, align=1)
    h.b.fence("acquire")
    return value


def _consume_latch(h: Native, va: Value, fault: int) -> None:
    latch = h.s.mmio_latch
    h.s.mmio_latch = 0
    with h.when(latch == 2):
        h.trap(fault, va)
    h.ret(h.s.mmio_value)


def _load_across(h: Native, va: Value, size: int) -> None:
    """A load that crosses a page, byte by byte; both pages are translated before anything is read."""
    value = h.local(0)
    for i, host in enumerate(_bytes_across(h, va, size, READ, LOAD_ACCESS_FAULT)):
        value.set(value.get() | (h.get(h.at(host), 8, h.b.module.host.GUEST_LOAD).zext(64) << (8 * i)))
    h.ret(value.get())


def _bytes_across(h: Native, va: Value, size: int, access: int, fault: int) -> list[Value]:
    """The host address of every byte of an access that crosses a page; the second one may be page 0. What is no memory
    is reported by the address of the part that lies there (privileged ISA, mtval), as a missing page is."""
    second = (va & -PAGE) + PAGE
    first_offset, first_is_ram = ram_offset(h, h.call("translate", va, access, 1))
    second_offset, second_is_ram = ram_offset(h, h.call("translate", second, access, 1))
    with h.when(~(first_is_ram & second_is_ram)):
        h.trap(fault, first_is_ram.mux(second, va))
    on_first = second - va
    start, rest = h.m.ram + first_offset, h.m.ram + second_offset - on_first
    return [on_first.gtu(i).mux(start + i, rest + i) for i in range(size)]


def make_store(width: int) -> Routine:
    size = width // 8

    def slow_store(h: Native, va: Value, value: Value) -> None:
        with h.when(h.s.mmio_latch != 0):
            _consume_latch(h, va, STORE_ACCESS_FAULT)
        if size > 1:
            with h.when(crosses_page(va, size), likely=False):
                _store_across(h, va, value, size)
            hit, known = cached(h, va, "write_tag")
            with h.when(hit):  # misaligned
                h.b.store(h.at(h.m.ram, known), value.lo(width), align=1)
                h.ret(0)
        hit, known = cached(h, va, "write_tag", MARKED_TAG)
        with h.when(hit):
            with h.when(is_marked(h, known)):
                _marked_store(h, known, value, size)
            _note_unmarked(h, va)
            _store_at(h, va, h.at(h.m.ram, known), value, size)
        with h.when(h.call("recall", va, DTLB_ENTRY.offset["write_tag"]) != 0):
            hit, known = cached(h, va, "write_tag")
            with h.when(hit):
                _store_at(h, va, h.at(h.m.ram, known), value, size)
            _marked_store(h, known, value, size)
        h.count("tlb_misses")
        pa = h.call("translate", va, WRITE, size)
        offset, is_ram = ram_offset(h, pa)
        with h.when(is_ram, likely=True):
            with h.when(is_marked(h, offset)):
                h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset["write_tag"], MARKED_TAG)
                _marked_store(h, offset, value, size)
            h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset["write_tag"], 0)
            h.call("open_window", va, offset, WRITE)
            _store_at(h, va, h.at(h.m.ram, offset), value, size)
        with h.when((pa & (size - 1)) != 0):
            h.trap(STORE_ACCESS_FAULT, va)
        h.call("device_store", pa, value, size, va)

    slow_store.__name__ = f"slow_store{width}"
    return native(slow_store)


def _store_at(h: Native, va: Value, pointer: str, value: Value, size: int) -> None:
    """Store within a page that is not marked, and return."""
    with h.when((va & (size - 1)) != 0):
        h.b.store(pointer, value.lo(8 * size), align=1)
    with h.otherwise():
        h.put(pointer, value.lo(8 * size), order="monotonic")
    h.ret(0)


def _note_unmarked(h: Native, va: Value) -> None:
    """The first level knew the page of ``va`` as marked, but it no longer is."""
    entry = dtlb_entry(h.b, h.at(h.s.regime), va)
    h.put(h.b.pointer(entry, DTLB_ENTRY.offset["write_tag"]), va & -PAGE)


def _marked_store(h: Native, offset: Value, value: Value, size: int) -> None:
    """Store on a marked page and return; what may touch two granules goes a byte at a time."""
    if size > 1:
        with h.when((offset & (size - 1)) != 0):
            for i in range(size):
                h.call("store_byte", h.m.ram + offset + i, (value >> (8 * i)) & 0xFF)
            h.ret(0)
    h.call("begin_update", offset)
    h.put(h.at(h.m.ram, offset), value.lo(8 * size), order="monotonic")
    h.call("rmw_end")
    h.ret(0)


def _store_across(h: Native, va: Value, value: Value, size: int) -> None:
    """A store that crosses a page, byte by byte; each byte honours the LR/SC marks of its page."""
    for i, host in enumerate(_bytes_across(h, va, size, WRITE, STORE_ACCESS_FAULT)):
        h.call("store_byte", host, (value >> (8 * i)) & 0xFF)
    h.ret(0)


@native
def store_byte(h: Native, host: Value, value: Value) -> None:
    """Store one byte at a host address in RAM."""
    h.call("begin_update", host - h.m.ram)
    h.put(h.at(host), value.lo(8), order="monotonic")
    h.call("rmw_end")


@native
def rmw_begin(h: Native, va: Value, size: Value) -> None:
    """Begin an AMO or CAS: the host address. On a marked page it holds the granule's version until rmw_end."""
    with h.when((va & (size - 1)) != 0):
        h.trap(STORE_MISALIGNED, va)
    hit, known = cached(h, va, "write_tag", MARKED_TAG)
    with h.when(hit):
        with h.when(~is_marked(h, known)):
            _note_unmarked(h, va)
        h.call("begin_update", known)
        h.ret(h.m.ram + known)
    with h.when(h.call("recall", va, DTLB_ENTRY.offset["write_tag"]) != 0):
        _, known = cached(h, va, "write_tag")
        h.call("begin_update", known)
        h.ret(h.m.ram + known)
    h.count("tlb_misses")
    pa = h.call("translate", va, WRITE, size)
    offset, is_ram = ram_offset(h, pa)
    with h.when(~is_ram):
        h.trap(STORE_ACCESS_FAULT, va)
    h.call("fill_dtlb", va, offset, DTLB_ENTRY.offset["write_tag"], is_marked(h, offset).mux(Value(MARKED_TAG, 64), 0))
    h.call("begin_update", offset)
    h.ret(h.m.ram + offset)


@native
def zero_block(h: Native, va: Value) -> None:
    """cbo.zero: 64 bytes of zeros; one version covers the whole granule. A fault reports ``va`` as it is."""
    offset, is_ram = ram_offset(h, h.call("translate", va, WRITE, 1) & -64)
    with h.when(~is_ram):
        h.trap(STORE_ACCESS_FAULT, va)
    h.call("begin_update", offset)
    for i in range(8):
        h.put(h.at(h.m.ram, offset + 8 * i), 0, order="monotonic")
    h.call("rmw_end")


@native
def check_cbo(h: Native, va: Value, write: Value) -> None:
    """Translate a block's address: cbo.clean/flush/inval need a load or a store to be allowed (Zicbom)."""
    access = (write != 0).mux(Value(WRITE, 64), READ)
    pa, status = h.call_status("translate", va, access, 1)
    with h.when((status != 0) & (write == 0)):
        cause = h.s.exc_cause  # CBOs report store/AMO faults
        h.trap((cause == 13).mux(Value(15, 64), STORE_ACCESS_FAULT), va)
    with h.when(status != 0):
        h.failed(status)
    _, is_ram = ram_offset(h, pa)
    with h.when(~is_ram):
        h.trap(STORE_ACCESS_FAULT, va)


@native
def host_read_pte(h: Native, pa: Value) -> None:
    """A PTE at a physical address; walk_fault tells whether it was RAM."""
    offset, is_ram = ram_offset(h, pa)
    with h.when(is_ram):
        h.s.walk_fault = 0
        h.ret(h.get(h.at(h.m.ram, offset), 64, "acquire"))
    h.s.walk_fault = ALL_ONES


@native
def host_cas_pte(h: Native, pa: Value, expected: Value, new: Value) -> None:
    """Replace a PTE atomically: 1 if it was ``expected``."""
    offset, is_ram = ram_offset(h, pa)
    with h.when(is_ram):
        with h.when(is_marked(h, offset)):
            h.call("lock_version", offset)
        with h.otherwise():
            h.s.locked_version = 0
        _, done = h.b.compare_exchange(h.at(h.m.ram, offset), expected, new)
        h.call("rmw_end")
        h.ret(done)


@native
def far_load(h: Native, pa: Value, size: Value) -> None:
    """Ask the coordinator; this instruction runs again when the reply is latched."""
    h.s.mmio_address = pa
    h.s.mmio_size = size
    h.s.mmio_write = 0
    h.leave(ExitReason.MMIO)


@native
def far_store(h: Native, pa: Value, value: Value, size: Value) -> None:
    h.s.mmio_address = pa
    h.s.mmio_size = size
    h.s.mmio_write = 1
    h.s.mmio_value = value
    h.leave(ExitReason.MMIO)


LOADS = tuple(make_load(w) for w in (8, 16, 32, 64))
STORES = tuple(make_store(w) for w in (8, 16, 32, 64))
