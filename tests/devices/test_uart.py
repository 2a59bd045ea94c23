"""ns16550a at register level: the native code that vCPUs run, and the device between it and the host."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpemu.devices.bus import Bus
from mpemu.devices.chardev import Chardev
from mpemu.devices.regions import MemoryRegion
from mpemu.devices.uart import Uart, UartProperties
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import UART_FIFO, UART_RING
from mpemu.memory import CLOCK_RUNNING, CLOCK_VIRTUAL, MachineMemory
from mpemu.vcpu.blob import load_blob
from mpemu.vcpu.near import AccessFault, NearDevices
from tests.devices.machine_fakes import FakeMachine

BASE = 0x1000_0000
RBR = THR = 0
IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 1, 2, 2, 3, 4, 5, 6, 7


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


class Serial:
    """A UART with ``host`` behind it; ``read`` and ``write`` are those of a hart, ``turn`` is one of the loop."""

    def __init__(self, deterministic: bool = False) -> None:
        self.host = Host()
        self.memory = MachineMemory(1, 1 << 16)
        self.near = NearDevices(load_blob(IsaSpec.parse("max")), self.memory)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        machine = self.memory.machine
        machine.uart_doorbell = self.bell + 1
        machine.clock_mode = CLOCK_VIRTUAL if deterministic else CLOCK_RUNNING
        context = FakeMachine(deterministic).context
        context.memory, context.near = self.memory, self.near
        self.uart = Uart(context, UartProperties())
        self.uart.attach_chardev(self.host)
        root = MemoryRegion.container("system", 1 << 32)
        for address, region in self.uart.regions():
            root.add(address, region)
        self.bus = Bus(root)
        self.far = 0
        self.uart.realize()
        self.uart.reset()

    def read(self, register: int, size: int = 1) -> int:
        return self.near.load(BASE + register, size)

    def write(self, register: int, value: int, size: int = 1) -> None:
        if not self.near.store(BASE + register, size, value):
            self.far += 1
            self.bus.write(BASE + register, size, value)

    def turn(self) -> int:
        """Answer the doorbell; how often it was rung."""
        try:
            rings = os.eventfd_read(self.bell)
        except BlockingIOError:
            return 0
        self.uart.doorbell()
        return rings

    @property
    def level(self) -> int:
        return int(self.memory.machine.plic_level[10])

    def close(self) -> None:
        os.close(self.bell)
        self.memory.close()


@pytest.fixture
def serial() -> Iterator[Serial]:
    serial = Serial()
    yield serial
    serial.close()


@pytest.fixture
def repeatable() -> Iterator[Serial]:
    serial = Serial(deterministic=True)
    yield serial
    serial.close()


def test_output_rings_once_until_it_is_taken(serial: Serial) -> None:
    for byte in b"hello":
        assert serial.read(LSR) & 0x60 == 0x60
        serial.write(THR, byte)
    assert serial.turn() == 1 and serial.host.output == b"hello"
    assert serial.turn() == 0
    serial.write(THR, ord("!"))
    assert serial.turn() == 1 and serial.host.output == b"hello!"


def test_input_never_exceeds_the_fifo_and_is_not_lost(serial: Serial) -> None:
    serial.write(FCR, 1)
    text = bytes(range(256)) * 40
    serial.host.type(text)
    assert len(serial.host.input) == len(text) - UART_RING - UART_FIFO
    assert serial.memory.machine.uart_fifo_count == UART_FIFO
    got = bytearray()
    while serial.read(LSR) & 1:
        got.append(serial.read(RBR))
        serial.turn()
    assert got == text


def test_doorbell_for_input_rings_when_half_of_the_ring_is_free(serial: Serial) -> None:
    serial.write(FCR, 1)
    serial.host.type(bytes(UART_RING + UART_FIFO + 1))
    for _ in range(UART_RING // 2 - 1):
        serial.read(RBR)
    assert serial.turn() == 0
    serial.read(RBR)
    assert serial.turn() == 1 and not serial.host.input


def test_without_fifo_one_character_waits(serial: Serial) -> None:
    serial.host.type(b"ab")
    assert serial.memory.machine.uart_fifo_count == 1
    assert serial.read(RBR) == ord("a") and serial.read(RBR) == ord("b")
    assert serial.read(LSR) & 1 == 0 and serial.read(RBR) == 0


def test_clearing_the_fifo_leaves_what_the_chip_has_not_received(serial: Serial) -> None:
    serial.write(FCR, 1)
    serial.host.type(bytes(range(20)))
    serial.write(FCR, 3)
    assert [serial.read(RBR) for _ in range(5)] == [16, 17, 18, 19, 0]


def test_receive_interrupt_by_trigger_level_and_timeout(serial: Serial) -> None:
    serial.write(FCR, 0x41)  # trigger at 4
    serial.write(IER, 1)
    serial.host.type(b"abc")
    assert serial.read(IIR) == 0xCC and serial.level == 1
    serial.host.type(b"d")
    assert serial.read(IIR) == 0xC4
    for _ in range(4):
        serial.read(RBR)
    assert serial.read(IIR) == 0xC1 and serial.level == 0


def test_transmit_interrupt(serial: Serial) -> None:
    serial.write(IER, 2)
    assert serial.level == 1 and serial.read(IIR) == 2
    assert serial.level == 0 and serial.read(IIR) == 1, "reading IIR takes it back"
    serial.write(THR, 65)
    assert serial.level == 1 and serial.read(IIR) == 2


def test_interrupts_by_priority(serial: Serial) -> None:
    serial.write(IER, 0xF)
    serial.write(MCR, 0x10)  # loopback, modem lines fall
    serial.write(THR, 1)
    serial.write(THR, 2)  # overrun
    assert serial.read(IIR) == 6
    assert serial.read(LSR) & 2 and not serial.read(LSR) & 2
    assert serial.read(IIR) == 4
    assert serial.read(RBR) == 1
    assert serial.read(IIR) == 2
    assert serial.read(IIR) == 0
    assert serial.read(MSR) & 0xF
    assert serial.read(IIR) == 1


def test_loopback_connects_modem_lines_and_sends_nothing(serial: Serial) -> None:
    serial.write(FCR, 1)
    serial.write(MCR, 0x1F)
    serial.host.type(b"waits outside")
    serial.write(THR, 0x5A)
    assert serial.read(RBR) == 0x5A and serial.read(RBR) == 0
    assert serial.read(MSR) & 0xF0 == 0xF0
    serial.write(MCR, 0x1A)  # RTS and OUT2, as Linux probes it
    assert serial.read(MSR) & 0xF0 == 0x90
    assert serial.turn() == 0 and serial.host.output == b""
    serial.write(MCR, 0x08)
    assert serial.read(RBR) == ord("w")


def test_divisor_latch_hides_data_and_ier(serial: Serial) -> None:
    serial.write(LCR, 0x83)
    serial.write(0, 0x34)
    serial.write(1, 0x12)
    assert (serial.read(0), serial.read(1)) == (0x34, 0x12)
    serial.write(LCR, 3)
    assert serial.read(IER) == 0 and serial.turn() == 0 and serial.read(LCR) == 3


def test_back_pressure_clears_thre_until_the_host_takes_output(serial: Serial) -> None:
    serial.write(IER, 2)
    serial.host.full = True
    sent = 0
    while serial.read(LSR) & 0x20:
        for _ in range(UART_FIFO):
            serial.write(THR, sent & 0xFF)
            sent += 1
        serial.turn()
    assert sent == UART_RING and serial.far == 0 and serial.read(LSR) & 0x60 == 0 and serial.level == 0
    serial.host.drain()
    assert serial.read(LSR) & 0x60 == 0x60 and serial.level == 1
    assert serial.host.output == bytes(i & 0xFF for i in range(sent))


def test_characters_of_a_guest_that_does_not_wait_go_far(serial: Serial) -> None:
    serial.host.full = True
    text = bytes(i * 7 & 0xFF for i in range(2 * UART_RING + 100))
    for byte in text:
        serial.write(THR, byte)
    assert serial.far == 2
    serial.uart.flush()
    assert serial.host.output == text


def test_deterministic_guest_does_not_see_the_speed_of_the_coordinator(repeatable: Serial) -> None:
    """The same stores go far whenever the doorbell is answered, and the transmitter is always empty."""
    text = bytes(i * 7 & 0xFF for i in range(2 * UART_RING + 100))
    far = []
    for i, byte in enumerate(text):
        assert repeatable.read(LSR) & 0x60 == 0x60
        before = repeatable.far
        repeatable.write(THR, byte)
        if repeatable.far > before:
            far.append(i)
        if i % 1000 < 3:
            repeatable.turn()
    assert far == [UART_RING, 2 * UART_RING]
    repeatable.uart.flush()
    assert repeatable.host.output == text


def test_unused_registers_and_scratch(serial: Serial) -> None:
    serial.write(SCR, 0xA5)
    assert serial.read(SCR) == 0xA5 and serial.read(0x80) == 0
    serial.write(MSR, 0xFF)
    serial.write(0xFC, 1, 4)


def test_access_sizes(serial: Serial) -> None:
    serial.write(4, 0xFFFF_FF03, 4)
    assert serial.read(4, 4) == 3 and serial.read(4, 2) == 3
    with pytest.raises(AccessFault):
        serial.read(0, 8)
    with pytest.raises(AccessFault):
        serial.write(0, 0, 8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accesses=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 7), st.integers(0, 0xFF)),
            st.sampled_from([1, 1, 1, 2, 4]),
            st.one_of(st.none(), st.integers(0, (1 << 64) - 1)),
        ),
        max_size=200,
    )
)
def test_random_accesses(serial: Serial, accesses: list[tuple[int, int, int | None]]) -> None:
    serial.host.type(b"some input that waits for the guest to take it")
    for register, size, value in accesses:
        register &= -size
        if value is None:
            assert 0 <= serial.read(register, size) <= 0xFF
        else:
            serial.write(register, value, size)
        machine = serial.memory.machine
        assert machine.uart_lock == 0 and machine.uart_fifo_count <= UART_FIFO
        serial.turn()
    state = serial.uart.state()
    serial.uart.load_state(state)
    assert serial.uart.state() == state
    serial.uart.reset()
    assert serial.level == 0


def test_reset_keeps_what_was_sent_and_forgets_the_chip(serial: Serial) -> None:
    serial.write(IER, 2)
    serial.write(THR, ord("x"))
    serial.uart.reset()
    assert serial.host.output == b"x" and serial.level == 0
    assert serial.read(IER) == 0 and serial.read(MSR) == 0xB0 and serial.read(MCR) == 8


def test_state_round_trip(serial: Serial) -> None:
    serial.write(FCR, 0x81)
    serial.write(IER, 5)
    serial.host.type(b"wxyz")
    assert serial.read(RBR) == ord("w")
    state = serial.uart.state()
    other = Serial()
    other.uart.load_state(state)
    assert other.uart.state() == state and other.level == serial.level == 1
    assert bytes(other.read(RBR) for _ in range(3)) == b"xyz"
    other.close()


def test_device_tree_node(serial: Serial) -> None:
    (node,) = serial.uart.fdt_nodes()
    assert node.name == "serial@10000000" and node.properties["compatible"] == "ns16550a"
    assert node.properties["interrupts"] == 10 and node.properties["reg"] == [0, 0x1000_0000, 0, 0x100]
