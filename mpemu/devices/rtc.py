"""Goldfish RTC: wall-clock nanoseconds and one alarm (Android goldfish "RTC" registers, as QEMU's virt has it).

Reading TIME_LOW latches the high half for TIME_HIGH. Writing ALARM_LOW arms the alarm with ALARM_HIGH as it was written
before; when the clock reaches it, the interrupt is pending until CLEAR_INTERRUPT. Writing TIME sets the guest's clock.
"""

from __future__ import annotations

from mpemu.addresses import RTC, RTC_IRQ
from mpemu.devices.device import DeviceContext, MmioDevice, MmioProperties, State
from mpemu.devicetree import Node

TIME_LOW = 0x00
TIME_HIGH = 0x04
ALARM_LOW = 0x08
ALARM_HIGH = 0x0C
IRQ_ENABLED = 0x10
CLEAR_ALARM = 0x14
ALARM_STATUS = 0x18
CLEAR_INTERRUPT = 0x1C

_LOW = 0xFFFF_FFFF
_ALL = (1 << 64) - 1


class GoldfishRtcProperties(MmioProperties):
    """``goldfish-rtc``: the wall clock."""

    address: int = RTC
    irq: int = RTC_IRQ


class GoldfishRtc(MmioDevice):
    type_name = "goldfish-rtc"
    Properties = GoldfishRtcProperties

    def __init__(self, context: DeviceContext, properties: GoldfishRtcProperties) -> None:
        super().__init__(context, properties)
        self._timer = context.timer(self._alarm)
        self._offset = 0
        self.reset()

    def reset(self) -> None:
        """The clock keeps what the guest set it to, as a battery would."""
        self._timer.cancel()
        self._time_high = 0
        self._alarm_time = 0
        self._armed = self._pending = self._enabled = 0
        self._update()

    def close(self) -> None:
        self._timer.cancel()

    def _now(self) -> int:
        return (self.context.clock() + self._offset) & _ALL

    def _update(self) -> None:
        self.irq.set(self._pending & self._enabled)

    def _arm(self) -> None:
        now = self._now()
        self._armed = 1
        if self._alarm_time <= now:
            self._alarm()
        else:
            self._timer.arm(self.context.clock() + self._alarm_time - now)

    def _alarm(self) -> None:
        if self._armed:
            self._armed, self._pending = 0, 1
            self._update()

    def read(self, offset: int, size: int) -> int:
        if offset == TIME_LOW:
            now = self._now()
            self._time_high = now >> 32
            return now & _LOW
        return {
            TIME_HIGH: self._time_high,
            ALARM_LOW: self._alarm_time & _LOW,
            ALARM_HIGH: self._alarm_time >> 32,
            IRQ_ENABLED: self._enabled,
            ALARM_STATUS: self._armed,
        }.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == TIME_LOW:
            self._set_time(self._now() & ~_LOW | value)
        elif offset == TIME_HIGH:
            self._set_time(self._now() & _LOW | value << 32)
        elif offset == ALARM_LOW:
            self._alarm_time = self._alarm_time & ~_LOW | value
            self._arm()
        elif offset == ALARM_HIGH:
            self._alarm_time = self._alarm_time & _LOW | value << 32
        elif offset == IRQ_ENABLED:
            self._enabled = value & 1
            self._update()
        elif offset == CLEAR_ALARM:
            self._armed = 0
            self._timer.cancel()
        elif offset == CLEAR_INTERRUPT:
            self._pending = 0
            self._update()

    def _set_time(self, time: int) -> None:
        self._offset = time - self.context.clock()
        if self._armed:
            self._arm()

    def fdt_nodes(self) -> list[Node]:
        return [self.node("rtc", "google,goldfish-rtc")]

    def state(self) -> State:
        return {
            "offset": self._offset,
            "time_high": self._time_high,
            "alarm_time": self._alarm_time,
            "armed": self._armed,
            "pending": self._pending,
            "enabled": self._enabled,
        }

    def load_state(self, state: State) -> None:
        self._timer.cancel()
        self._offset, self._time_high = state["offset"], state["time_high"]
        self._alarm_time, self._armed = state["alarm_time"], state["armed"]
        self._pending, self._enabled = state["pending"], state["enabled"]
        self._update()
        if self._armed:
            self._arm()
