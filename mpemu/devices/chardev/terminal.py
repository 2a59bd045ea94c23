"""The user's terminal in raw mode, given back whatever happens.

Restored on close, at interpreter exit, and by a guard process (a small shell that waits on a pipe) when this process
dies without a chance to clean up: SIGKILL included.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import termios

# The guard: stdin is a pipe from us, stdout the terminal. A line means that all is well; end of file that we died.
# Job-control signals are ignored, since by then the terminal may belong to the shell that started us.
_GUARD = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU; read -r _ || exec stty \"$1\" <&1"


class RawTerminal:
    """Puts the terminal at ``fd`` in raw mode (output processing stays on, so that messages keep their newlines)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[int | list[bytes | int]] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def enter(self) -> None:
        """Raw mode from here on. OSError or termios.error if ``fd`` is no terminal."""
        saved = termios.tcgetattr(self._fd)
        self._start_guard()
        self._saved = saved
        atexit.register(self.restore)
        self._set_raw()

    def continued(self) -> None:
        """The process was stopped and goes on, and its shell had the terminal in the meantime: raw mode again, unless
        we are in the background."""
        with contextlib.suppress(termios.error, OSError):
            if self._saved is not None and os.tcgetpgrp(self._fd) == os.getpgrp():
                self._set_raw()

    def _set_raw(self) -> None:
        raw = termios.tcgetattr(self._fd)
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
            | termios.ICRNL | termios.IXON
        )  # fmt: skip
        raw[1] |= termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, raw)

    def _start_guard(self) -> None:
        try:
            modes = subprocess.run(["stty", "-g"], stdin=self._fd, capture_output=True, check=True).stdout.decode()
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "mpemu-terminal-guard", modes.strip()],
                stdin=subprocess.PIPE,
                stdout=self._fd,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, subprocess.CalledProcessError):
            self._guard = None  # no sh or stty: restored all the same unless we are killed

    def restore(self) -> None:
        """Back to how it was; does nothing the second time."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        atexit.unregister(self.restore)
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, saved)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                os.write(self._guard.stdin.fileno(), b"\n")
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(1)
        self._guard = None
