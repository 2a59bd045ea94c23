"""The translator is killed again and again while harts race on what it makes: nothing but speed may change."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.emulators import run_mpemu
from tests.system.test_translation import AT_ONCE

PAUSES_S = (0.1, 0.3, 0.8)
"""Between kills: while it starts, and when it has published something."""
ENOUGH, MOST_RUNS = 3, 40
"""Translators that must have been killed, and runs of a guest, which may be over before that."""


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
            if b"mpemu.codegen.translator" in (entry / "cmdline").read_bytes().split(b"\0"):
                ancestor = parent_of(int(entry.name))
                while ancestor > 1 and ancestor != os.getpid():
                    ancestor = parent_of(ancestor)
                if ancestor == os.getpid():
                    yield int(entry.name)


@pytest.mark.parametrize(
    ("program", "append"),
    [("locks", "rounds=100000 barriers=3000"), ("lrsc", "rounds=100000"), ("remote_fence", "rounds=2000")],
)
def test_races(program: str, append: str, guest_programs: dict[str, Path]) -> None:
    """Runs of the guest, until enough have died."""
    over = threading.Event()
    killed: set[int] = set()

    def kill() -> None:
        pauses = itertools.cycle(PAUSES_S)
        while not over.wait(next(pauses)):
            for pid in translators():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(MOST_RUNS):
            result = run_mpemu(guest_programs[f"tests/{program}"], harts=2, append=append, options=AT_ONCE, timeout=60)
            assert result.code == 0, result.console + result.messages
            if len(killed) >= ENOUGH:
                break
    finally:
        over.set()
        killer.join()
    assert len(killed) >= ENOUGH
