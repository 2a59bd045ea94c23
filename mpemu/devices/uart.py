"""UART ns16550a (National Semiconductor PC16550D data sheet, section 8), the board's console.

Characters are sent at once: the transmitter is empty except while the backend is congested, which is how back-pressure
reaches the guest. Input waits in the backend until the FIFO has room, so nothing is dropped. The receive time-out of a
partly filled FIFO comes without a delay. Registers are bytes; wider accesses see them zero-extended.
"""

from __future__ import annotations

from collections import deque

from mpemu.addresses import UART, UART_IRQ
from mpemu.devices.chardev import Chardev
from mpemu.devices.device import DeviceContext, MmioDevice, MmioProperties, State
from mpemu.devicetree import Node

# Offsets; the second names are those of writing, or with LCR.DLAB set.
RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR = 3
MCR = 4
LSR = 5
MSR = 6
SCR = 7

IER_RECEIVED, IER_EMPTY, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_EMPTY, IIR_RECEIVED, IIR_LINE, IIR_TIMEOUT = 1, 0, 2, 4, 6, 12
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_READY, LSR_OVERRUN, LSR_ERRORS, LSR_EMPTY, LSR_IDLE = 1, 2, 0x1E, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_RI_FELL = 4

FIFO_SIZE = 16
_TRIGGER = (1, 4, 8, 14)
_CONNECTED = MSR_DCD | MSR_DSR | MSR_CTS


class UartProperties(MmioProperties):
    """``ns16550a``: the serial console."""

    address: int = UART
    irq: int = UART_IRQ
    clock_frequency: int = 3_686_400


