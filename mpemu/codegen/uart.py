"""The UART ns16550a (National Semiconductor PC16550D data sheet, section 8), near: its registers in the vCPU itself.

The chip's registers and its receive FIFO are words of MACHINE under uart_lock. Behind them is a ring in each direction,
under the same lock: output waits in uart_tx for the coordinator, input that the coordinator has read in uart_rx for
room in the FIFO. One doorbell tells the coordinator of both; it rings only after the coordinator has said that it found
nothing to do, which it says under the lock, so no byte is forgotten.

Characters are sent at once: the transmitter is empty as long as the ring has room for a FIFO of them. In a parallel
machine that is how back-pressure reaches the guest. A store to a full ring goes far: the coordinator makes room and
repeats it. In deterministic mode the guest must not see how fast the coordinator is: the transmitter is always empty,
and uart_tx_limit moves in far stores only, so those come at the same instructions in every run.

The receive time-out of a partly filled FIFO comes without a delay. Registers are bytes; wider accesses see them
zero-extended.
"""

from __future__ import annotations

from mpemu.addresses import UART_IRQ
from mpemu.codegen.blocks import for_each
from mpemu.codegen.routines import Native, native
from mpemu.codegen.spinlock import release, take
from mpemu.isa.value import Value
from mpemu.layout import UART_FIFO, UART_RING

# Offsets; the second names are those of writing, or with LCR.DLAB set.
RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7

IER_RECEIVED, IER_EMPTY, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_EMPTY, IIR_RECEIVED, IIR_LINE, IIR_TIMEOUT = 1, 0, 2, 4, 6, 12
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX, FCR_WRITABLE = 1, 2, 4, 0xC9
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_READY, LSR_OVERRUN, LSR_EMPTY, LSR_IDLE = 1, 2, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_RI_FELL, MSR_CHANGES = 4, 0x0F
CONNECTED = MSR_DCD | MSR_DSR | MSR_CTS
DIVISOR_AT_RESET = 12
"""9600 baud at the usual clock."""


# -- conditions, under the lock
def _has(register: Value, bit: int) -> Value:
    return (register & bit) != 0


def _looped(h: Native) -> Value:
    return _has(h.m.uart_mcr, MCR_LOOP)


def _deterministic(h: Native) -> Value:
    return h.m.clock_mode == 2


def _transmitter_empty(h: Native) -> Value:
    """A guest that sees this may send a FIFO of characters."""
    return _deterministic(h) | (h.m.uart_tx_limit - h.m.uart_tx_tail).geu(UART_FIFO)


def _fifo_size(h: Native) -> Value:
    return _has(h.m.uart_fcr, FCR_ENABLE).mux(Value(UART_FIFO, 64), 1)


def _interrupt(h: Native) -> Value:
    """What IIR says, by priority."""
    ier, fcr, waiting = h.m.uart_ier, h.m.uart_fcr, h.m.uart_fifo_count
    level = fcr >> 6
    trigger = (level == 0).mux(Value(1, 64), (level == 1).mux(Value(4, 64), (level == 2).mux(Value(8, 64), 14)))
    enough = ~_has(fcr, FCR_ENABLE) | waiting.geu(trigger)
    found = (_has(h.m.uart_msr, MSR_CHANGES) & _has(ier, IER_MODEM)).mux(Value(IIR_MODEM, 64), IIR_NONE)
    found = ((h.m.uart_empty_pending != 0) & _has(ier, IER_EMPTY)).mux(Value(IIR_EMPTY, 64), found)
    received = enough.mux(Value(IIR_RECEIVED, 64), IIR_TIMEOUT)
    found = ((waiting != 0) & _has(ier, IER_RECEIVED)).mux(received, found)
    return ((h.m.uart_errors != 0) & _has(ier, IER_LINE)).mux(Value(IIR_LINE, 64), found)


# -- steps, under the lock
def _ring(h: Native) -> None:
    """Have :func:`_leave` ring the doorbell."""
    h.m.uart_ring = 1


def _leave(h: Native, event: Value) -> None:
    """The interrupt line as the registers are now; then unlock, and ring the doorbell if somebody asked for that.

    ``event``: something happened of which the line tells, so a line that is high already is raised once more, as QEMU
    does it; guests depend on it (xv6 never reads IIR). A request that is still pending need not be repeated.
    """
    level = (_interrupt(h) != IIR_NONE).zext(8)
    changed = h.get(h.machine("plic_level", UART_IRQ), 8) != level
    again = event & (level != 0) & (h.get(h.machine("plic_pending", UART_IRQ), 8, "monotonic") == 0)
    with h.when(changed | again):
        h.call("plic_set_level", UART_IRQ, level.zext(64))
    bell = (h.m.uart_ring != 0).mux(h.m.uart_doorbell, 0)
    h.m.uart_ring = 0
    release(h, "uart_lock")
    with h.when(bell != 0):
        h.call("signal", bell - 1)


