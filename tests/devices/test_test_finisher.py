"""Test finisher: pass, fail with a code, reset."""

from __future__ import annotations

import pytest

from mpemu.devices.test_finisher import TestFinisher, TestFinisherProperties
from tests.devices.machine_fakes import FakeMachine


@pytest.mark.parametrize(
    ("value", "shutdowns", "reboots"),
    [(0x5555, [0], 0), (0x3333 | 7 << 16, [7], 0), (0x7777, [], 1), (0x1234, [], 0), (0x5555 | 3 << 16, [0], 0)],
)
def test_commands(machine: FakeMachine, value: int, shutdowns: list[int], reboots: int) -> None:
    device = TestFinisher(machine.context, TestFinisherProperties())
    device.write(4, 4, value)
    assert machine.shutdowns == [] and machine.reboots == 0
    device.write(0, 4, value)
    assert machine.shutdowns == shutdowns and machine.reboots == reboots and device.read(0, 4) == 0
