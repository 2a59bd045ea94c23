"""Console backends: nothing lost, nothing blocks, the terminal comes back whatever happens."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpemu.devices.chardev import Chardev, EscapeActions, make_chardev
from mpemu.devices.chardev.base import HIGH_WATER, FdChardev
from mpemu.devices.chardev.escape import EscapeFilter
from mpemu.loop import MainLoop


class Device:
    """The guest's side: collects input, with room for ``room`` bytes."""

    def __init__(self, chardev: Chardev, room: int = 1 << 20) -> None:
        self.got, self.room, self.drained = bytearray(), room, 0
        chardev.attach(self._receive, lambda: self.room, self._drained)

    def _receive(self, data: bytes) -> None:
        self.got += data
        self.room -= len(data)
        assert self.room >= 0

    def _drained(self) -> None:
        self.drained += 1


@pytest.fixture
def loop() -> Iterator[MainLoop]:
    loop = MainLoop()
    yield loop
    loop.close()


def turn(loop: MainLoop, until: Callable[[], bool], seconds: float = 5) -> None:
    """Run the loop until something is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it does not happen"
        loop.asyncio.call_later(0.005, loop.quit)
        loop.run()


def actions() -> EscapeActions:
    return EscapeActions(lambda: None, lambda text: None)


def test_file_keeps_everything_written_before_close(loop: MainLoop, tmp_path: Path) -> None:
    chardev = make_chardev(f"file:{tmp_path / 'log'}", loop, actions())
    chardev.open()
    for _ in range(1000):
        chardev.write(b"line\n")
    chardev.close()
    assert (tmp_path / "log").read_bytes() == b"line\n" * 1000


def test_pipe_back_pressure_and_drain(loop: MainLoop) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    chardev = FdChardev(loop)
    device = Device(chardev)
    chardev.connect(-1, writer)
    total = 0
    while not chardev.congested:
        chardev.write(b"x" * 1000)
        total += 1000
        loop.asyncio.call_soon(loop.quit)
        loop.run()
    assert total > HIGH_WATER and device.drained == 0
    got = 0

    def drained() -> bool:
        nonlocal got
        if select.select([reader], [], [], 0)[0]:
            got += len(os.read(reader, 1 << 20))
        return got == total

    turn(loop, drained)
    assert device.drained == 1 and not chardev.congested
    chardev.close()
    os.close(reader)


def test_a_reader_that_is_gone_is_survived(loop: MainLoop) -> None:
    reader, writer = os.pipe()
    chardev = FdChardev(loop)
    chardev.connect(-1, writer)
    os.close(reader)
    chardev.write(b"nobody")
    loop.asyncio.call_later(0.01, loop.quit)
    loop.run()
    chardev.write(b"still nobody")
    chardev.close()


def test_pty_both_ways_and_input_waits_for_room(loop: MainLoop) -> None:
    chardev = make_chardev("pty", loop, actions())
    device = Device(chardev, room=3)
    chardev.open()
    name = chardev.description.removeprefix("pty (").removesuffix(")")
    user = os.open(name, os.O_RDWR | os.O_NOCTTY)
    chardev.write(b"login: ")
    turn(loop, lambda: bool(select.select([user], [], [], 0)[0]))
    assert os.read(user, 100) == b"login: "
    os.write(user, b"root\r")
    turn(loop, lambda: device.got == b"roo")
    device.room = 10
    chardev.input_wanted()
    turn(loop, lambda: device.got == b"root\r")
    os.close(user)
    chardev.close()


def test_unix_socket_clients_come_and_go(loop: MainLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "console")
    chardev = make_chardev(f"unix:{path}", loop, actions())
    device = Device(chardev)
    chardev.open()
    for word in (b"one", b"two"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(word)
            turn(loop, lambda word=word: device.got.endswith(word))  # type: ignore[misc]
            chardev.write(b"hello")
            client.setblocking(False)
            turn(loop, lambda client=client: bool(select.select([client], [], [], 0)[0]))  # type: ignore[misc]
            assert client.recv(100) == b"hello"
        turn(loop, lambda: chardev._out < 0)  # type: ignore[attr-defined]
    chardev.close()
    assert not os.path.exists(path)


def test_stale_socket_is_replaced_and_a_live_one_is_not(loop: MainLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    first = make_chardev(f"unix:{path}", loop, actions())
    first.open()
    second = make_chardev(f"unix:{path}", loop, actions())
    with pytest.raises(OSError):
        second.open()
    first.close()


@pytest.mark.parametrize("spec", ["tty", "file:", "unix:", "stdio:x", "none:", ""])
def test_unknown_specs_are_refused(loop: MainLoop, spec: str) -> None:
    with pytest.raises(ValueError, match="console"):
        make_chardev(spec, loop, actions())


def test_escape_commands() -> None:
    shown: list[str] = []
    quits: list[int] = []
    commands: list[str] = []

    def monitor(line: str) -> str:
        commands.append(line)
        return "ok\n"

    escape = EscapeFilter(EscapeActions(lambda: quits.append(1), shown.append, monitor))
    assert escape.feed(b"ab\x01") == b"ab" and escape.feed(b"xcd") == b"cd" and quits == [1]
    assert escape.feed(b"\x01\x01\x01h\x01q") == b"\x01"
    assert "C-a x" in shown[-1]
    assert escape.feed(b"\x01cinfoo\x7f\rthis\x15quit\r\x01cguest") == b"guest"
    assert commands == ["info", "quit"]


STDIO = """
import sys, time
from mpemu.devices.chardev import EscapeActions, make_chardev
from mpemu.loop import MainLoop
loop = MainLoop()
chardev = make_chardev("stdio", loop, EscapeActions(loop.quit, lambda t: None))
chardev.attach(chardev.write, lambda: 100)
chardev.open()
chardev.write(b"ready")
loop.run()
chardev.close()
loop.close()
"""


@pytest.mark.parametrize("end", ["ctrl-a x", "kill"])
def test_terminal_is_raw_while_it_runs_and_restored_after(end: str) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen([sys.executable, "-c", STDIO], stdin=slave, stdout=slave, start_new_session=True)

    def read(expected: bytes) -> None:
        got = b""
        while expected not in got:
            assert select.select([master], [], [], 10)[0], got
            got += os.read(master, 1000)

    try:
        read(b"ready")
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        os.write(master, b"\x03echo")
        read(b"\x03echo")
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            os.write(master, b"\x01x")
        process.wait(10)
        limit = time.monotonic() + 5
        while termios.tcgetattr(slave) != before and time.monotonic() < limit:
            time.sleep(0.01)
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
