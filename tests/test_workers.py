"""Workers: results and exceptions come back in the loop, which stays quick meanwhile."""

from __future__ import annotations

import os
import tempfile
import threading
import time

from mpemu.loop import MainLoop


def test_results_and_exceptions_arrive_in_the_loop() -> None:
    loop = MainLoop()
    results: list[object] = []

    def done(result: object) -> None:
        assert threading.current_thread() is threading.main_thread()
        results.append(result)
        if len(results) == 20:
            loop.quit()

    def work(n: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        if n == 7:
            raise OSError("disk on fire")
        return n

    for n in range(20):
        loop.submit(lambda n=n: work(n), done)  # type: ignore[misc]
    loop.run()
    loop.close()
    assert sorted(r for r in results if isinstance(r, int)) == [n for n in range(20) if n != 7]
    assert [str(r) for r in results if isinstance(r, OSError)] == ["disk on fire"]


def test_done_may_submit_more() -> None:
    loop = MainLoop()
    count = 0

    def done(_: object) -> None:
        nonlocal count
        count += 1
        if count < 500:
            loop.submit(lambda: None, done)
        else:
            loop.quit()

    loop.submit(lambda: None, done)
    loop.run()
    loop.close()
    assert count == 500


def test_latency_stays_low_during_an_fsync_storm() -> None:
    loop = MainLoop()
    late: list[float] = []
    left = 40

    with tempfile.NamedTemporaryFile() as file:

        def write() -> None:
            os.pwrite(file.fileno(), os.urandom(1 << 16), 0)
            os.fsync(file.fileno())

        def done(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                loop.quit()

        deadline = time.monotonic_ns()

        def tick() -> None:
            nonlocal deadline
            late.append((time.monotonic_ns() - deadline) / 1e6)
            deadline = time.monotonic_ns() + 1_000_000
            timer.arm(deadline)

        timer = loop.realtime.timer(tick)
        timer.arm(deadline)
        for _ in range(left):
            loop.submit(write, done)
        loop.run()
        loop.close()
    late.sort()
    assert late[len(late) // 2] < 10, f"median lateness of a 1 ms timer: {late[len(late) // 2]:.1f} ms"
