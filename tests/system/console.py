"""Talks to a guest over the emulator's standard input and output, and says where everything stands if it falls silent.

A small expect: :meth:`Console.expect` waits for a pattern, :meth:`Console.shell` runs a command in the guest's shell.
Whatever fails shows the end of the console, the emulator's messages and the state of its processes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn

TAIL_LINES = 30
GRACE_S = 5.0
"""How long the emulator gets, after SIGTERM, to end and to print its statistics."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ConsoleError(AssertionError):
    """The guest did not do what was expected of it; the message has all that is known."""


class Console:
    """An emulator process (``command``) and its guest's console. A context manager that leaves no process behind."""

    def __init__(self, command: list[str], directory: Path, extra_environment: Mapping[str, str] | None = None) -> None:
        self.command = command
        self.text = ""
        """All that the guest has printed so far."""
        self.messages = ""
        """The emulator's standard error so far."""
        self._read = 0
        self._closed = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **(extra_environment or {})},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input = self._process.stdin.fileno()
        self._streams = [self._process.stdout.fileno(), self._process.stderr.fileno()]

    # -- talking
    def expect(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """Wait for ``pattern`` behind what was read before; reading goes on behind the match."""
        limit = time.monotonic() + timeout
        while not (found := re.compile(pattern, re.MULTILINE).search(self.text, self._read)):
            if not self._streams:
                self._fail(f"the emulator ended before the guest printed {pattern!r}")
            if (left := limit - time.monotonic()) <= 0:
                self._fail(f"the guest has not printed {pattern!r} within {timeout:g} s")
            self._pump(left)
        self._read = found.end()
        return found

    def send(self, text: str) -> None:
        """Type ``text``; waits for the guest if it doesn't keep up."""
        if self._closed:
            raise ConsoleError("the machine has been ended, see the failure before this one")
        data = text.encode()
        while data:
            try:
                data = data[os.write(self._input, data) :]
            except BrokenPipeError:
                self._fail(f"the emulator ended before it took {text!r}")

    def shell(self, command: str, timeout: float = 30, status: int = 0) -> str:
        """Run ``command`` in the guest's shell, which is at its prompt; its output, with line feeds as line ends."""
        self.send(f"printf '<%s>\\n' run; {command}; printf '<%s %d>\\n' ended $?\n")
        self.expect(r"^<run>\r\n", timeout)
        begin = self._read
        ended = self.expect(r"<ended (\d+)>\r\n", timeout)
        output = self.text[begin : ended.start()].replace("\r\n", "\n")
        if int(ended[1]) != status:
            raise ConsoleError(f"{command!r} ended with status {ended[1]}, not {status}:\n{output}")
        return output

    def wait(self, timeout: float = 60) -> int:
        """Wait until the emulator has ended; its exit code."""
        limit = time.monotonic() + timeout
        while self._streams:
            if (left := limit - time.monotonic()) <= 0:
                self._fail(f"the emulator has not ended within {timeout:g} s")
            self._pump(left)
        return self._process.wait(max(1.0, limit - time.monotonic()))

    def _pump(self, timeout: float) -> None:
        """Take what comes on either stream, or nothing after ``timeout`` seconds."""
        for fd in select.select(self._streams, [], [], max(0.0, timeout))[0]:
            data = os.read(fd, 65536)
            if not data:
                self._streams.remove(fd)
            elif self._process.stdout and fd == self._process.stdout.fileno():
                self.text += data.decode("latin-1")
            else:
                self.messages += data.decode(errors="replace")

    # -- processes
    def processes(self) -> list[int]:
        """The emulator's process and all below it."""
        found, pending = [], [self._process.pid]
        while pending:
            pid = pending.pop(0)
            children = _of_process(pid, f"task/{pid}/children")
            if _of_process(pid, "stat"):
                found.append(pid)
            pending += map(int, children.split())
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all processes together so far."""
        return sum(_cpu_seconds(pid) for pid in self.processes())

    def _fail(self, what: str) -> NoReturn:
        states = [_describe(pid) for pid in self.processes()]
        self.close()
        parts = {
            "console": "\n".join(self.text.splitlines()[-TAIL_LINES:]) or "(nothing)",
            "messages": self.messages.strip() or "(none)",
            "processes": "\n".join(states) or "(none)",
            "command": " ".join(self.command),
        }
        raise ConsoleError("\n".join([what, *(f"--- {name}\n{text}" for name, text in parts.items())]))

    def close(self) -> None:
        """End the emulator: with SIGTERM, so that it prints its statistics, and by force if that takes too long."""
        if self._closed:
            return
        self._closed = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + GRACE_S
        while self._streams and (left := limit - time.monotonic()) > 0:
            self._pump(left)
        with contextlib.suppress(ProcessLookupError):  # its vCPUs too, should it be gone without them
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        self._streams = []

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _of_process(pid: int, what: str) -> str:
    """A file of /proc/PID, "" if the process is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:
        return ""


def _cpu_seconds(pid: int) -> float:
    fields = _of_process(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _describe(pid: int) -> str:
    """One line: a process's name, state, what it waits for in the kernel, CPU time."""
    state = _of_process(pid, "stat").rpartition(")")[2].split()[:1]
    name, waits = _of_process(pid, "comm").strip(), _of_process(pid, "wchan").strip("0\n") or "-"
    return f"{pid} {name}: state {''.join(state)}, in {waits}, {_cpu_seconds(pid):.2f} s CPU"
