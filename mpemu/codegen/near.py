"""Near devices: ACLINT, PLIC and the virtio registers that drivers touch per interrupt, in the vCPU itself; the UART is
in uart.py.

Their registers are words of MACHINE and HART in shared memory; an access never leaves the process. The coordinator runs
the same routines (vcpu/near.py): a device's registers, its interrupt line, virtio interrupts.
"""

from __future__ import annotations

from mpemu.addresses import (
    CLINT,
    CLINT_MTIME,
    CLINT_MTIMECMP,
    CLINT_SIZE,
    PLIC,
    PLIC_SIZE,
    SSWI,
    SSWI_SIZE,
    UART,
    UART_SIZE,
    VIRTIO,
    VIRTIO_IRQ,
    VIRTIO_SIZE,
    VIRTIO_SLOTS,
)
from mpemu.codegen import uart  # noqa: F401  (its routines)
from mpemu.codegen.blocks import for_each
from mpemu.codegen.interrupts import KICK_TIMER, set_line
from mpemu.codegen.memory import LOAD_ACCESS_FAULT, STORE_ACCESS_FAULT
from mpemu.codegen.routines import Native, native
from mpemu.codegen.spinlock import release, take
from mpemu.isa.value import Value
from mpemu.layout import HART, LINES, MAX_HARTS, PLIC_SOURCES

# virtio-mmio registers, virtio 1.2 section 4.2.2
QUEUE_NOTIFY, INTERRUPT_STATUS, INTERRUPT_ACK = 0x50, 0x60, 0x64
# PLIC registers, RISC-V PLIC specification chapter 3
PLIC_PENDING, PLIC_ENABLE, PLIC_CONTEXT, PLIC_CONTEXT_SIZE = 0x1000, 0x2000, 0x20_0000, 0x1000
PLIC_WORDS = PLIC_SOURCES // 32


def in_range(pa: Value, base: int, size: int) -> Value:
    return (pa - base).ltu(size)


@native
def device_load(h: Native, pa: Value, size: Value, va: Value) -> None:
    """A load of ``size`` bytes (aligned) from something that is not RAM."""
    with h.when(in_range(pa, CLINT, CLINT_SIZE)):
        h.count("mmio_near")
        h.ret(h.call("clint_load", pa - CLINT, size, va))
    with h.when(in_range(pa, SSWI, SSWI_SIZE)):
        h.count("mmio_near")
        with h.when(size != 4):
            h.trap(LOAD_ACCESS_FAULT, va)
        h.ret(0)
    with h.when(in_range(pa, PLIC, PLIC_SIZE)):
        h.count("mmio_near")
        with h.when(size != 4):
            h.trap(LOAD_ACCESS_FAULT, va)
        h.ret(h.call("plic_load", pa - PLIC))
    with h.when(in_range(pa, UART, UART_SIZE)):
        h.count("mmio_near")
        with h.when(size == 8):
            h.trap(LOAD_ACCESS_FAULT, va)
        h.ret(h.call("uart_load", pa - UART))
    is_virtio = in_range(pa, VIRTIO, VIRTIO_SIZE * VIRTIO_SLOTS)
    with h.when(is_virtio), h.when(((pa & (VIRTIO_SIZE - 1)) == INTERRUPT_STATUS) & (size == 4)):
        h.count("mmio_near")
        slot = (pa - VIRTIO).udiv(VIRTIO_SIZE)
        h.ret(h.get(h.machine("virtio_isr", slot), 32, "seq_cst"))
    h.call("far_load", pa, size)


