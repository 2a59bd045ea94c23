"""What users, shells and hosts do to a running machine: it ends with a message and a documented exit code, without a
traceback, and leaves nothing behind: no process, no shared memory, no raw terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.system.emulators import ROOT, emulator

MPEMU = [sys.executable, "-m", "mpemu"]
LIMIT = 30


def session(sid: int) -> dict[int, str]:
    """pid and name of the living processes of a session."""
    found = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{int(entry)}/stat") as file:
            text = file.read()
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 1 :].split()
            if int(rest[3]) == sid and rest[0] not in "ZX":
                found[int(entry)] = name
    return found


def segments() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("mpemu")}


@dataclass
class Run:
    """A machine in a session of its own."""

    process: subprocess.Popen[str]
    before: set[str] = field(default_factory=segments)

    @property
    def pid(self) -> int:
        return self.process.pid

    def begun(self) -> None:
        """Wait until the command has taken over its signals; what comes before is Python's."""

        def caught() -> bool:
            with open(f"/proc/{self.pid}/status") as file:
                mask = re.search(r"SigCgt:\s*(\w+)", file.read())
            return self.process.poll() is not None or bool(mask and int(mask[1], 16) >> signal.SIGHUP - 1 & 1)

        assert wait_until(caught, LIMIT)

    def harts(self, count: int) -> list[int]:
        """The vCPU processes, when there are ``count`` of them and they have run something."""

        def found() -> list[int]:
            return [pid for pid, name in session(self.pid).items() if name.startswith("mpemu-hart")]

        assert wait_until(lambda: len(found()) >= count, LIMIT)
        time.sleep(0.1)
        return found()

    def end(self) -> tuple[int, str]:
        """(exit code, messages) when it is over; checks what every end has to be like."""
        _, messages = self.process.communicate(timeout=LIMIT)
        assert wait_until(lambda: not session(self.pid), 3), session(self.pid)
        assert not (segments() - self.before)
        assert "Traceback" not in messages, messages
        return self.process.returncode, messages


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts ``mpemu ARGUMENTS...``; by default a machine whose guest loops."""
    runs: list[Run] = []
    loop = tmp_path / "loop"
    loop.write_bytes(bytes.fromhex("6f000000"))

    def start(*arguments: str, **options: object) -> Run:
        arguments = arguments or ("run", "bare", "--kernel", str(loop), "--harts", "2")
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen([*MPEMU, *arguments], cwd=ROOT, text=True, start_new_session=True, **given)  # type: ignore[call-overload]
        runs.append(Run(process))
        return runs[-1]

    yield start
    for run in runs:
        for pid in session(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.process.wait()
        if run.process.stderr:
            run.process.stderr.close()


STARTED_S = 0.5
"""Harts that exist are in the guest's code after this."""


@pytest.mark.parametrize("moment", random.Random(1).choices(range(700), k=6))
def test_coordinator_killed(start: Callable[..., Run], moment: int) -> None:
    run = start()
    time.sleep(moment / 1000)
    run.process.kill()
    assert run.end()[0] == -signal.SIGKILL


@pytest.mark.parametrize("hart", [0, 1])
def test_vcpu_killed(start: Callable[..., Run], hart: int) -> None:
    run = start()
    pid = run.harts(2)[hart]
    time.sleep(STARTED_S)
    os.kill(pid, signal.SIGKILL)
    code, messages = run.end()
    assert code == 70 and f"hart {hart}: its process" in messages and "=> 0x80000000: j 0" in messages


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=str
)
def test_signals_at_any_moment(start: Callable[..., Run], number: int, expected: int, group: bool) -> None:
    run = start()
    run.begun()
    time.sleep(random.random() * 0.5)
    for _ in range(2):  # impatient
        (os.killpg if group else os.kill)(run.pid, number)
    code, messages = run.end()
    assert code == expected and messages.count("mpemu: ") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_builder_ends_with_the_command(start: Callable[..., Run], tmp_path: Path, number: int) -> None:
    run = start("run", "bare", "--kernel", "hello", env={**os.environ, "MPEMU_CACHE_DIR": str(tmp_path / "cache")})
    assert wait_until(lambda: len(session(run.pid)) > 1, LIMIT)
    time.sleep(0.3)
    os.kill(run.pid, number)
    assert run.end()[0] == (143 if number == signal.SIGTERM else -number)
    assert list((tmp_path / "cache" / "code").iterdir()) == []


