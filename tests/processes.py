"""Forking in tests: a child that can't escape, and asking whether processes still exist."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable


def fork(child: Callable[[], None]) -> int:
    """Run ``child`` in a process of its own; its exit code is 0 if it returned, 1 if it raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        child()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def running(pid: int) -> bool:
    """Whether there is such a process, zombies not counted."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Poll until ``condition()``; whether it came true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.002)
    return True