@native
def device_store(h: Native, pa: Value, value: Value, size: Value, va: Value) -> None:
    """A store of ``size`` bytes (aligned) to something that is not RAM."""
    with h.when(in_range(pa, CLINT, CLINT_SIZE)):
        h.count("mmio_near")
        h.ret(h.call("clint_store", pa - CLINT, value, size, va))
    with h.when(in_range(pa, SSWI, SSWI_SIZE)):
        h.count("mmio_near")
        with h.when(size != 4):
            h.trap(STORE_ACCESS_FAULT, va)
        index = (pa - SSWI) >> 2
        with h.when(index.ltu(h.m.harts) & ((value & 1) != 0)):
            h.call("send_line", index, LINES.index("ssip"), 1)
        h.ret(0)
    with h.when(in_range(pa, PLIC, PLIC_SIZE)):
        h.count("mmio_near")
        with h.when(size != 4):
            h.trap(STORE_ACCESS_FAULT, va)
        h.ret(h.call("plic_store", pa - PLIC, value & 0xFFFF_FFFF))
    with h.when(in_range(pa, UART, UART_SIZE)):
        with h.when(size == 8):
            h.trap(STORE_ACCESS_FAULT, va)
        with h.when(h.call("uart_store", pa - UART, value) != 0):
            h.call("far_store", pa, value, size)
        h.count("mmio_near")
        h.ret(0)
    with h.when(in_range(pa, VIRTIO, VIRTIO_SIZE * VIRTIO_SLOTS) & (size == 4)):
        slot, register = (pa - VIRTIO).udiv(VIRTIO_SIZE), pa & (VIRTIO_SIZE - 1)
        with h.when(register == INTERRUPT_ACK):
            h.count("mmio_near")
            h.ret(h.call("virtio_acknowledge", slot, value))
        doorbell = h.get(h.machine("virtio_doorbell", slot))
        with h.when((register == QUEUE_NOTIFY) & (doorbell != 0) & value.ltu(64)):
            h.count("mmio_near")
            h.rmw("or", h.machine("virtio_notify", slot), Value(1, 64) << value)
            h.call("signal", doorbell - 1)
            h.ret(0)
    h.call("far_store", pa, value, size)


@native
def signal(h: Native, fd: Value) -> None:
    """Add 1 to an eventfd."""
    one = h.b.alloca("i64")
    h.put(one, 1)
    h.host("write", "i32, ptr, i64", str(fd.lo(32).raw), one, "8")


@native
def send_line(h: Native, index: Value, line: Value, value: Value) -> None:
    """Set a line of hart ``index`` and wake it."""
    other = h.other_hart(index)
    h.put(h.b.pointer(h.hart("lines", base=other), line), value.lo(8), order="seq_cst")
    with h.when(other != h.b.from_pointer("%st")):
        h.count("ipis")
        h.s.spins = 0  # who sends does not only wait: the next wait is another one
        h.call("wake", other)


# -- ACLINT mswi and mtimer (the layout of the SiFive CLINT)
def _timer_register(h: Native, offset: Value) -> tuple[Value, Value]:
    """(hart index, 1 bit: an mtimecmp register of an existing hart)."""
    index = (offset - CLINT_MTIMECMP) >> 3
    return index, offset.geu(CLINT_MTIMECMP) & offset.ltu(CLINT_MTIME) & index.ltu(h.m.harts)


def _narrow(offset: Value, whole: Value, size: Value) -> Value:
    """What a load of 4 or 8 bytes at ``offset`` sees of a 64-bit register."""
    part = ((offset & 4) != 0).mux(whole >> 32, whole) & 0xFFFF_FFFF
    return (size == 8).mux(whole, (size == 4).mux(part.lo(32).sext(64), part))


@native
def clint_load(h: Native, offset: Value, size: Value, va: Value) -> None:
    with h.when(size.ltu(4) | (offset.ltu(CLINT_MTIMECMP) & (size != 4))):
        h.trap(LOAD_ACCESS_FAULT, va)
    with h.when(offset.ltu(CLINT_MTIMECMP)):
        index = offset >> 2
        with h.when(index.ltu(h.m.harts)):
            line = h.hart("lines", LINES.index("msip"), base=h.other_hart(index))
            h.ret(h.get(line, 8, "monotonic").zext(64))
        h.ret(0)
    index, exists = _timer_register(h, offset)
    with h.when(exists):
        h.ret(_narrow(offset, h.get(h.hart("mtimecmp", base=h.other_hart(index)), order="monotonic"), size))
    with h.when((offset & ~7) == CLINT_MTIME):
        h.ret(_narrow(offset, h.call("mtime"), size))
    h.ret(0)