def test_stopped_vcpus_go_on(start: Callable[..., Run]) -> None:
    run = start()
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP, signal.SIGCONT):
        for pid in run.harts(2):
            os.kill(pid, number)
    run.process.terminate()
    assert run.end()[0] == 143


def test_terminal_is_raw_again_after_fg(start: Callable[..., Run]) -> None:
    master, slave = pty.openpty()

    def raw() -> bool:
        return not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)

    before = termios.tcgetattr(slave)
    run = start(stdin=slave, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    assert wait_until(raw, LIMIT)
    os.kill(run.pid, signal.SIGSTOP)
    termios.tcsetattr(slave, termios.TCSANOW, before)  # as a shell does
    os.kill(run.pid, signal.SIGCONT)
    assert wait_until(raw)
    os.write(master, b"\x01x")
    assert run.end()[0] == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def close_stdin() -> None:
    os.close(0)


def close_stdout() -> None:
    os.close(1)


def close_all() -> None:
    os.closerange(0, 3)


@pytest.mark.parametrize("close", [close_stdin, close_stdout, close_all])
def test_closed_standard_streams(start: Callable[..., Run], close: Callable[[], None]) -> None:
    assert start("run", "bare", "--kernel", "hello", preexec_fn=close).end()[0] == 0


def test_reader_of_the_console_goes_away(start: Callable[..., Run]) -> None:
    read, write = os.pipe()
    os.close(read)
    code, messages = start("run", "bare", "--kernel", "hello", "--no-stats", stdout=write).end()
    os.close(write)
    assert (code, messages) == (0, "")


def test_console_on_a_full_disk(start: Callable[..., Run]) -> None:
    with open("/dev/full", "w") as full:
        code, messages = start("run", "bare", "--kernel", "hello", "--no-stats", stdout=full).end()
        assert code == 0 and "stdio: No space left on device; the guest's output is lost" in messages
        code, messages = start("list", "devices", stdout=full).end()
        assert code == 71 and messages == "mpemu: No space left on device: the output can't be written\n"


@pytest.mark.parametrize("count", [14, 20, 26])
def test_too_few_descriptors(start: Callable[..., Run], count: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    code, messages = start("run", "bare", "--kernel", "hello", "--harts", "8", preexec_fn=limit).end()
    assert code == 71 and "Too many open files" in messages


def test_too_little_address_space(start: Callable[..., Run]) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))

    code, messages = start("run", "bare", "--kernel", "hello", "--memory", "512M", preexec_fn=limit).end()
    assert code == 71 and "Cannot allocate memory" in messages


def test_disk_of_two_machines(start: Callable[..., Run], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    loop = ("run", "bare", "--kernel", str(tmp_path / "loop"), "--drive")
    first = start(*loop, str(disk))
    first.harts(1)
    time.sleep(0.3)
    code, messages = start(*loop, str(disk)).end()
    assert code == 66 and f"{disk} is in use by another machine" in messages
    first.process.terminate()
    assert first.end()[0] == 143


@pytest.mark.parametrize(("name", "harts"), [("mpemu", 4), ("deterministic", 2)])
def test_garbage_to_every_device(name: str, harts: int, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """Not on QEMU, which it ends with a failed assertion."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 16))
    devices = ("devices[+]={type: virtio-rng}", "devices[+]={type: virtio-console, console: none}")
    options = ("--drive", str(disk), *(word for device in devices for word in ("--set", device)))
    append = f"rounds=2000 seed={random.randrange(1000)}"
    result = emulator(name)(guest_programs["tests/fuzz_devices"], harts=harts, append=append, options=options)
    assert result.code == 0 and "PASS" in result.console, (append, result.messages)
