"""pflash: the Intel command set as a driver uses it, and the file behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpemu.devices.pflash import BANK_SIZE, BLOCK, Pflash, PflashProperties
from mpemu.errors import GuestImageError
from tests.devices.machine_fakes import FakeMachine

BOTH = 0x0001_0001


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vars.fd"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(BANK_SIZE)
        file.write(b"\xff" * 2 * BLOCK)
    return path


@pytest.fixture
def flash(machine: FakeMachine, image: Path) -> Pflash:
    flash = Pflash(machine.context, PflashProperties(file=str(image)))
    flash.realize()
    yield flash
    flash.close()


def command(flash: Pflash, offset: int, code: int) -> None:
    flash.write(offset, 4, code * BOTH)


def test_query_and_identification(flash: Pflash) -> None:
    command(flash, 0x55 * 4, 0x98)
    assert [flash.read(i * 4, 4) for i in (0x10, 0x11, 0x12)] == [ord(c) * BOTH for c in "QRY"]
    assert flash.read(0x13 * 4, 4) == 1 * BOTH, "Intel command set"
    assert 1 << (flash.read(0x27 * 4, 2)) == BANK_SIZE // 2
    blocks = (flash.read(0x2D * 4, 1) | flash.read(0x2E * 4, 1) << 8) + 1
    size = (flash.read(0x2F * 4, 1) | flash.read(0x30 * 4, 1) << 8) * 256
    assert blocks * size * 2 == BANK_SIZE and size * 2 == BLOCK
    assert [flash.read(i * 4, 1) for i in (0x31, 0x32, 0x33)] == list(b"PRI")
    command(flash, 0, 0x90)
    assert flash.read(0, 4) == 0x89 * BOTH and flash.read(4, 4) == 0x18 * BOTH
    command(flash, 0, 0xFF)
    assert flash.read(0, 4) == 0xFFFF_FFFF


def test_program_clears_bits_and_erase_sets_them(flash: Pflash) -> None:
    command(flash, 0x100, 0x40)
    flash.write(0x100, 4, 0x12345678)
    assert flash.read(0, 4) == 0x80 * BOTH, "status after a command"
    command(flash, 0x100, 0x40)
    flash.write(0x100, 4, 0xFFFF_0000)
    command(flash, 0, 0xFF)
    assert flash.read(0x100, 4) == 0x1234_0000
    command(flash, 0x100, 0x20)
    command(flash, 0x100, 0xD0)
    command(flash, 0, 0xFF)
    assert flash.read(0x100, 8) == (1 << 64) - 1


def test_buffered_write(flash: Pflash) -> None:
    command(flash, 0x1000, 0xE8)
    assert flash.read(0x1000, 4) == 0x80 * BOTH
    command(flash, 0x1000, 3)
    for i in range(4):
        flash.write(0x1000 + 4 * i, 4, i)
    command(flash, 0x1000, 0xD0)
    assert flash.read(0, 4) == 0x80 * BOTH
    command(flash, 0, 0xFF)
    assert [flash.read(0x1000 + 4 * i, 4) for i in range(4)] == [0, 1, 2, 3]


def test_sequence_errors_set_status_and_change_nothing(flash: Pflash) -> None:
    command(flash, 0, 0x20)
    command(flash, 0, 0x42)
    assert flash.read(0, 4) == 0xB0 * BOTH
    command(flash, 0, 0x50)
    command(flash, 0, 0x70)
    assert flash.read(0, 4) == 0x80 * BOTH
    command(flash, 0, 0xE8)
    command(flash, 0, 0)
    flash.write(0x40, 4, 0)
    command(flash, 0, 0x11)  # not the confirmation
    assert flash.read(0, 4) == 0xB0 * BOTH
    command(flash, 0, 0xFF)
    assert flash.read(0x40, 4) == 0xFFFF_FFFF


def test_contents_survive_reset_and_the_machine(machine: FakeMachine, flash: Pflash, image: Path) -> None:
    for offset in (0x10, BLOCK + 0x10):
        command(flash, offset, 0x40)
        flash.write(offset, 4, 0xCAFE_F00D)
    flash.reset()
    assert flash.read(0x10, 4) == 0xCAFE_F00D
    machine.loop.settle()
    with image.open("rb") as file:
        assert file.read(0x14)[0x10:] == bytes.fromhex("0df0feca")
    command(flash, 0x20, 0x40)
    flash.write(0x20, 4, 0)
    flash.close()  # without another turn of the loop
    again = Pflash(machine.context, PflashProperties(file=str(image)))
    again.realize()
    assert again.read(0x20, 4) == 0 and again.read(BLOCK + 0x10, 4) == 0xCAFE_F00D
    again.close()


def test_readonly_refuses(machine: FakeMachine, image: Path) -> None:
    flash = Pflash(machine.context, PflashProperties(file=str(image), readonly=True))
    flash.realize()
    command(flash, 0, 0x40)
    flash.write(0, 4, 0)
    assert flash.read(0, 4) == 0x90 * BOTH
    command(flash, 0, 0x20)
    command(flash, 0, 0xD0)
    assert flash.read(0, 4) == 0xA0 * BOTH
    command(flash, 0, 0xFF)
    assert flash.read(0, 4) == 0xFFFF_FFFF
    flash.close()


def test_wrong_size_says_what_to_do(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "small.fd").write_bytes(b"x")
    flash = Pflash(machine.context, PflashProperties(id="flash1", file=str(tmp_path / "small.fd")))
    with pytest.raises(GuestImageError, match=r"flash1: .*small.fd has 1 bytes.*truncate -s 33554432"):
        flash.realize()
    flash.close()