@native
def clint_store(h: Native, offset: Value, value: Value, size: Value, va: Value) -> None:
    with h.when(size.ltu(4) | (offset.ltu(CLINT_MTIMECMP) & (size != 4))):
        h.trap(STORE_ACCESS_FAULT, va)
    with h.when(offset.ltu(CLINT_MTIMECMP)):
        with h.when((offset >> 2).ltu(h.m.harts)):
            h.call("send_line", offset >> 2, LINES.index("msip"), value & 1)
        h.ret(0)
    index, exists = _timer_register(h, offset)
    with h.when(exists):
        other = h.other_hart(index)
        register = h.hart("mtimecmp", base=other)
        old = h.get(register, order="monotonic")
        high = (offset & 4) != 0
        low_half = value & 0xFFFF_FFFF
        half = high.mux((old & 0xFFFF_FFFF) | (value << 32), (old & ~0xFFFF_FFFF) | low_half)
        h.put(register, (size == 8).mux(value, half), order="seq_cst")
        with h.when(other == h.b.from_pointer("%st")):
            h.call("update_timers")
        with h.otherwise():
            # the other hart owns its MTIP and its deadline: have it look
            h.rmw("or", h.hart("lines", LINES.index("kick"), base=other), KICK_TIMER, 8)
            h.call("wake", other)
        h.ret(0)
    with h.when((offset & ~7) == CLINT_MTIME):
        h.ret(0)  # writable in the specification; the clock is the machine's here


# -- PLIC
def _lock_plic(h: Native) -> None:
    take(h, "plic_lock")


def _unlock_plic(h: Native) -> None:
    release(h, "plic_lock")


def _enabled(h: Native, context: Value, source: Value) -> Value:
    word = h.get(h.machine("plic_enable", context * PLIC_WORDS + (source >> 5)), 32).zext(64)
    return ((word >> (source & 31)) & 1) != 0


def _plic_context(offset: Value) -> tuple[Value, Value]:
    """(context, offset of its register), from PLIC_CONTEXT on."""
    return (offset - PLIC_CONTEXT).udiv(PLIC_CONTEXT_SIZE), (offset - PLIC_CONTEXT) & (PLIC_CONTEXT_SIZE - 1)


@native
def plic_best(h: Native, context: Value) -> None:
    """The pending, enabled source of the highest priority above the threshold (among equals the lowest), or 0."""
    best = h.local(0)
    priority = h.local(h.get(h.machine("plic_threshold", context), 32).zext(64))

    def look(i: Value) -> None:
        source = i + 1
        waiting = h.get(h.machine("plic_pending", source), 8) != 0
        claimed = h.get(h.machine("plic_claimed", source), 8) != 0
        with h.when(waiting & ~claimed):
            mine = h.get(h.machine("plic_priority", source), 32).zext(64)
            with h.when(_enabled(h, context, source) & mine.gtu(priority.get())):
                priority.set(mine)
                best.set(source)

    for_each(h, PLIC_SOURCES - 1, look)
    h.ret(best.get())


@native
def plic_update(h: Native) -> None:
    """Set MEIP and SEIP of every hart; under the lock."""

    def one(index: Value) -> None:
        other = h.other_hart(index)
        rose = h.local(0)
        for context, line in ((index * 2, "meip"), (index * 2 + 1, "seip")):
            level = (h.call("plic_best", context) != 0).zext(8)
            with h.when(h.get(h.hart("lines", LINES.index(line), base=other), 8) != level):
                set_line(h, line, level, base=other)
                rose.set(rose.get() | level.zext(64))
        with h.when(rose.get() != 0):
            h.call("wake", other)

    for_each(h, h.m.harts, one)


@native
def plic_load(h: Native, offset: Value) -> None:
    with h.when(offset.ltu(PLIC_PENDING)):
        with h.when((offset >> 2).ltu(PLIC_SOURCES)):
            h.ret(h.get(h.machine("plic_priority", offset >> 2), 32).sext(64))
        h.ret(0)
    with h.when(offset.ltu(PLIC_ENABLE)):
        word = (offset - PLIC_PENDING) >> 2
        bits = h.local(0)
        with h.when(word.ltu(PLIC_WORDS)):

            def gather(i: Value) -> None:
                bits.set(bits.get() | (h.get(h.machine("plic_pending", word * 32 + i), 8).zext(64) << i))

            for_each(h, 32, gather)
        h.ret(bits.get().lo(32).sext(64))
    with h.when(offset.ltu(PLIC_CONTEXT)):
        context, word = (offset - PLIC_ENABLE) >> 7, ((offset - PLIC_ENABLE) & 127) >> 2
        with h.when(context.ltu(h.m.harts * 2) & word.ltu(PLIC_WORDS)):
            h.ret(h.get(h.machine("plic_enable", context * PLIC_WORDS + word), 32).sext(64))
        h.ret(0)
    context, register = _plic_context(offset)
    with h.when(context.ltu(h.m.harts * 2)):
        with h.when(register == 0):
            h.ret(h.get(h.machine("plic_threshold", context), 32).sext(64))
        with h.when(register == 4):
            _lock_plic(h)
            source = h.call("plic_best", context)
            with h.when(source != 0):
                h.put(h.machine("plic_pending", source), 0, 8)
                h.put(h.machine("plic_claimed", source), 1, 8)
                h.call("plic_update")
            _unlock_plic(h)
            h.ret(source)


