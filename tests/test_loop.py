"""The main loop: handlers that remove themselves, coalescing, fairness, the watchdog, and doing nothing when idle."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import pytest

from mpemu.loop import MainLoop
from mpemu.notifier import Notifier
from tests.processes import fork, succeeded


@pytest.fixture
def loop() -> MainLoop:
    made = MainLoop()
    yield made  # type: ignore[misc]
    made.close()


def after(loop: MainLoop, ms: float, callback: object) -> None:
    loop.realtime.timer(callback, "test").arm(time.monotonic_ns() + int(ms * 1e6))  # type: ignore[arg-type]


def test_handlers_remove_themselves_and_each_other(loop: MainLoop) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    calls: list[int] = []

    def handler(index: int) -> None:
        calls.append(index)
        for ours, _ in pairs:  # all of them are ready: the first one to run removes all
            loop.remove_reader(ours.fileno())

    for index, (ours, theirs) in enumerate(pairs):
        loop.add_reader(ours.fileno(), lambda index=index: handler(index))  # type: ignore[misc]
        theirs.send(b"x")
    after(loop, 30, loop.quit)
    loop.run()
    assert len(calls) == 1
    for pair in pairs:
        pair[0].close()
        pair[1].close()


def test_descriptor_closed_and_number_reused_inside_a_callback(loop: MainLoop) -> None:
    first, peer = socket.socketpair()
    heard: list[bytes] = []

    def replace() -> None:
        number = first.fileno()
        loop.remove_reader(number)
        first.close()
        ours, theirs = socket.socketpair()
        os.dup2(ours.fileno(), number)
        loop.add_reader(number, lambda: heard.append(os.read(number, 10)) or loop.quit())  # type: ignore[func-returns-value]
        theirs.send(b"new")
        kept.extend((ours, theirs))

    kept: list[socket.socket] = []
    loop.add_reader(first.fileno(), replace)
    peer.send(b"old")
    loop.run()
    assert heard == [b"new"]
    for sock in (*kept, peer):
        sock.close()


def test_two_schedules_are_one_run(loop: MainLoop) -> None:
    runs = 0

    def work() -> None:
        nonlocal runs
        runs += 1

    half = loop.bottom_half(work)
    for _ in range(10):
        half.schedule()
    cancelled = loop.bottom_half(work)
    cancelled.schedule()
    cancelled.cancel()
    after(loop, 10, loop.quit)
    loop.run()
    assert runs == 1


def test_bottom_half_that_reschedules_itself_starves_nobody(loop: MainLoop) -> None:
    ours, theirs = socket.socketpair()
    runs = 0

    def again() -> None:
        nonlocal runs
        runs += 1
        if runs == 10:
            theirs.send(b"x")
        half.schedule()

    half = loop.bottom_half(again)
    half.schedule()
    loop.add_reader(ours.fileno(), loop.quit)
    loop.run()
    assert runs < 20
    ours.close()
    theirs.close()


def test_notifier_from_other_processes_coalesces(loop: MainLoop) -> None:
    notifier, done = Notifier(), Notifier()
    calls = 0

    def heard() -> None:
        nonlocal calls
        calls += 1

    def child() -> None:
        for _ in range(1000):
            notifier.notify()
        done.notify()

    loop.on_notify(notifier, heard)
    loop.on_notify(done, loop.quit)
    pid = fork(child)
    assert succeeded(pid)
    loop.run()
    assert calls == 1
    notifier.close()
    done.close()


def test_slow_callback_is_named() -> None:
    slow: list[tuple[str, float]] = []
    loop = MainLoop(slow_ms=20, on_slow=lambda name, ms: slow.append((name, ms)))

    def sleepy_callback() -> None:
        time.sleep(0.05)
        loop.quit()

    loop.bottom_half(lambda: None).schedule()
    loop.call_soon(sleepy_callback)
    loop.run()
    loop.close()
    assert len(slow) == 1
    assert "sleepy_callback" in slow[0][0] and slow[0][1] >= 50


def test_exception_ends_run_and_is_raised(loop: MainLoop) -> None:
    def broken() -> None:
        raise KeyError("oops")

    loop.call_soon(broken)
    with pytest.raises(KeyError, match="oops"):
        loop.run()
    after(loop, 1, loop.quit)
    loop.run()  # usable again


def test_idle_loop_uses_no_cpu_and_does_not_wake_up(loop: MainLoop) -> None:
    def switches() -> int:
        with open(f"/proc/self/task/{threading.get_native_id()}/status") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))

    ours, theirs = socket.socketpair()
    loop.add_reader(ours.fileno(), loop.quit)
    loop.submit(lambda: None, lambda result: None)  # a pool that exists, and a timer that is armed
    after(loop, 60_000, loop.quit)
    after(loop, 50, loop.quit)
    loop.run()
    before, cpu = switches(), time.thread_time()
    threading.Timer(0.5, lambda: theirs.send(b"x")).start()
    loop.run()
    assert switches() - before <= 5
    assert time.thread_time() - cpu < 0.05
    ours.close()
    theirs.close()


def test_signals_arrive_as_callbacks(loop: MainLoop) -> None:
    heard: list[str] = []

    def handle() -> None:
        heard.append("signal")
        loop.quit()

    loop.on_signal(signal.SIGUSR1, handle)
    loop.call_soon(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run()
    assert heard == ["signal"]


def test_loop_gives_its_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        loop = MainLoop()
        after(loop, 1, loop.quit)
        loop.submit(lambda: 1, lambda result: None)
        loop.run()
        loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
