"""virtio-mmio: transport, virtqueues against a hostile driver, rng, console."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpemu.devices.virtio import mmio
from mpemu.devices.virtio.console import VirtioConsole, VirtioConsoleProperties
from mpemu.devices.virtio.mmio import EmptySlot, VirtioDevice, VirtioProperties, fill_slots
from mpemu.devices.virtio.queue import INDIRECT, NEXT, WRITE
from mpemu.devices.virtio.rng import VirtioRng, VirtioRngProperties
from tests.devices.machine_fakes import RAM_BASE, FakeMachine
from tests.devices.test_uart import Host
from tests.devices.virtio_driver import AVAILABLE, BUFFERS, Driver

ROGUE = [0, 1, RAM_BASE - 1, RAM_BASE + (1 << 16) - 8, RAM_BASE + (1 << 16), (1 << 64) - 16]


@pytest.fixture
def rng(machine: FakeMachine) -> VirtioRng:
    return VirtioRng(machine.context, VirtioRngProperties(slot=3))


def test_identity_and_empty_slots(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    assert [driver.peek(o) for o in (0, 4, 8, 12)] == [0x74726976, 2, 4, 0x554D4551]
    assert rng.address == 0x1000_4000 and rng.source == 4
    slots = fill_slots(machine.context, [rng])
    assert [s.slot for s in slots if isinstance(s, EmptySlot)] == [0, 1, 2, 4, 5, 6, 7]
    assert slots[0].fdt_nodes()[0].name == "virtio_mmio@10001000"
    assert Driver(machine, EmptySlot(machine.context, VirtioProperties(slot=0))).peek(8) == 0


def test_rng_fills_buffers_and_interrupts(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.start()
    (a,), (b,) = driver.chain(0, [], [10]), driver.chain(1, [], [3])
    driver.notify()
    assert driver.completed() == [(0, 10), (1, 3)]
    assert bytes(driver.ram[a : a + 10]) == bytes(range(1, 11)) and bytes(driver.ram[b : b + 3]) == b"\1\2\3"
    assert driver.peek(mmio.INTERRUPT_STATUS) == 1 and machine.near.levels[4] == 1
    assert (RAM_BASE + a, 10) in machine.near.dma, "LR reservations on the buffer must be lost"
    assert not any(machine.near.writing.values())
    driver.poke(mmio.INTERRUPT_ACK, 1)
    assert driver.peek(mmio.INTERRUPT_STATUS) == 0 and machine.near.levels[4] == 0


def test_no_interrupt_where_the_driver_wants_none(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.start()
    struct.pack_into("<H", driver.ram, AVAILABLE, 1)
    driver.chain(0, [], [4])
    driver.notify()
    assert driver.completed() == [(0, 4)] and driver.peek(mmio.INTERRUPT_STATUS) == 0


def test_doorbell(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.start()
    driver.chain(0, [], [4])
    rng.doorbell()
    assert driver.completed() == [(0, 4)]
    rng.doorbell()


def test_features_must_be_offered(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.poke(mmio.DRIVER_FEATURES, 1 << 5)
    driver.poke(mmio.STATUS, 11)
    assert not driver.peek(mmio.STATUS) & 8


def test_driver_that_does_not_ask_for_version_1(machine: FakeMachine, rng: VirtioRng) -> None:
    """xv6 takes only features of the lower word."""
    driver = Driver(machine, rng)
    driver.poke(mmio.DRIVER_FEATURES, 0)
    driver.poke(mmio.STATUS, 11)
    assert driver.peek(mmio.STATUS) & 8


def test_indices_wrap(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng, size=4)
    driver.start()
    for _ in range(70_000 // 4):
        driver.buffer = BUFFERS
        for head in range(4):
            driver.chain(head, [], [1])
        driver.notify()
        assert driver.completed() == [(0, 1), (1, 1), (2, 1), (3, 1)]
        machine.near.dma.clear()


def test_indirect_descriptors(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.start(1 << 32 | 1 << 28)
    table = 0x8000
    struct.pack_into("<QIHH", driver.ram, table, RAM_BASE + 0x9000, 2, WRITE | NEXT, 1)
    struct.pack_into("<QIHH", driver.ram, table + 16, RAM_BASE + 0x9100, 3, WRITE, 0)
    driver.descriptor(5, RAM_BASE + table, 32, INDIRECT)
    driver.offer(5)
    driver.notify()
    assert driver.completed() == [(5, 5)] and bytes(driver.ram[0x9100:0x9103]) == b"\3\4\5"


def test_needs_reset_is_reported_once_and_reset_recovers(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    for _ in range(3):
        driver.next = driver.seen = 0
        driver.ram[:] = bytes(len(driver.ram))
        driver.start()
        driver.descriptor(0, RAM_BASE - 4096, 100, WRITE)
        driver.offer(0)
        driver.notify()
        assert driver.peek(mmio.STATUS) & 0x40 and driver.peek(mmio.INTERRUPT_STATUS) & 2
    assert len(machine.warnings) == 1 and "not RAM" in machine.warnings[0]
    driver.next = driver.seen = 0
    driver.ram[:] = bytes(len(driver.ram))
    driver.start()
    driver.chain(0, [], [1])
    driver.notify()
    assert driver.completed() == [(0, 1)]


@pytest.mark.parametrize(
    "case",
    ["loop", "order", "index", "ahead", "nested", "indirect length", "twice", *(f"address {a:#x}" for a in ROGUE)],
)
def test_what_a_driver_must_not_do(machine: FakeMachine, rng: VirtioRng, case: str) -> None:
    driver = Driver(machine, rng)
    driver.start(1 << 32 | 1 << 28)
    head = 0
    if case == "loop":
        driver.descriptor(0, RAM_BASE, 1, NEXT, 0)
    elif case == "order":
        driver.descriptor(0, RAM_BASE, 1, WRITE | NEXT, 1)
        driver.descriptor(1, RAM_BASE, 1, 0)
    elif case == "index":
        head = 16
    elif case == "ahead":
        driver.next = 100
    elif case == "nested":
        driver.descriptor(0, RAM_BASE, 16, INDIRECT)
    elif case == "indirect length":
        driver.descriptor(0, RAM_BASE, 15, INDIRECT)
    elif case == "twice":
        driver.descriptor(0, RAM_BASE, 0xFFFF_FFFF, WRITE)
    else:
        driver.descriptor(0, int(case.split()[1], 16), 16, WRITE)
    driver.offer(head)
    driver.notify()
    assert driver.peek(mmio.STATUS) & 0x40, case


@pytest.mark.parametrize("size", [0, 3, 512, 0xFFFF_FFFF])
def test_bad_queue_sizes(machine: FakeMachine, rng: VirtioRng, size: int) -> None:
    driver = Driver(machine, rng, size=size)
    driver.start()
    assert driver.peek(mmio.STATUS) & 0x40 and driver.peek(mmio.QUEUE_READY) == 0


def test_console_both_ways(machine: FakeMachine) -> None:
    console = VirtioConsole(machine.context, VirtioConsoleProperties(slot=0))
    host = Host()
    console.attach_chardev(host)
    console.realize()
    receive, transmit = Driver(machine, console, 0), Driver(machine, console, 1)
    receive.start()
    transmit.setup()
    transmit.chain(0, [b"hel", b"lo"], [])
    transmit.notify()
    assert host.output == b"hello" and transmit.completed() == [(0, 0)]
    host.type(b"typed")
    (a,) = receive.chain(0, [], [3])
    (b,) = receive.chain(1, [], [30])
    receive.notify()
    assert receive.completed() == [(0, 3), (1, 2)]
    assert bytes(receive.ram[a : a + 3]) == b"typ" and bytes(receive.ram[b : b + 2]) == b"ed"
    host.full = True
    transmit.chain(1, [b"later"], [])
    transmit.notify()
    assert transmit.completed() == []
    host.drain()
    assert transmit.completed() == [(1, 0)] and host.output == b"hellolater"


def test_state_round_trip(machine: FakeMachine, rng: VirtioRng) -> None:
    driver = Driver(machine, rng)
    driver.start()
    driver.chain(0, [], [4])
    driver.notify()
    other = VirtioRng(machine.context, VirtioRngProperties(slot=3))
    other.load_state(rng.state())
    assert other.state() == rng.state()
    driver.device = other
    driver.chain(1, [], [4])
    driver.notify()
    assert driver.completed() == [(0, 4), (1, 4)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(
        st.tuples(
            st.one_of(st.integers(RAM_BASE - 64, RAM_BASE + (1 << 16) + 64), st.sampled_from(ROGUE)),
            st.one_of(st.integers(0, 64), st.sampled_from([0xFFFF_FFFF, 1 << 16, 0x8000])),
            st.integers(0, 7),
            st.integers(0, 20),
        ),
        min_size=1,
        max_size=16,
    ),
    heads=st.lists(st.integers(0, 20), max_size=8),
    jump=st.sampled_from([0, 0, 0, 1, 1000]),
)
def test_no_ring_contents_can_break_the_device(
    table: list[tuple[int, int, int, int]], heads: list[int], jump: int
) -> None:
    machine = FakeMachine()
    device: VirtioDevice = VirtioRng(machine.context, VirtioRngProperties(slot=0))
    driver = Driver(machine, device)
    driver.start(1 << 32 | 1 << 28)
    for i, entry in enumerate(table):
        driver.descriptor(i, *entry)
    for head in heads:
        driver.offer(head)
    driver.next += jump
    if jump:
        driver.offer(0)
    for _ in range(5):
        driver.notify()
        machine.loop.turn()
    driver.poke(mmio.STATUS, 0)
    assert driver.peek(mmio.STATUS) == 0
