"""Runs a program and takes what it prints, but never waits for one that hangs, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TAIL_LINES = 20


class ProcessError(Exception):
    """The program hung or failed; ``output`` is what it had printed by then."""

    def __init__(self, reason: str, output: str) -> None:
        super().__init__(reason)
        self.output = output


def run(command: list[str], silence_s: float, extra_environment: Mapping[str, str] | None = None) -> str:
    """The program's standard output, once it has ended with code 0.

    It is killed with all its children when it has printed nothing for ``silence_s`` seconds, and when this process is
    interrupted. ProcessError says how it ended otherwise, with the end of its messages.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(extra_environment or {})},
        start_new_session=True,
    ) as process:
        try:
            output, messages, hangs = _read(process, silence_s)
            if not hangs:
                process.wait(silence_s)
        except subprocess.TimeoutExpired:
            hangs = True
        except BaseException:
            _kill(process)
            raise
        if hangs:
            _kill(process)
    if not hangs and process.returncode == 0:
        return output
    reason = f"nothing more came for {silence_s:g} s" if hangs else f"exit code {process.returncode}"
    tail = "\n".join([*output.splitlines(), *messages.splitlines()][-TAIL_LINES:])
    raise ProcessError(f"{reason}: {' '.join(command)}\n{tail}".rstrip(), output)


def _read(process: subprocess.Popen[bytes], silence_s: float) -> tuple[str, str, bool]:
    """Output, messages, and whether it fell silent before it closed both."""
    assert process.stdout and process.stderr
    parts: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    streams, limit, hangs = list(parts), time.monotonic() + silence_s, False
    while streams and not hangs:
        ready = select.select(streams, [], [], max(0.0, limit - time.monotonic()))[0]
        hangs = not ready
        for fd in ready:
            data = os.read(fd, 65536)
            parts[fd] += data
            limit = time.monotonic() + silence_s
            if not data:
                streams.remove(fd)
    output, messages = (bytes(text).decode(errors="replace") for text in parts.values())
    return output, messages, hangs


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, which nobody has waited for yet, and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
