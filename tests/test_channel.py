"""Channels between processes: 10^5 round trips, and no lost wake-up however both ends fall asleep."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from mpemu.channel import STOP_LINE, ChannelSegment, Switchboard, VCpuPort
from mpemu.errors import ProtocolError
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.messages import Failed, Message, MmioRead, MmioWrite, Parked, Quit, Reply, Resume, encode
from tests.processes import fork, succeeded


class Coordinator:
    """Answers loads with address + 1, and stops when every child has sent Parked."""

    def __init__(self, segment: ChannelSegment, answer: Callable[[Message], Reply] | None = None) -> None:
        self.loop = MainLoop()
        self.children = len(segment.harts_of)
        self.custom = answer
        self.board = Switchboard(segment, self.answer)
        self.loop.add_reader(segment.doorbell.fileno(), self.board.serve)

    def answer(self, vcpu: int, message: Message) -> Reply | None:
        if isinstance(message, Parked):
            self.children -= 1
            if not self.children:
                self.loop.quit()
            return None
        if self.custom is not None:
            return self.custom(message)
        assert isinstance(message, MmioRead)
        return Reply(message.address + 1, False, 0)

    def run(self) -> None:
        self.loop.run()
        self.loop.close()


@pytest.fixture
def memory() -> MachineMemory:
    return MachineMemory(4, 1 << 20)


def test_round_trips(memory: MachineMemory) -> None:
    segment = ChannelSegment(memory, [[0]])

    def child() -> None:
        port = VCpuPort(segment, 0)
        for n in range(100_000):
            assert port.call(MmioRead(0, n, 4)).value == n + 1
        port.send(Parked())

    pid = fork(child)
    Coordinator(segment).run()
    assert succeeded(pid)


def test_no_lost_wake_ups(memory: MachineMemory) -> None:
    """Pauses of all lengths around the spin's, on both sides, so that each falls asleep at each point of the other."""
    segment = ChannelSegment(memory, [[0], [1], [2], [3]])

    def child(index: int) -> None:
        port, rng = VCpuPort(segment, index), random.Random(index)
        for n in range(4_000):
            assert port.call(MmioRead(index, n, 4)).value == n + 1
            end = time.monotonic_ns() + rng.choice((0, 0, 1_000, 20_000, 50_000, 60_000, 200_000))
            while time.monotonic_ns() < end:
                pass
            if n % 64 == 0:
                time.sleep(0.0002)
        port.send(Parked())

    def answer(message: Message) -> Reply:
        assert isinstance(message, MmioRead)
        end = time.monotonic_ns() + rng.choice((0, 0, 0, 1_000, 49_000, 51_000))
        while time.monotonic_ns() < end:
            pass
        return Reply(message.address + 1, False, 0)

    pids = [fork(lambda index=index: child(index)) for index in range(4)]  # type: ignore[misc]
    rng = random.Random(99)
    Coordinator(segment, answer).run()
    assert all(succeeded(pid) for pid in pids)


def test_commands_wake_a_parked_vcpu_in_order(memory: MachineMemory) -> None:
    segment = ChannelSegment(memory, [[0, 1]])

    def child() -> None:
        port = VCpuPort(segment, 0)
        expected = 0
        while True:
            command = port.receive()
            if command is None:
                port.wait()
            elif isinstance(command, Quit):
                break
            else:
                assert command == Resume(expected)
                expected += 1
                port.call(MmioWrite(0, 0, 4, expected))
        assert expected == 500
        port.send(Parked())

    answered = 0

    def answer(message: Message) -> Reply:
        nonlocal answered
        answered += 1
        assert isinstance(message, MmioWrite) and message.value == answered
        board.command(0, Resume(answered) if answered < 500 else Quit())
        return Reply(0, False, 0)

    pid = fork(child)
    coordinator = Coordinator(segment, answer)
    board = coordinator.board
    board.command(0, Resume(0))
    coordinator.run()
    assert succeeded(pid)


def test_stop_lines_of_all_harts_of_a_process(memory: MachineMemory) -> None:
    segment = ChannelSegment(memory, [[0, 1], [2, 3]])
    board = Switchboard(segment, lambda vcpu, message: None)
    board.raise_stop(1)
    assert [memory.hart(h).lines[STOP_LINE] for h in range(4)] == [0, 0, 1, 1]
    board.lower_stop(1)
    assert [memory.hart(h).lines[STOP_LINE] for h in range(4)] == [0, 0, 0, 0]


def test_long_failure_text_fits(memory: MachineMemory) -> None:
    segment = ChannelSegment(memory, [[0]])
    heard: list[Message] = []
    board = Switchboard(segment, lambda vcpu, message: heard.append(message))
    VCpuPort(segment, 0).send(Failed(0, "x" * 3000))
    board.serve()
    assert heard == [Failed(0, "x" * 3000)]


def test_damaged_requests_are_an_error(memory: MachineMemory) -> None:
    segment = ChannelSegment(memory, [[0]])
    board = Switchboard(segment, lambda vcpu, message: None)
    segment.requests(0).push(b"\xff\xff")
    with pytest.raises(ProtocolError):
        board.serve()
    segment.requests(0).push(encode(Parked()))
    board.serve()


def test_serving_ends_though_requests_never_do(memory: MachineMemory) -> None:
    """Other callbacks get their turn, and what is left rings the doorbell again."""
    segment = ChannelSegment(memory, [[0]])
    port = VCpuPort(segment, 0)
    served = 0

    def answer(vcpu: int, message: Message) -> None:
        nonlocal served
        served += 1
        port.send(Parked())

    board = Switchboard(segment, answer)
    port.send(Parked())
    began = time.monotonic()
    board.serve()
    assert served > 10 and time.monotonic() - began < 1
    assert segment.doorbell.clear()
