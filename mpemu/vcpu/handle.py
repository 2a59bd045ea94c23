"""A vCPU process as the coordinator sees it: its pid, whether it is parked, how it ended."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress


class VCpuHandle:
    """Process ``pid`` runs ``harts``. The pid can't be reused before :meth:`reap`, so the handle never hits another."""

    def __init__(self, index: int, harts: list[int], pid: int) -> None:
        self.index, self.harts, self.pid = index, harts, pid
        self.owed = 1
        """Parked messages that are to come: for the start, each reset, each resume (which ends with a stop)."""
        self.status: int | None = None
        """As of waitpid() once it has ended: see :attr:`fate`."""
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable from the moment of the process's death."""
        return self._pidfd

    @property
    def parked(self) -> bool:
        """Stands still, and has done all that it was told."""
        return self.owed == 0

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return "is alive"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"exited with code {code}"
        hint = " (no memory left in /dev/shm?)" if -code == signal.SIGBUS else ""
        return f"was killed by {signal_name(-code)}{hint}"

    def reap(self, timeout_ms: int | None = None) -> bool:
        """Wait for the end of the process; False if it is still alive after ``timeout_ms`` (None: however long)."""
        if self.status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(timeout_ms):
                return False
            _, self.status = os.waitpid(self.pid, 0)
        return True

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        if self.status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def signal_name(number: int) -> str:
    """SIGSEGV for 11, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