@native
def plic_store(h: Native, offset: Value, value: Value) -> None:
    _lock_plic(h)
    with h.when(offset.ltu(PLIC_PENDING)), h.when((offset >> 2).ltu(PLIC_SOURCES) & (offset != 0)):
        h.put(h.machine("plic_priority", offset >> 2), (value & 7).lo(32))
    with h.otherwise():
        with h.when(offset.geu(PLIC_ENABLE) & offset.ltu(PLIC_CONTEXT)):
            context, word = (offset - PLIC_ENABLE) >> 7, ((offset - PLIC_ENABLE) & 127) >> 2
            with h.when(context.ltu(h.m.harts * 2) & word.ltu(PLIC_WORDS)):
                allowed = (word == 0).mux(value & ~1, value)
                h.put(h.machine("plic_enable", context * PLIC_WORDS + word), allowed.lo(32))
        with h.when(offset.geu(PLIC_CONTEXT)):
            context, register = _plic_context(offset)
            with h.when(context.ltu(h.m.harts * 2)):
                with h.when(register == 0):
                    h.put(h.machine("plic_threshold", context), (value & 7).lo(32))
                completes = (register == 4) & value.ltu(PLIC_SOURCES)
                with h.when(completes), h.when(_enabled(h, context, value)):  # else ignored (chapter 9)
                    h.put(h.machine("plic_claimed", value), 0, 8)
    h.call("plic_update")
    _unlock_plic(h)


@native
def plic_set_level(h: Native, source: Value, level: Value) -> None:
    """The coordinator: input line ``source`` is now ``level``."""
    _lock_plic(h)
    _set_level(h, source, level)
    _unlock_plic(h)


def _set_level(h: Native, source: Value, level: Value) -> None:
    """Under the lock. Gateways are QEMU's, and guests depend on it (xv6 never reads the UART's IIR): a request is made
    each time a device raises its line, also if it is high already; one that falls unclaimed is forgotten; a line that
    is just still high at the completion makes none."""
    h.put(h.machine("plic_level", source), level.lo(8))
    h.put(h.machine("plic_pending", source), level.lo(8))
    h.call("plic_update")


# -- virtio
@native
def virtio_acknowledge(h: Native, slot: Value, bits: Value) -> None:
    """InterruptACK: clear bits; the line falls when none is left."""
    h.rmw("and", h.machine("virtio_isr", slot), (~bits).lo(32), 32)
    h.call("virtio_line", slot)


@native
def virtio_interrupt(h: Native, slot: Value, bits: Value) -> None:
    """The coordinator: a device has something to say."""
    h.rmw("or", h.machine("virtio_isr", slot), bits.lo(32), 32)
    h.call("virtio_line", slot)


@native
def virtio_line(h: Native, slot: Value) -> None:
    """Set the slot's line from its InterruptStatus. Under the lock, so whoever comes last has seen all changes."""
    _lock_plic(h)
    waiting = h.get(h.machine("virtio_isr", slot), 32, "seq_cst") != 0
    _set_level(h, slot + VIRTIO_IRQ, waiting.zext(64))
    _unlock_plic(h)


# -- for the coordinator
@native
def raise_line(h: Native, index: Value, line: Value, value: Value) -> None:
    """Set a byte of `lines` of hart ``index`` (or bit 0 of kick, by atomic or) and wake the hart."""
    other = h.other_hart(index)
    pointer = h.b.pointer(h.hart("lines", base=other), line)
    with h.when(line == LINES.index("kick")):
        h.rmw("or", pointer, value.lo(8))
    with h.otherwise():
        h.put(pointer, value.lo(8), order="seq_cst")
    h.call("wake", other)


assert HART.item["lines"].count == len(LINES) and MAX_HARTS >= 1
