"""virtio-blk: requests of every kind, several in flight, errors, a file that survives."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from mpemu.devices.virtio import mmio
from mpemu.devices.virtio.blk import VirtioBlk, VirtioBlkProperties
from mpemu.errors import GuestImageError
from tests.devices.machine_fakes import RAM_BASE, FakeMachine
from tests.devices.virtio_driver import Driver

SECTORS = 64
FEATURES = 1 << 32 | 1 << 9


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


class Disk:
    def __init__(self, path: Path, readonly: bool = False, deterministic: bool = False) -> None:
        self.machine = FakeMachine(deterministic)
        self.device = VirtioBlk(self.machine.context, VirtioBlkProperties(slot=0, file=str(path), readonly=readonly))
        self.device.realize()
        self.driver = Driver(self.machine, self.device, size=64)
        self.driver.start(FEATURES)
        self.ram = self.machine.memory.ram

    def request(self, outgoing: list[bytes], incoming: list[int]) -> tuple[int, list[bytes], int]:
        """(status, what came in, used length) of one request."""
        offsets = self.driver.chain(0, outgoing, [*incoming, 1])
        self.driver.notify()
        self.machine.loop.settle()
        ((_, length),) = self.driver.completed()
        data = [bytes(self.ram[o : o + n]) for o, n in zip(offsets, incoming, strict=False)]
        return self.ram[offsets[-1]], data, length


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([i]) * 512 for i in range(SECTORS)))
    return path


@pytest.fixture
def disk(image: Path) -> Disk:
    return Disk(image)


def test_config(disk: Disk) -> None:
    assert disk.device.read(mmio.CONFIG, 4) == SECTORS and disk.device.read(mmio.CONFIG, 8) == SECTORS
    assert disk.device.read(mmio.CONFIG + 20, 4) == 512
    assert disk.device.read(mmio.CONFIG + 0xEFC, 4) == 0
    assert len(disk.device.config()) == 60


def test_read_into_several_pieces(disk: Disk) -> None:
    status, data, length = disk.request([header(0, 2)], [512, 256, 256])
    assert status == 0 and data == [b"\2" * 512, b"\3" * 256, b"\3" * 256] and length == 1025


def test_what_is_read_is_announced_until_it_is_there(disk: Disk) -> None:
    """To LR/SC, before the worker begins; a request that fails halfway is no exception."""
    writing = disk.machine.near.writing
    for sector in (2, SECTORS - 1, SECTORS):
        piece, rest, status = disk.driver.chain(0, [header(0, sector)], [512, 512, 1])
        disk.driver.notify()
        started = bool(disk.machine.loop.jobs)
        assert started == (sector == 2)
        wanted = {(RAM_BASE + piece, 512), (RAM_BASE + rest, 512), (RAM_BASE + status, 1)}
        assert {area for area, count in writing.items() if count} == (wanted if started else set())
        disk.machine.loop.settle()
        assert not any(writing.values()) and (RAM_BASE + status, 1) in writing
        disk.driver.completed()


def test_write_flush_and_read_back(disk: Disk, image: Path) -> None:
    assert disk.request([header(1, 5)[:7], header(1, 5)[7:], b"x" * 100, b"y" * 412], [])[0] == 0
    assert disk.request([header(4)], [])[0] == 0
    assert image.read_bytes()[5 * 512 : 6 * 512] == b"x" * 100 + b"y" * 412
    assert disk.request([header(0, 5)], [512])[1] == [b"x" * 100 + b"y" * 412]


def test_serial_number(disk: Disk) -> None:
    status, data, _ = disk.request([header(8)], [20])
    assert status == 0 and data[0].rstrip(b"\0") == b"virtio-blk.0"


@pytest.mark.parametrize(
    ("outgoing", "incoming", "expected"),
    [
        ([header(0, SECTORS)], [512], 1),
        ([header(0, SECTORS - 1)], [1024], 1),
        ([header(0, (1 << 64) - 1)], [512], 1),
        ([header(0)], [100], 1),
        ([header(1, SECTORS), b"x" * 512], [], 1),
        ([header(77)], [], 2),
        ([header(13), struct.pack("<QII", SECTORS - 1, 2, 0)], [], 1),
        ([header(11), struct.pack("<QII", 0, 1, 1)], [], 2),
        ([header(13), b"short"], [], 1),
    ],
)
def test_refused_requests(disk: Disk, image: Path, outgoing: list[bytes], incoming: list[int], expected: int) -> None:
    before = image.read_bytes()
    assert disk.request(outgoing, incoming)[0] == expected
    assert image.read_bytes() == before


def test_write_zeroes(disk: Disk, image: Path) -> None:
    assert disk.request([header(13), struct.pack("<QII", 3, 2, 1)], [])[0] == 0
    data = image.read_bytes()
    assert data[3 * 512 : 5 * 512] == bytes(1024) and data[2 * 512] == 2 and data[5 * 512] == 5


def test_readonly(image: Path) -> None:
    image.chmod(0o444)
    disk = Disk(image, readonly=True)
    disk.driver.poke(mmio.DEVICE_FEATURES_SEL, 0)
    assert disk.driver.peek(mmio.DEVICE_FEATURES) & 1 << 5
    assert disk.request([header(1), b"x" * 512], [])[0] == 1
    assert disk.request([header(0)], [512])[0] == 0


def test_several_in_flight_and_finished_out_of_order(disk: Disk) -> None:
    driver = disk.driver
    for i in range(8):
        driver.chain(3 * i, [header(0, i)], [512, 1])
    driver.notify()
    assert len(disk.machine.loop.jobs) == 8 and driver.completed() == []
    disk.machine.loop.jobs.reverse()
    disk.machine.loop.turn()
    assert [head for head, _ in driver.completed()] == [3 * i for i in reversed(range(8))]


def test_deterministic_mode_is_done_when_the_notification_returns(image: Path) -> None:
    disk = Disk(image, deterministic=True)
    disk.driver.chain(0, [header(0, 1)], [512, 1])
    disk.driver.notify()
    assert disk.driver.completed() == [(0, 513)] and not disk.machine.loop.jobs


def test_header_or_status_missing_needs_reset(disk: Disk) -> None:
    disk.driver.chain(0, [header(0)[:8]], [512])
    disk.driver.notify()
    assert disk.driver.peek(mmio.STATUS) & 0x40


def test_an_image_that_shrank_is_an_io_error(disk: Disk, image: Path) -> None:
    os.truncate(image, 512)
    assert disk.request([header(0, 5)], [512])[0] == 1


def test_missing_or_strange_files_are_named(tmp_path: Path) -> None:
    machine = FakeMachine()
    for path, text in ((tmp_path / "no.img", "No such file"), (tmp_path, "neither a file|Is a directory")):
        device = VirtioBlk(machine.context, VirtioBlkProperties(id="disk0", slot=0, file=str(path)))
        with pytest.raises(GuestImageError, match=rf"disk0: {path} .*({text})"):
            device.realize()
        device.close()


def test_image_is_locked_against_other_writers(image: Path) -> None:
    first = Disk(image)
    for readonly in (False, True):
        with pytest.raises(GuestImageError, match="is in use by another machine"):
            Disk(image, readonly=readonly)
    first.device.close()
    readers = [Disk(image, readonly=True) for _ in range(2)]
    with pytest.raises(GuestImageError, match="is in use"):
        Disk(image)
    for reader in readers:
        reader.device.close()
