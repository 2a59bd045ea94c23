"""Notifier: an eventfd that any process of the machine can ring; many rings before it is answered are one."""

from __future__ import annotations

import os
from contextlib import suppress


class Notifier:
    """Made before the fork; rung with :meth:`notify` from any process or thread, answered by whoever polls it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def notify(self) -> None:
        """Ring. Never blocks: at the counter's limit it has been rung enough."""
        with suppress(BlockingIOError):
            os.eventfd_write(self._fd, 1)

    def clear(self) -> bool:
        """Take back the rings so far; whether there were any. Look for work after this, not before."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
