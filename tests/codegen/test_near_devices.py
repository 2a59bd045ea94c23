"""PLIC, ACLINT and the near registers of virtio, through the routines that guest loads and stores end in."""

from __future__ import annotations

import os
import random
import time

import pytest

from mpemu.addresses import CLINT, CLINT_MTIME, CLINT_MTIMECMP, PLIC, SSWI, VIRTIO, VIRTIO_IRQ
from mpemu.layout import LINES, PLIC_SOURCES
from mpemu.vcpu.near import NearDevices
from tests.codegen.lab import Lab, Pair

HARTS = 3
CONTEXTS = 2 * HARTS
PENDING, ENABLE, THRESHOLD, CLAIM = 0x1000, 0x2000, 0x20_0000, 0x20_0004
OK, TRAP, EXIT = 0, 1, 2
ALL_ONES = (1 << 64) - 1


class Devices(Lab):
    def __init__(self) -> None:
        super().__init__(HARTS)
        self.near = NearDevices(self.blob, self.memory)

    def read(self, address: int, size: int = 4, hart: int = 0) -> Pair:
        return self.routine("device_load", address, size, address, hart=hart)

    def write(self, address: int, value: int, size: int = 4, hart: int = 0) -> Pair:
        return self.routine("device_store", address, value, size, address, hart=hart)

    # -- PLIC registers
    def peek(self, offset: int) -> int:
        found = self.read(PLIC + offset)
        assert found.status == OK
        return found.result & 0xFFFF_FFFF

    def poke(self, offset: int, value: int) -> None:
        assert self.write(PLIC + offset, value).status == OK

    def priority(self, source: int, value: int) -> None:
        self.poke(4 * source, value)

    def enable(self, context: int, *sources: int) -> None:
        for word in range(3):
            self.poke(ENABLE + 0x80 * context + 4 * word, sum(1 << s % 32 for s in sources if s // 32 == word))

    def claim(self, context: int) -> int:
        return self.peek(CLAIM + 0x1000 * context)

    def complete(self, context: int, source: int) -> None:
        self.poke(CLAIM + 0x1000 * context, source)

    def line(self, hart: int, name: str) -> int:
        value: int = self.hart(hart).lines[LINES.index(name)]
        return value

    def notified(self, context: int) -> int:
        return self.line(context // 2, "seip" if context % 2 else "meip")


@pytest.fixture
def devices() -> Devices:
    return Devices()


# -- PLIC
@pytest.mark.parametrize("context", range(CONTEXTS))
def test_an_interrupt_goes_to_the_context_that_enabled_it(devices: Devices, context: int) -> None:
    source = 33 + context
    devices.priority(source, 1)
    devices.enable(context, source)
    devices.near.set_irq(source, 1)
    assert [devices.notified(c) for c in range(CONTEXTS)] == [int(c == context) for c in range(CONTEXTS)]
    assert devices.peek(PENDING + 4 * (source // 32)) == 1 << source % 32
    assert devices.claim(context) == source and devices.claim(context) == 0
    assert devices.notified(context) == 0


def test_claims_follow_priority_then_number(devices: Devices) -> None:
    devices.enable(1, 5, 6, 40, 95)
    for source, priority in ((5, 2), (6, 3), (40, 7), (95, 3)):
        devices.priority(source, priority)
        devices.near.set_irq(source, 1)
    assert [devices.claim(1) for _ in range(5)] == [40, 6, 95, 5, 0]


def test_threshold_and_priority_zero_mask(devices: Devices) -> None:
    devices.enable(0, 1, 2)
    devices.near.set_irq(1, 1)
    assert devices.notified(0) == 0 and devices.claim(0) == 0, "priority 0 never interrupts"
    devices.priority(1, 3)
    assert devices.notified(0) == 1
    devices.poke(THRESHOLD, 3)
    assert devices.notified(0) == 0 and devices.claim(0) == 0
    devices.poke(THRESHOLD, 2)
    assert devices.notified(0) == 1 and devices.claim(0) == 1


def test_each_raise_of_a_line_is_one_request(devices: Devices) -> None:
    devices.priority(9, 1)
    devices.enable(0, 9)
    devices.near.set_irq(9, 1)
    assert devices.claim(0) == 9
    devices.near.set_irq(9, 1)
    assert devices.claim(0) == 0, "the gateway forwards one request at a time"
    devices.complete(0, 9)
    assert devices.notified(0) == 1 and devices.claim(0) == 9
    devices.complete(0, 9)
    assert devices.notified(0) == 0, "a line that is only still high asks for nothing"
    devices.near.set_irq(9, 1)
    devices.near.set_irq(9, 0)
    assert devices.notified(0) == 0 and devices.claim(0) == 0, "one that falls unclaimed is forgotten"


def test_completion_of_what_is_not_enabled_is_ignored(devices: Devices) -> None:
    devices.priority(9, 1)
    devices.enable(0, 9)
    devices.near.set_irq(9, 1)
    assert devices.claim(0) == 9
    devices.near.set_irq(9, 1)
    devices.complete(1, 9)
    devices.complete(0, 10)
    devices.complete(0, 0xFFFF_FFFF)
    assert devices.notified(0) == 0
    devices.complete(0, 9)
    assert devices.notified(0) == 1


def test_registers_outside_read_zero_and_ignore_writes(devices: Devices) -> None:
    """Not least: they must not be somebody else's memory."""
    before = bytes(devices.memory.machine)
    outside = [0, 4 * PLIC_SOURCES, 0xFFC, PENDING, PENDING + 4, PENDING + 12, 0x1FFC, ENABLE + 12, ENABLE + 0x7C]
    outside += [ENABLE + 0x80 * CONTEXTS, 0x1F_FFFC, THRESHOLD + 8, THRESHOLD + 0xFFC]
    outside += [THRESHOLD + 0x1000 * CONTEXTS, CLAIM + 0x1000 * CONTEXTS, 0x5F_FFFC]
    for offset in outside:
        devices.poke(offset, 0xFFFF_FFFF)
        assert devices.peek(offset) == 0, hex(offset)
    assert bytes(devices.memory.machine) == before


def test_source_zero_can_not_be_enabled_and_priorities_have_three_bits(devices: Devices) -> None:
    devices.poke(ENABLE, 0xFFFF_FFFF)
    devices.priority(7, 0xFF)
    devices.poke(THRESHOLD, 0xFF)
    assert (devices.peek(ENABLE), devices.peek(28), devices.peek(THRESHOLD)) == (0xFFFF_FFFE, 7, 7)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_plic_has_words_only(devices: Devices, size: int) -> None:
    assert devices.read(PLIC, size).status == TRAP and devices.hart().exc_cause == 5
    assert devices.write(PLIC, 0, size).status == TRAP and devices.hart().exc_cause == 7
    assert devices.hart().exc_tval == PLIC


class PlicModel:
    """RISC-V PLIC specification, chapters 5 to 9, with QEMU's gateways: each raise of a line is a request."""

    def __init__(self) -> None:
        self.pending, self.claimed = set[int](), set[int]()
        self.priority = [0] * PLIC_SOURCES
        self.enabled = [set[int]() for _ in range(CONTEXTS)]
        self.threshold = [0] * CONTEXTS

    def set_irq(self, source: int, level: int) -> None:
        (self.pending.add if level else self.pending.discard)(source)

    def best(self, context: int) -> int:
        forwarded = (self.pending - self.claimed) & self.enabled[context]
        ready = [s for s in forwarded if self.priority[s] > self.threshold[context]]
        return min(ready, key=lambda s: (-self.priority[s], s), default=0)

    def claim(self, context: int) -> int:
        source = self.best(context)
        if source:
            self.pending.discard(source)
            self.claimed.add(source)
        return source

    def complete(self, context: int, source: int) -> None:
        if source in self.enabled[context]:
            self.claimed.discard(source)


@pytest.mark.parametrize("seed", range(5))
def test_random_operations_agree_with_the_model(devices: Devices, seed: int) -> None:
    rng, model = random.Random(seed), PlicModel()
    sources = rng.sample(range(1, PLIC_SOURCES), 12)
    for step in range(1500):
        source, context = rng.choice(sources), rng.randrange(CONTEXTS)
        match rng.randrange(8):
            case 0:
                model.priority[source] = value = rng.randrange(8)
                devices.priority(source, value)
            case 1:
                model.threshold[context] = value = rng.randrange(4)
                devices.poke(THRESHOLD + 0x1000 * context, value)
            case 2:
                model.enabled[context] = chosen = set(rng.sample(sources, rng.randrange(12)))
                devices.enable(context, *chosen)
            case 3 | 4:
                level = rng.randrange(2)
                model.set_irq(source, level)
                devices.near.set_irq(source, level)
            case 5 | 6:
                assert devices.claim(context) == model.claim(context), f"step {step}"
            case 7:
                model.complete(context, source)
                devices.complete(context, source)
        assert [devices.notified(c) for c in range(CONTEXTS)] == [int(model.best(c) > 0) for c in range(CONTEXTS)]
        pending = sum(devices.peek(PENDING + 4 * word) << 32 * word for word in range(3))
        assert pending == sum(1 << s for s in model.pending), f"step {step}"


def test_the_coordinator_is_not_held_up_by_a_dead_hart(devices: Devices) -> None:
    """A vCPU killed within the lock: who shall report it must not wait for it."""
    devices.memory.machine.plic_lock = 1
    devices.memory.machine.plic_priority[3] = 1
    devices.memory.machine.plic_enable[0] = 1 << 3
    started = time.monotonic()
    devices.near.set_irq(3, 1)
    assert time.monotonic() - started < 20
    assert devices.memory.machine.plic_lock == 0 and devices.notified(0) == 1


# -- ACLINT
@pytest.mark.parametrize("hart", range(HARTS))
def test_msip(devices: Devices, hart: int) -> None:
    devices.write(CLINT + 4 * hart, 0xFFFF_FFFF)
    assert [devices.line(h, "msip") for h in range(HARTS)] == [int(h == hart) for h in range(HARTS)]
    assert devices.read(CLINT + 4 * hart).result == 1, "only bit 0 is there"
    devices.write(CLINT + 4 * hart, 2)
    assert devices.line(hart, "msip") == 0 == devices.read(CLINT + 4 * hart).result


def test_mtimecmp_of_this_hart_and_its_halves(devices: Devices) -> None:
    devices.memory.machine.clock_value = 0x1_0000_0005
    register = CLINT + CLINT_MTIMECMP
    devices.write(register, 0x1_0000_0006, 8)
    assert (devices.line(0, "mtip"), devices.hart().deadline) == (0, 0x1_0000_0006)
    devices.write(register, 5)
    assert devices.line(0, "mtip") == 1, "mtime = mtimecmp is expired"
    devices.write(register + 4, 0x8000_0002)
    assert devices.line(0, "mtip") == 0
    assert devices.read(register, 8).result == 0x8000_0002_0000_0005
    assert devices.read(register + 4).result == 0xFFFF_FFFF_8000_0002, "words are sign-extended"
    devices.write(register, ALL_ONES, 8)
    assert (devices.line(0, "mtip"), devices.hart().deadline) == (0, ALL_ONES)


def test_mtimecmp_of_another_hart_has_it_look(devices: Devices) -> None:
    devices.hart(2).asleep = 1
    devices.write(CLINT + CLINT_MTIMECMP + 16, 0, 8)
    assert devices.hart(2).mtimecmp == 0 and devices.line(2, "kick") & 4
    assert os.eventfd_read(devices.memory.wake_fds[2]) == 1, "and wakes it"


def test_mtime_reads_the_clock_and_ignores_writes(devices: Devices) -> None:
    devices.memory.machine.clock_value = 0x1234_5678_9ABC_DEF0
    assert devices.read(CLINT + CLINT_MTIME, 8).result == 0x1234_5678_9ABC_DEF0
    assert devices.read(CLINT + CLINT_MTIME).result == 0xFFFF_FFFF_9ABC_DEF0
    assert devices.read(CLINT + CLINT_MTIME + 4).result == 0x1234_5678
    assert devices.write(CLINT + CLINT_MTIME, 0, 8).status == OK
    assert devices.memory.machine.clock_value == 0x1234_5678_9ABC_DEF0


def test_sswi_sets_ssip_and_reads_zero(devices: Devices) -> None:
    devices.write(SSWI + 4, 0)
    assert devices.line(1, "ssip") == 0
    devices.write(SSWI + 4, 1)
    assert [devices.line(h, "ssip") for h in range(HARTS)] == [0, 1, 0]
    assert devices.read(SSWI + 4).result == 0
    devices.write(SSWI + 4, 0)
    assert devices.line(1, "ssip") == 1, "only the hart clears it"


def test_harts_that_are_not_there(devices: Devices) -> None:
    before = [bytes(devices.memory.machine), *(bytes(devices.hart(h)) for h in range(HARTS))]
    at = [CLINT + 4 * HARTS, CLINT + 0x3FFC, CLINT + CLINT_MTIMECMP + 8 * HARTS, CLINT + CLINT_MTIME - 8]
    for address in (*at, SSWI + 4 * HARTS, SSWI + 0x3FFC):
        for hart in range(HARTS):
            devices.hart(hart).mmio_near = 0
        assert devices.write(address, 0xFFFF_FFFF).status == OK
        assert devices.read(address).result == 0 and devices.read(address).status == OK
    devices.hart(0).mmio_near = 0
    assert [bytes(devices.memory.machine), *(bytes(devices.hart(h)) for h in range(HARTS))] == before


@pytest.mark.parametrize(
    ("address", "size"),
    [(CLINT, 1), (CLINT, 2), (CLINT, 8), (CLINT + CLINT_MTIMECMP, 2), (CLINT + CLINT_MTIME, 1), (SSWI, 1), (SSWI, 8)],
)
def test_aclint_access_sizes(devices: Devices, address: int, size: int) -> None:
    assert devices.read(address, size).status == TRAP and devices.hart().exc_cause == 5
    assert devices.write(address, 1, size).status == TRAP and devices.hart().exc_cause == 7
    assert not any(devices.hart(h).lines[i] for h in range(HARTS) for i in range(8))


# -- virtio
SLOT = 5
STATUS, ACK, NOTIFY = (VIRTIO + 0x1000 * SLOT + offset for offset in (0x60, 0x64, 0x50))


def test_virtio_interrupt_status_and_acknowledge(devices: Devices) -> None:
    source = VIRTIO_IRQ + SLOT
    devices.priority(source, 1)
    devices.enable(0, source)
    devices.near.virtio_interrupt(SLOT, 1)
    devices.near.virtio_interrupt(SLOT, 2)
    assert devices.read(STATUS).result == 3 and devices.claim(0) == source
    devices.write(ACK, 1)
    devices.complete(0, source)
    assert devices.read(STATUS).result == 2 and devices.claim(0) == source, "the line is high until all is acknowledged"
    devices.write(ACK, 0xFFFF_FFFF)
    devices.complete(0, source)
    assert devices.read(STATUS).result == 0 and devices.claim(0) == 0


def test_virtio_notify_rings_the_doorbell(devices: Devices) -> None:
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        devices.memory.machine.virtio_doorbell[SLOT] = bell + 1
        for queue in (0, 63, 0):
            assert devices.write(NOTIFY, queue).status == OK
        assert os.eventfd_read(bell) == 3
        assert devices.memory.machine.virtio_notify[SLOT] == 1 << 63 | 1
    finally:
        os.close(bell)


@pytest.mark.parametrize(("value", "size"), [(64, 4), (0xFFFF_FFFF, 4), (0, 2), (0, 1)])
def test_what_is_no_notification_goes_to_the_device(devices: Devices, value: int, size: int) -> None:
    devices.memory.machine.virtio_doorbell[SLOT] = 1 << 20  # never written to: it would fail unseen
    assert devices.write(NOTIFY, value, size).status == EXIT
    assert (devices.hart().mmio_address, devices.hart().mmio_value) == (NOTIFY, value)
    assert not any(devices.memory.machine.virtio_notify)


def test_notify_without_doorbell_and_other_registers_are_far(devices: Devices) -> None:
    assert devices.write(NOTIFY, 0).status == EXIT
    assert devices.read(VIRTIO).status == EXIT and devices.read(STATUS, 1).status == EXIT
    assert devices.hart().mmio_size == 1 and devices.hart().mmio_write == 0
