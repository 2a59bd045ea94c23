"""Whatever a guest reads and writes, no exception gets out of a device, nothing hangs, values fit their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpemu.devices.bus import Bus, BusError
from mpemu.devices.device import Device
from mpemu.devices.pflash import Pflash, PflashProperties
from mpemu.devices.regions import Kind, MemoryRegion
from mpemu.devices.registry import DEVICES, device_class
from mpemu.devices.rtc import GoldfishRtc, GoldfishRtcProperties
from mpemu.devices.test_finisher import TestFinisher, TestFinisherProperties
from mpemu.devices.virtio.blk import VirtioBlk, VirtioBlkProperties
from mpemu.devices.virtio.console import VirtioConsole, VirtioConsoleProperties
from mpemu.devices.virtio.rng import VirtioRng, VirtioRngProperties
from tests.devices.machine_fakes import RAM_BASE, FakeMachine
from tests.devices.test_uart import Host

Maker = Callable[[FakeMachine, str], Device]

MAKERS: dict[str, Maker] = {
    "goldfish-rtc": lambda m, f: GoldfishRtc(m.context, GoldfishRtcProperties()),
    "sifive-test": lambda m, f: TestFinisher(m.context, TestFinisherProperties()),
    "pflash": lambda m, f: Pflash(m.context, PflashProperties()),
    "virtio-blk": lambda m, f: VirtioBlk(m.context, VirtioBlkProperties(slot=0, file=f)),
    "virtio-rng": lambda m, f: VirtioRng(m.context, VirtioRngProperties(slot=0)),
    "virtio-console": lambda m, f: VirtioConsole(m.context, VirtioConsoleProperties(slot=0)),
}
NEAR = {"aclint", "ns16550a", "plic"}

REGISTERS = st.one_of(st.integers(0, 0x30), st.integers(0, 0x110).map(lambda n: n & ~3), st.integers(0, 1 << 25))
VALUES = st.one_of(
    st.integers(0, 16),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([RAM_BASE, RAM_BASE + 0x1000, RAM_BASE + 0x2000, 0xF, 0xB, 0xD0, 0xE8, 0x40, 0x20, 0xFF, 1 << 31]),
)
ACCESS = st.tuples(REGISTERS, st.sampled_from([1, 2, 4, 4, 4, 8]), st.one_of(st.none(), VALUES))


def test_every_device_is_fuzzed_or_near() -> None:
    assert set(DEVICES) - NEAR - {"htif"} == set(MAKERS)


@pytest.mark.parametrize("name", DEVICES)
def test_registry_names_the_class_that_has_the_name(name: str) -> None:
    found = device_class(name)
    assert found.type_name == name
    assert (found.Properties.__doc__ or "").startswith(f"``{name}``: "), "the text of `mpemu list devices`"
    assert found.Properties.model_json_schema()["additionalProperties"] is False


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accesses=st.lists(ACCESS, max_size=60), ram=st.binary(max_size=256))
def test_random_accesses(tmp_path: Path, name: str, accesses: list[tuple[int, int, int | None]], ram: bytes) -> None:
    image = tmp_path / "disk"
    if not image.exists():
        image.write_bytes(bytes(64 * 1024))
    machine = FakeMachine(deterministic=True)
    machine.memory.ram[0x1000 : 0x1000 + len(ram)] = ram
    device = MAKERS[name](machine, str(image))
    if isinstance(device, VirtioConsole):
        device.attach_chardev(host := Host())
        host.type(b"some input that waits for the guest to take it")
    device.connect_irq(machine.near.set_irq)
    device.realize()
    device.reset()
    root = MemoryRegion.container("system", 1 << 32)
    for address, region in device.regions():
        root.add(address, region)
    base, region = device.regions()[0]
    assert region.kind is Kind.IO
    bus = Bus(root)
    for offset, size, value in accesses:
        try:
            if value is None:
                assert 0 <= bus.read(base + offset % region.size, size) < 1 << (8 * size)
            else:
                bus.write(base + offset % region.size, size, value)
        except BusError:
            assert size not in region.sizes or offset % region.size % size or offset % region.size + size > region.size
        machine.loop.turn()
        machine.clock.advance(machine.clock.now() + 1000)
    state = device.state()
    device.load_state(state)
    assert device.state() == state
    device.reset()
    device.close()
    device.close()