class Uart(MmioDevice):
    type_name = "ns16550a"
    Properties = UartProperties
    size = 0x100
    sizes = frozenset({1, 2, 4})

    def __init__(self, context: DeviceContext, properties: UartProperties) -> None:
        super().__init__(context, properties)
        self._clock_frequency = properties.clock_frequency
        self._chardev = Chardev()
        self._rx: deque[int] = deque()
        self._clear()

    def attach_chardev(self, chardev: Chardev) -> None:
        """Where the characters go and come from; before realize(). The board opens and closes it."""
        self._chardev = chardev

    def realize(self) -> None:
        self._chardev.attach(self._receive, self._room, self._drained)
        self._chardev.input_wanted()

    def reset(self) -> None:
        self._clear()
        self._update()
        self._chardev.input_wanted()

    def _clear(self) -> None:
        self._rx.clear()
        self._ier = self._fcr = self._lcr = self._scratch = 0
        self._mcr = MCR_OUT2
        self._msr = _CONNECTED
        self._errors = 0
        self._divisor = 12  # 9600 baud at the usual clock
        self._empty_pending = False

    # -- the backend's side
    def _room(self) -> int:
        if self._mcr & MCR_LOOP:
            return 0
        return (FIFO_SIZE if self._fcr & FCR_ENABLE else 1) - len(self._rx)

    def _receive(self, data: bytes) -> None:
        self._rx.extend(data)
        self._update()

    def _drained(self) -> None:
        self._empty_pending = True
        self._update()

    # -- registers
    def read(self, offset: int, size: int) -> int:
        if offset == LSR:
            value = self._errors | (LSR_READY if self._rx else 0)
            if not self._chardev.congested:
                value |= LSR_EMPTY | LSR_IDLE
            if self._errors:
                self._errors = 0
                self._update()
            return value
        if offset == RBR:
            return self._divisor & 0xFF if self._lcr & LCR_DLAB else self._take()
        if offset == IER:
            return self._divisor >> 8 if self._lcr & LCR_DLAB else self._ier
        if offset == IIR:
            value = self._interrupt()
            if value == IIR_EMPTY:
                self._empty_pending = False
                self._update()
            return value | (IIR_FIFO if self._fcr & FCR_ENABLE else 0)
        if offset == LCR:
            return self._lcr
        if offset == MCR:
            return self._mcr
        if offset == MSR:
            value = self._msr
            if value & 0x0F:
                self._msr &= 0xF0
                self._update()
            return value
        return self._scratch if offset == SCR else 0

    def write(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        if offset == THR:
            if self._lcr & LCR_DLAB:
                self._divisor = self._divisor & 0xFF00 | value
            else:
                self._send(value)
        elif offset == IER:
            if self._lcr & LCR_DLAB:
                self._divisor = self._divisor & 0xFF | value << 8
            else:
                self._write_ier(value & 0x0F)
        elif offset == FCR:
            self._write_fcr(value)
        elif offset == LCR:
            self._lcr = value
        elif offset == MCR:
            self._write_mcr(value & 0x1F)
        elif offset == SCR:
            self._scratch = value

    def _take(self) -> int:
        if not self._rx:
            return 0
        value = self._rx.popleft()
        self._update()
        if not self._rx:
            self._chardev.input_wanted()
        return value

    def _send(self, value: int) -> None:
        if self._mcr & MCR_LOOP:
            if len(self._rx) < (FIFO_SIZE if self._fcr & FCR_ENABLE else 1):
                self._rx.append(value)
            else:
                self._errors |= LSR_OVERRUN
        else:
            self._chardev.write(bytes((value,)))
        self._empty_pending = not self._chardev.congested
        if self._ier:
            self._update()

    def _write_ier(self, value: int) -> None:
        if value & ~self._ier & IER_EMPTY and not self._chardev.congested:
            self._empty_pending = True
        self._ier = value
        self._update()

    def _write_fcr(self, value: int) -> None:
        if value & FCR_CLEAR_RX or (value ^ self._fcr) & FCR_ENABLE:
            self._rx.clear()
        if value & FCR_CLEAR_TX or (value ^ self._fcr) & FCR_ENABLE:
            self._empty_pending = True
        self._fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self._update()
        self._chardev.input_wanted()

    def _write_mcr(self, value: int) -> None:
        self._mcr = value
        lines = _CONNECTED
        if value & MCR_LOOP:
            lines = (
                (MSR_DSR if value & MCR_DTR else 0)
                | (MSR_CTS if value & MCR_RTS else 0)
                | (MSR_RI if value & MCR_OUT1 else 0)
                | (MSR_DCD if value & MCR_OUT2 else 0)
            )
        changed = (lines ^ self._msr) >> 4
        if not self._msr & MSR_RI:  # the ring indicator only reports its trailing edge
            changed &= ~MSR_RI_FELL
        self._msr = lines | self._msr & 0x0F | changed
        self._update()
        self._chardev.input_wanted()

    # -- interrupts, by priority
    def _interrupt(self) -> int:
        if self._errors and self._ier & IER_LINE:
            return IIR_LINE
        if self._rx and self._ier & IER_RECEIVED:
            enough = not self._fcr & FCR_ENABLE or len(self._rx) >= _TRIGGER[self._fcr >> 6]
            return IIR_RECEIVED if enough else IIR_TIMEOUT
        if self._empty_pending and self._ier & IER_EMPTY:
            return IIR_EMPTY
        if self._msr & 0x0F and self._ier & IER_MODEM:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self.irq.set(self._interrupt() != IIR_NONE)

    def fdt_nodes(self) -> list[Node]:
        node = self.node("serial", "ns16550a")
        node.properties["clock-frequency"] = self._clock_frequency
        return [node]

    def state(self) -> State:
        return {
            "rx": bytes(self._rx),
            "ier": self._ier,
            "fcr": self._fcr,
            "lcr": self._lcr,
            "mcr": self._mcr,
            "msr": self._msr,
            "scratch": self._scratch,
            "errors": self._errors,
            "divisor": self._divisor,
            "empty_pending": self._empty_pending,
        }

    def load_state(self, state: State) -> None:
        self._rx = deque(state["rx"])
        self._ier, self._fcr, self._lcr, self._mcr = state["ier"], state["fcr"], state["lcr"], state["mcr"]
        self._msr, self._scratch, self._errors = state["msr"], state["scratch"], state["errors"]
        self._divisor, self._empty_pending = state["divisor"], state["empty_pending"]
        self._update()
        self._chardev.input_wanted()
