"""Goldfish RTC: time latch, alarm, interrupt."""

from __future__ import annotations

import pytest

from mpemu.devices.rtc import (
    ALARM_HIGH,
    ALARM_LOW,
    ALARM_STATUS,
    CLEAR_ALARM,
    CLEAR_INTERRUPT,
    IRQ_ENABLED,
    TIME_HIGH,
    TIME_LOW,
    GoldfishRtc,
    GoldfishRtcProperties,
)
from tests.devices.machine_fakes import FakeMachine


@pytest.fixture
def rtc(machine: FakeMachine) -> GoldfishRtc:
    rtc = GoldfishRtc(machine.context, GoldfishRtcProperties())
    rtc.connect_irq(machine.near.set_irq)
    rtc.realize()
    return rtc


def now(rtc: GoldfishRtc) -> int:
    return rtc.read(TIME_LOW, 4) | rtc.read(TIME_HIGH, 4) << 32


def alarm(rtc: GoldfishRtc, time: int) -> None:
    rtc.write(ALARM_HIGH, 4, time >> 32)
    rtc.write(ALARM_LOW, 4, time & 0xFFFF_FFFF)


def test_low_latches_high(rtc: GoldfishRtc, machine: FakeMachine) -> None:
    machine.clock.advance(0x1_FFFF_FFFF)
    assert rtc.read(TIME_LOW, 4) == 0xFFFF_FFFF
    machine.clock.advance(0x2_0000_0000)
    assert rtc.read(TIME_HIGH, 4) == 1
    assert now(rtc) == 0x2_0000_0000


def test_alarm_fires_at_its_time_and_only_if_enabled(rtc: GoldfishRtc, machine: FakeMachine) -> None:
    alarm(rtc, 5_000_000_000)
    machine.clock.advance(4_999_999_999)
    assert rtc.read(ALARM_STATUS, 4) == 1
    machine.clock.advance(5_000_000_000)
    assert rtc.read(ALARM_STATUS, 4) == 0 and machine.near.levels[11] == 0
    rtc.write(IRQ_ENABLED, 4, 1)
    assert machine.near.levels[11] == 1
    rtc.write(CLEAR_INTERRUPT, 4, 1)
    assert machine.near.levels[11] == 0


def test_alarm_in_the_past_fires_at_once_and_a_cleared_one_never(rtc: GoldfishRtc, machine: FakeMachine) -> None:
    machine.clock.advance(100)
    rtc.write(IRQ_ENABLED, 4, 1)
    alarm(rtc, 50)
    assert machine.near.levels[11] == 1
    rtc.write(CLEAR_INTERRUPT, 4, 1)
    alarm(rtc, 200)
    rtc.write(CLEAR_ALARM, 4, 1)
    machine.clock.advance(1000)
    assert machine.near.levels[11] == 0


def test_guest_sets_the_clock(rtc: GoldfishRtc, machine: FakeMachine) -> None:
    rtc.write(TIME_HIGH, 4, 7)
    rtc.write(TIME_LOW, 4, 9)
    machine.clock.advance(1)
    assert now(rtc) == (7 << 32) + 10


def test_state_round_trip_keeps_the_alarm(rtc: GoldfishRtc, machine: FakeMachine) -> None:
    rtc.write(IRQ_ENABLED, 4, 1)
    alarm(rtc, 1000)
    other = GoldfishRtc(machine.context, GoldfishRtcProperties())
    other.load_state(rtc.state())
    machine.clock.advance(1000)
    assert other.irq.level == 1
