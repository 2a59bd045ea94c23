"""ns16550a at register level."""

from __future__ import annotations

import pytest

from mpemu.devices.chardev import Chardev
from mpemu.devices.uart import FCR, FIFO_SIZE, IER, IIR, LCR, LSR, MCR, MSR, RBR, SCR, THR, Uart, UartProperties
from tests.devices.machine_fakes import FakeMachine


class Host(Chardev):
    """A backend in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.output = bytearray()
        self.input = bytearray()
        self.full = False

    @property
    def congested(self) -> bool:
        return self.full

    def write(self, data: bytes) -> None:
        self.output += data

    def input_wanted(self) -> None:
        while self.input and (room := self._room()) > 0:
            data = bytes(self.input[:room])
            del self.input[:room]
            self._receive(data)

    def type(self, data: bytes) -> None:
        self.input += data
        self.input_wanted()

    def drain(self) -> None:
        self.full = False
        self._drained()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def uart(machine: FakeMachine, host: Host) -> Uart:
    uart = Uart(machine.context, UartProperties())
    uart.attach_chardev(host)
    uart.connect_irq(machine.near.set_irq)
    uart.realize()
    uart.reset()
    return uart


def level(machine: FakeMachine) -> int:
    return machine.near.levels[10]


def test_output_is_sent_at_once_and_the_transmitter_is_empty(uart: Uart, host: Host) -> None:
    for byte in b"hello":
        assert uart.read(LSR, 1) & 0x60 == 0x60
        uart.write(THR, 1, byte)
    assert host.output == b"hello"


def test_input_never_exceeds_the_fifo_and_is_not_lost(uart: Uart, host: Host) -> None:
    uart.write(FCR, 1, 1)
    text = bytes(range(100))
    host.type(text)
    assert len(host.input) == len(text) - FIFO_SIZE
    got = bytearray()
    while uart.read(LSR, 1) & 1:
        got.append(uart.read(RBR, 1))
    assert got == text


def test_without_fifo_one_character_waits(uart: Uart, host: Host) -> None:
    host.type(b"ab")
    assert host.input == b"b"
    assert uart.read(RBR, 1) == ord("a") and uart.read(RBR, 1) == ord("b")
    assert uart.read(LSR, 1) & 1 == 0 and uart.read(RBR, 1) == 0


def test_receive_interrupt_by_trigger_level_and_timeout(uart: Uart, host: Host, machine: FakeMachine) -> None:
    uart.write(FCR, 1, 0x41)  # trigger at 4
    uart.write(IER, 1, 1)
    host.type(b"abc")
    assert uart.read(IIR, 1) == 0xCC and level(machine) == 1
    host.type(b"d")
    assert uart.read(IIR, 1) == 0xC4
    for _ in range(4):
        uart.read(RBR, 1)
    assert uart.read(IIR, 1) == 0xC1 and level(machine) == 0


def test_transmit_interrupt(uart: Uart, machine: FakeMachine) -> None:
    uart.write(IER, 1, 2)
    assert level(machine) == 1 and uart.read(IIR, 1) == 2
    assert level(machine) == 0 and uart.read(IIR, 1) == 1, "reading IIR takes it back"
    uart.write(THR, 1, 65)
    assert level(machine) == 1 and uart.read(IIR, 1) == 2


def test_interrupts_by_priority(uart: Uart, host: Host) -> None:
    uart.write(IER, 1, 0xF)
    uart.write(MCR, 1, 0x10)  # loopback, modem lines fall
    uart.write(THR, 1, 1)
    uart.write(THR, 1, 2)  # overrun
    assert uart.read(IIR, 1) == 6
    assert uart.read(LSR, 1) & 2 and not uart.read(LSR, 1) & 2
    assert uart.read(IIR, 1) == 4
    assert uart.read(RBR, 1) == 1
    assert uart.read(IIR, 1) == 2
    assert uart.read(IIR, 1) == 0
    assert uart.read(MSR, 1) & 0xF
    assert uart.read(IIR, 1) == 1


def test_loopback_connects_modem_lines_and_sends_nothing(uart: Uart, host: Host) -> None:
    uart.write(FCR, 1, 1)
    uart.write(MCR, 1, 0x1F)
    uart.write(THR, 1, 0x5A)
    assert uart.read(RBR, 1) == 0x5A and host.output == b""
    assert uart.read(MSR, 1) & 0xF0 == 0xF0
    uart.write(MCR, 1, 0x1A)  # RTS and OUT2, as Linux probes it
    assert uart.read(MSR, 1) & 0xF0 == 0x90


def test_divisor_latch_hides_data_and_ier(uart: Uart, host: Host) -> None:
    uart.write(LCR, 1, 0x83)
    uart.write(0, 1, 0x34)
    uart.write(1, 1, 0x12)
    assert (uart.read(0, 1), uart.read(1, 1)) == (0x34, 0x12)
    uart.write(LCR, 1, 3)
    assert uart.read(IER, 1) == 0 and host.output == b"" and uart.read(LCR, 1) == 3


def test_back_pressure_clears_thre_until_the_host_takes_output(uart: Uart, host: Host, machine: FakeMachine) -> None:
    uart.write(IER, 1, 2)
    host.full = True
    uart.write(THR, 1, 65)
    assert uart.read(LSR, 1) & 0x60 == 0 and level(machine) == 0
    host.drain()
    assert uart.read(LSR, 1) & 0x60 == 0x60 and level(machine) == 1


def test_unused_registers_and_scratch(uart: Uart) -> None:
    uart.write(SCR, 1, 0xA5)
    assert uart.read(SCR, 1) == 0xA5 and uart.read(0x80, 1) == 0
    uart.write(MSR, 1, 0xFF)
    uart.write(0xFC, 4, 1)


def test_state_round_trip(uart: Uart, host: Host, machine: FakeMachine) -> None:
    uart.write(FCR, 1, 0x81)
    uart.write(IER, 1, 5)
    host.type(b"xyz")
    state = uart.state()
    other = Uart(machine.context, UartProperties())
    other.load_state(state)
    assert other.state() == state and other.irq.level == uart.irq.level
    assert bytes(other.read(RBR, 1) for _ in range(3)) == b"xyz"


def test_device_tree_node(uart: Uart) -> None:
    (node,) = uart.fdt_nodes()
    assert node.name == "serial@10000000" and node.properties["compatible"] == "ns16550a"
    assert node.properties["interrupts"] == 10 and node.properties["reg"] == [0, 0x1000_0000, 0, 0x100]
