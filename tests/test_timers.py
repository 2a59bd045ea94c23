"""Timers: never early, bounded drift, clocks that stop, and what happens when callbacks change timers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.loop import MainLoop
from mpemu.messages import NO_DEADLINE
from mpemu.timers import SteppedClock, VirtualClock


@pytest.mark.parametrize("which", ["realtime", "host", "virtual"])
def test_never_early_in_order_and_not_late_for_long(which: str) -> None:
    loop = MainLoop()
    clock = getattr(loop, which)
    if isinstance(clock, VirtualClock):
        clock.start()
    fired: list[tuple[int, int]] = []
    start = clock.now()

    def fire(deadline: int) -> None:
        fired.append((deadline, clock.now()))
        if len(fired) == 50:
            loop.quit()

    for n in range(50):
        deadline = start + (n * 7919 % 50) * 1_300_000
        clock.timer(lambda d=deadline: fire(d)).arm(deadline)  # type: ignore[misc]
    loop.run()
    loop.close()
    assert all(at >= deadline for deadline, at in fired)
    assert [d for d, _ in fired] == sorted(d for d, _ in fired)


def test_ten_thousand_periods_do_not_drift() -> None:
    """A period of 100 us: each tick from its deadline, not from when it came. Late ones catch up."""
    loop = MainLoop()
    loop.virtual.start()
    period, count = 100_000, 0
    start = deadline = loop.virtual.now()

    def tick() -> None:
        nonlocal count, deadline
        assert loop.virtual.now() >= deadline
        count += 1
        deadline += period
        if count == 10_000:
            loop.quit()
        else:
            timer.arm(deadline)

    timer = loop.virtual.timer(tick)
    timer.arm(deadline)
    loop.run()
    loop.close()
    took = loop.virtual.now() - start
    assert 9_999 * period <= took < 9_999 * period + 1_000_000_000


def test_virtual_clock_stops_with_the_machine() -> None:
    loop = MainLoop()
    fired: list[int] = []
    timer = loop.virtual.timer(lambda: (fired.append(loop.virtual.now()), loop.quit()))  # type: ignore[arg-type,return-value]
    timer.arm(150_000_000)
    loop.realtime.timer(loop.quit).arm(time.monotonic_ns() + 40_000_000)
    loop.run()  # stopped: nothing but the other timer
    assert not fired and loop.virtual.now() == 0
    loop.virtual.start()
    loop.realtime.timer(loop.virtual.stop).arm(time.monotonic_ns() + 5_000_000)
    loop.realtime.timer(loop.quit).arm(time.monotonic_ns() + 200_000_000)
    loop.run()
    assert not fired
    frozen = loop.virtual.now()
    assert frozen >= 5_000_000
    time.sleep(0.01)
    assert loop.virtual.now() == frozen
    loop.virtual.start()
    loop.run()
    loop.close()
    assert len(fired) == 1 and fired[0] >= 150_000_000


def test_cancel_and_rearm_inside_callbacks() -> None:
    clock = SteppedClock()
    log: list[str] = []
    first = clock.timer(lambda: (log.append("first"), second.cancel(), third.arm(50)))  # type: ignore[arg-type,return-value]
    second = clock.timer(lambda: log.append("second"))
    third = clock.timer(lambda: log.append("third"))
    first.arm(10)
    second.arm(20)
    third.arm(20)
    clock.advance(30)
    assert log == ["first"]
    clock.advance(49)
    assert log == ["first"] and clock.next_deadline() == 50
    clock.advance(50)
    assert log == ["first", "third"] and clock.next_deadline() == NO_DEADLINE


def test_stepped_clock_runs_what_callbacks_arm_for_now() -> None:
    clock = SteppedClock()
    log: list[int] = []

    def again() -> None:
        log.append(clock.now())
        if len(log) < 3:
            timer.arm(clock.now())

    timer = clock.timer(again)
    timer.arm(5)
    clock.advance(7)
    assert log == [7, 7, 7]
    clock.advance(6)
    assert clock.now() == 7


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30) | st.none()), max_size=60))
def test_like_a_simple_model(operations: list[tuple[int, int | None]]) -> None:
    """(timer, deadline from now, or None to cancel), one step of time in between."""
    clock = SteppedClock()
    fired: list[tuple[int, int]] = []
    timers = [clock.timer(lambda i=i: fired.append((clock.now(), i))) for i in range(6)]  # type: ignore[misc]
    model: dict[int, int] = {}
    expected: list[tuple[int, int]] = []
    now = 0
    for index, deadline in operations:
        if deadline is None:
            timers[index].cancel()
            model.pop(index, None)
        else:
            timers[index].arm(now + deadline)
            model[index] = now + deadline
        now += 3
        clock.advance(now)
        expected += [(now, i) for i in model if model[i] <= now]
        model = {i: d for i, d in model.items() if d > now}
        assert clock.next_deadline() == min(model.values(), default=NO_DEADLINE)
    assert sorted(fired) == sorted(expected)