def _push(h: Native, byte: Value) -> None:
    """Into the receive FIFO, which has room."""
    count = h.m.uart_fifo_count
    h.put(h.machine("uart_fifo", (h.m.uart_fifo_first + count) & (UART_FIFO - 1)), byte.lo(8))
    h.m.uart_fifo_count = count + 1


def _refill(h: Native) -> None:
    """Move input from the ring to the FIFO; tell the coordinator if it waits and the ring is half empty."""
    with h.when(~_looped(h)), h.loop() as done:
        head = h.m.uart_rx_head
        with h.when((head == h.m.uart_rx_tail) | h.m.uart_fifo_count.geu(_fifo_size(h))):
            done()
        _push(h, h.get(h.machine("uart_rx", head & (UART_RING - 1)), 8))
        h.m.uart_rx_head = head + 1
    half_empty = (h.m.uart_rx_tail - h.m.uart_rx_head).leu(UART_RING // 2)
    with h.when((h.m.uart_rx_waiting != 0) & half_empty):
        h.m.uart_rx_waiting = 0
        _ring(h)


# -- registers
@native
def uart_load(h: Native, offset: Value) -> None:
    """The register at ``offset``, and what reading it does."""
    take(h, "uart_lock")
    value, event = h.local(0), h.local(0, 1)
    divisor, latch = h.m.uart_divisor, _has(h.m.uart_lcr, LCR_DLAB)
    with h.when(offset == RBR):
        value.set(divisor & 0xFF)
        with h.when(~latch):
            value.set(_take_character(h))
            event.set(1)
    with h.when(offset == IER):
        value.set(latch.mux(divisor >> 8, h.m.uart_ier))
    with h.when(offset == IIR):
        cause = _interrupt(h)
        value.set(cause | _has(h.m.uart_fcr, FCR_ENABLE).mux(Value(IIR_FIFO, 64), 0))
        with h.when(cause == IIR_EMPTY):
            h.m.uart_empty_pending = 0
            event.set(1)
    for at, name in ((LCR, "uart_lcr"), (MCR, "uart_mcr"), (MSR, "uart_msr"), (SCR, "uart_scr")):
        with h.when(offset == at):
            value.set(getattr(h.m, name))
    with h.when(offset == MSR):
        event.set(_has(h.m.uart_msr, MSR_CHANGES))
        h.m.uart_msr = h.m.uart_msr & ~MSR_CHANGES
    patient = h.local(0)
    with h.when(offset == LSR):
        empty = _transmitter_empty(h)
        ready = (h.m.uart_fifo_count != 0).mux(Value(LSR_READY, 64), 0)
        value.set(h.m.uart_errors | ready | empty.mux(Value(LSR_EMPTY | LSR_IDLE, 64), 0))
        event.set(h.m.uart_errors != 0)
        h.m.uart_errors = 0
        patient.set((~empty).zext(64))
    _leave(h, event.get())
    with h.when(patient.get() != 0):
        h.call("spin_hint")  # the guest polls for a coordinator that may need this core
    h.ret(value.get())


def _take_character(h: Native) -> Value:
    """The oldest of the FIFO, 0 if it is empty."""
    byte = h.local(0)
    with h.when(h.m.uart_fifo_count != 0):
        first = h.m.uart_fifo_first
        byte.set(h.get(h.machine("uart_fifo", first & (UART_FIFO - 1)), 8).zext(64))
        h.m.uart_fifo_first = (first + 1) & (UART_FIFO - 1)
        h.m.uart_fifo_count = h.m.uart_fifo_count - 1
        _refill(h)
    return byte.get()


@native
def uart_store(h: Native, offset: Value, stored: Value) -> None:
    """Write the register at ``offset``. 1: the ring is full, nothing was done, the store must go far."""
    take(h, "uart_lock")
    value = stored & 0xFF
    divisor, latch = h.m.uart_divisor, _has(h.m.uart_lcr, LCR_DLAB)
    with h.when((offset == THR) & latch):
        h.m.uart_divisor = (divisor & 0xFF00) | value
    with h.when((offset == THR) & ~latch):
        with h.when(~_looped(h) & (h.m.uart_tx_tail == h.m.uart_tx_limit)):
            release(h, "uart_lock")
            h.ret(1)
        _send(h, value)
    with h.when((offset == IER) & latch):
        h.m.uart_divisor = (divisor & 0xFF) | (value << 8)
    with h.when((offset == IER) & ~latch):
        with h.when(_has(value & ~h.m.uart_ier, IER_EMPTY) & _transmitter_empty(h)):
            h.m.uart_empty_pending = 1
        h.m.uart_ier = value & 0x0F
    with h.when(offset == FCR):
        _write_fcr(h, value)
    with h.when(offset == LCR):
        h.m.uart_lcr = value
    with h.when(offset == MCR):
        _write_mcr(h, value & 0x1F)
    with h.when(offset == SCR):
        h.m.uart_scr = value
    _leave(h, (offset == THR) & ~latch | (offset == IER) & ~latch | (offset == FCR))


def _send(h: Native, value: Value) -> None:
    with h.when(_looped(h)):
        with h.when(h.m.uart_fifo_count.ltu(_fifo_size(h))):
            _push(h, value)
        with h.otherwise():
            h.m.uart_errors = LSR_OVERRUN
    with h.otherwise():
        tail = h.m.uart_tx_tail
        h.put(h.machine("uart_tx", tail & (UART_RING - 1)), value.lo(8))
        h.m.uart_tx_tail = tail + 1
        with h.when(h.m.uart_tx_idle != 0):
            h.m.uart_tx_idle = 0
            _ring(h)
    h.m.uart_empty_pending = _transmitter_empty(h).zext(64)


def _write_fcr(h: Native, value: Value) -> None:
    switched = _has(value ^ h.m.uart_fcr, FCR_ENABLE)
    with h.when(_has(value, FCR_CLEAR_RX) | switched):
        h.m.uart_fifo_count = 0
    with h.when(_has(value, FCR_CLEAR_TX) | switched):
        h.m.uart_empty_pending = 1
    h.m.uart_fcr = _has(value, FCR_ENABLE).mux(value & FCR_WRITABLE, 0)
    _refill(h)


def _write_mcr(h: Native, value: Value) -> None:
    h.m.uart_mcr = value
    lines = Value(0, 64)
    for output, line in ((MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)):
        lines = lines | _has(value, output).mux(Value(line, 64), 0)
    lines = _looped(h).mux(lines, CONNECTED)
    old = h.m.uart_msr
    changed = (lines ^ old) >> 4
    # the ring indicator only reports its trailing edge
    changed = _has(old, MSR_RI).mux(changed, changed & ~MSR_RI_FELL)
    h.m.uart_msr = lines | (old & MSR_CHANGES) | (changed & MSR_CHANGES)
    _refill(h)


# -- for the coordinator
@native
def uart_reset(h: Native) -> None:
    """The chip as after power-on. What the rings hold stays: output that the guest has sent, input it has not seen."""
    take(h, "uart_lock")
    for name in ("ier", "fcr", "lcr", "scr", "errors", "empty_pending", "fifo_first", "fifo_count"):
        setattr(h.m, f"uart_{name}", 0)
    h.m.uart_mcr = MCR_OUT2
    h.m.uart_msr = CONNECTED
    h.m.uart_divisor = DIVISOR_AT_RESET
    _refill(h)
    _leave(h, Value(0, 1))


@native
def uart_take(h: Native, buffer: Value, free: Value) -> None:
    """Move all output to ``buffer``, of UART_RING bytes at least; the count. The doorbell rings at the next character.

    With ``free`` the room is the guest's again.
    """
    take(h, "uart_lock")
    was_empty = _transmitter_empty(h)
    drained = ~was_empty & (free != 0)
    head = h.m.uart_tx_head
    count = h.m.uart_tx_tail - head
    for_each(h, count, lambda i: h.put(h.at(buffer, i), h.get(h.machine("uart_tx", (head + i) & (UART_RING - 1)), 8)))
    h.m.uart_tx_head = head + count
    h.m.uart_tx_idle = 1
    with h.when(free != 0):
        h.m.uart_tx_limit = head + count + UART_RING
        with h.when(drained):
            h.m.uart_empty_pending = 1
    _leave(h, drained)
    h.ret(count)


@native
def uart_room(h: Native) -> None:
    """Characters that uart_receive takes now. None: the doorbell rings when there is room."""
    take(h, "uart_lock")
    room = UART_RING - (h.m.uart_rx_tail - h.m.uart_rx_head)
    with h.when(room == 0):
        h.m.uart_rx_waiting = 1
    release(h, "uart_lock")
    h.ret(room)


@native
def uart_receive(h: Native, buffer: Value, count: Value) -> None:
    """Input: ``count`` bytes, for which there is room."""
    take(h, "uart_lock")
    tail = h.m.uart_rx_tail
    for_each(h, count, lambda i: h.put(h.machine("uart_rx", (tail + i) & (UART_RING - 1)), h.get(h.at(buffer, i), 8)))
    h.m.uart_rx_tail = tail + count
    _refill(h)
    _leave(h, Value(1, 1))
