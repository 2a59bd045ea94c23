"""Far MMIO round trips: what a guest's access to a device model costs, without the device.

Run: python bench/mmio_channel.py [--count N]. One process asks, another answers from the coordinator's main loop, as a
machine does. "asleep": both have gone to sleep before each request; "burst": one request straight after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time

from mpemu.channel import ChannelSegment, Switchboard, VCpuPort
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.messages import Message, MmioRead, Parked, Reply

BUDGET_US = {"asleep": 60.0, "burst": 10.0}


def ask(port: VCpuPort, count: int, pause_s: float) -> list[float]:
    """Round-trip times in us."""
    times = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter_ns()
        port.call(MmioRead(0, 0x1000_0005, 1))
        times.append((time.perf_counter_ns() - began) / 1000)
    return times


def report(name: str, times: list[float]) -> None:
    times.sort()
    print(
        f"{name:7} {len(times):7} round trips: median {statistics.median(times):5.1f} us, "
        f"90% {times[len(times) * 9 // 10]:5.1f} us, 99% {times[len(times) * 99 // 100]:6.1f} us "
        f"(budget: median {BUDGET_US[name]:.0f} us)"
    )


def child(segment: ChannelSegment, count: int, result: int) -> None:
    port = VCpuPort(segment, 0)
    times = {"asleep": ask(port, count // 20, 0.002), "burst": ask(port, count, 0)}
    with open(result, "w") as file:
        json.dump(times, file)
    port.send(Parked())


def measure(count: int) -> dict[str, list[float]]:
    """Round-trip times in us, ``count`` of them in the burst and a twentieth asleep."""
    memory = MachineMemory(1, 1 << 20)
    segment = ChannelSegment(memory, [[0]])
    with tempfile.TemporaryFile() as result:
        pid = os.fork()
        if pid == 0:
            try:
                child(segment, count, os.dup(result.fileno()))
            finally:
                os._exit(0)
        loop = MainLoop()
        answer = Reply(0x60, False, 0)

        def serve(vcpu: int, message: Message) -> Reply | None:
            if isinstance(message, Parked):
                loop.quit()
                return None
            return answer

        board = Switchboard(segment, serve)
        loop.add_reader(board.doorbell.fileno(), board.serve)
        loop.run()
        loop.close()
        os.waitpid(pid, 0)
        result.seek(0)
        times: dict[str, list[float]] = json.load(result)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="round trips of the burst")
    for name, times in measure(parser.parse_args().count).items():
        report(name, times)


if __name__ == "__main__":
    main()
