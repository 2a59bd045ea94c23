"""HTIF: exit, console, write, and addresses that are nonsense."""

from __future__ import annotations

import struct

import pytest

from mpemu.devices.htif import Htif, HtifProperties
from tests.devices.machine_fakes import RAM_BASE, FakeMachine
from tests.devices.test_uart import Host

TOHOST, FROMHOST, CALL = RAM_BASE + 0x1000, RAM_BASE + 0x1040, RAM_BASE + 0x2000


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def htif(machine: FakeMachine, host: Host) -> Htif:
    htif = Htif(machine.context, HtifProperties(tohost=TOHOST, fromhost=FROMHOST))
    htif.attach_chardev(host)
    htif.realize()
    return htif


def send(machine: FakeMachine, value: int) -> None:
    struct.pack_into("<Q", machine.memory.ram, TOHOST - RAM_BASE, value)
    machine.clock.advance(machine.clock.now() + 3_000_000)


def answer(machine: FakeMachine) -> int:
    (value,) = struct.unpack_from("<Q", machine.memory.ram, FROMHOST - RAM_BASE)
    struct.pack_into("<Q", machine.memory.ram, FROMHOST - RAM_BASE, 0)
    return int(value)


@pytest.mark.parametrize(("value", "code"), [(1, 0), (3, 1), (1337 << 1 | 1, 1337)])
def test_exit(machine: FakeMachine, htif: Htif, value: int, code: int) -> None:
    send(machine, value)
    assert machine.shutdowns == [code]
    assert struct.unpack_from("<Q", machine.memory.ram, TOHOST - RAM_BASE) == (0,)


def test_console(machine: FakeMachine, htif: Htif, host: Host) -> None:
    for byte in b"hi":
        send(machine, 1 << 56 | 1 << 48 | byte)
    assert host.output == b"hi"
    send(machine, 1 << 56)
    assert answer(machine) == 0
    host.type(b"k")
    send(machine, 0)
    assert answer(machine) == 1 << 56 | 0x100 | ord("k")


def test_write_system_call(machine: FakeMachine, htif: Htif, host: Host) -> None:
    machine.memory.ram[0x3000:0x3005] = b"hello"
    struct.pack_into("<4Q", machine.memory.ram, CALL - RAM_BASE, 64, 1, RAM_BASE + 0x3000, 5)
    send(machine, CALL)
    assert host.output == b"hello" and answer(machine) == 1
    assert struct.unpack_from("<q", machine.memory.ram, CALL - RAM_BASE) == (5,)


@pytest.mark.parametrize(
    "call",
    [(64, 7, RAM_BASE, 1), (64, 1, 0, 10), (64, 1, RAM_BASE, (1 << 64) - 1), (999, 0, 0, 0), (64, 1, 2**64 - 1, 1)],
)
def test_bad_system_calls_give_an_error_number(machine: FakeMachine, htif: Htif, call: tuple[int, ...]) -> None:
    struct.pack_into("<4Q", machine.memory.ram, CALL - RAM_BASE, *call)
    send(machine, CALL)
    (result,) = struct.unpack_from("<q", machine.memory.ram, CALL - RAM_BASE)
    assert result in {-9, -14, -38} and machine.shutdowns == []


@pytest.mark.parametrize("address", [2, 0x1000, RAM_BASE + (1 << 16) - 8, (1 << 48) - 8])
def test_bad_call_addresses_are_harmless(machine: FakeMachine, htif: Htif, address: int) -> None:
    send(machine, address)
    assert machine.shutdowns == []


def test_symbols_outside_ram_are_ignored(machine: FakeMachine) -> None:
    htif = Htif(machine.context, HtifProperties(tohost=0x1234, fromhost=RAM_BASE + 3))
    htif.realize()
    machine.clock.advance(10_000_000)
    assert not htif.look()


def test_replies_that_nobody_reads_do_not_pile_up(machine: FakeMachine, htif: Htif) -> None:
    for _ in range(100):
        send(machine, 0xFF << 48)
    assert len(htif.state()["replies"]) <= 16
