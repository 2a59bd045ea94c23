"""The translator is killed again and again while harts race on what it makes: nothing but speed may change."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.emulators import run_mpemu
from tests.system.test_translation import AT_ONCE

EVERY_S = 0.15
"""Enough for it to start and to publish something, most of the time."""


def parent_of(pid: int) -> int:
    """0 if there is no such process."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def translators() -> Iterator[int]:
    """Those of machines that this process has started, and of no other."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() == "mpemu-transl":
                ancestor = parent_of(int(entry.name))
                while ancestor > 1 and ancestor != os.getpid():
                    ancestor = parent_of(ancestor)
                if ancestor == os.getpid():
                    yield int(entry.name)


@pytest.mark.parametrize(
    ("program", "append"),
    [("locks", "rounds=60000 barriers=2000"), ("lrsc", "rounds=60000"), ("remote_fence", "rounds=1000")],
)
def test_races(program: str, append: str, guest_programs: dict[str, Path]) -> None:
    over = threading.Event()
    killed: set[int] = set()

    def kill() -> None:
        while not over.wait(EVERY_S):
            for pid in translators():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = run_mpemu(guest_programs[f"tests/{program}"], harts=2, append=append, options=AT_ONCE, timeout=90)
    finally:
        over.set()
        killer.join()
    assert result.code == 0, result.console + result.messages
    assert killed, "the machine was done before its translator could be killed"
