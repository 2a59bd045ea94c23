"""Ctrl-A commands on the console's input, with the keys that QEMU's multiplexer has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CTRL_A = 0x01
HELP = (
    "\r\n"
    "C-a h    print this help\r\n"
    "C-a x    end the machine\r\n"
    "C-a c    switch between the console and the monitor\r\n"
    "C-a C-a  send C-a to the guest\r\n"
)
PROMPT = "(mpemu) "


@dataclass
class EscapeActions:
    """What the commands do. ``monitor(line)`` executes a monitor command and gives the text to show, or is None."""

    quit: Callable[[], None]
    show: Callable[[str], None]
    monitor: Callable[[str], str] | None = None


class EscapeFilter:
    """Takes what the user typed, gives what the guest shall see, and carries out the commands in between."""

    def __init__(self, actions: EscapeActions) -> None:
        self._actions = actions
        self._escaped = self._in_monitor = False
        self._line = ""

    def feed(self, data: bytes) -> bytes:
        """The bytes of ``data`` that are for the guest."""
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                self._command(byte, passed)
            elif byte == CTRL_A:
                self._escaped = True
            elif self._in_monitor:
                self._edit(byte)
            else:
                passed.append(byte)
        return bytes(passed)

    def _command(self, key: int, passed: bytearray) -> None:
        if key in b"xX":
            self._actions.quit()
        elif key in b"cC":
            self._toggle_monitor()
        elif key in b"hH?":
            self._actions.show(HELP)
        elif key == CTRL_A and not self._in_monitor:
            passed.append(CTRL_A)

    def _toggle_monitor(self) -> None:
        if self._actions.monitor is None:
            self._actions.show("\r\nthis machine runs without a monitor\r\n")
            return
        self._in_monitor = not self._in_monitor
        self._line = ""
        self._actions.show("\r\n" + (PROMPT if self._in_monitor else ""))

    def _edit(self, byte: int) -> None:
        if byte in b"\r\n":
            command, self._line = self._line.strip(), ""
            answer = self._actions.monitor(command) if self._actions.monitor and command else ""
            text = answer.replace("\n", "\r\n")
            self._actions.show("\r\n" + text + ("\r\n" if text and not text.endswith("\n") else "") + PROMPT)
        elif byte in b"\x7f\b":
            if self._line:
                self._line = self._line[:-1]
                self._actions.show("\b \b")
        elif byte == 0x15:  # Ctrl-U
            self._actions.show("\b \b" * len(self._line))
            self._line = ""
        elif 0x20 <= byte < 0x7F and len(self._line) < 1024:
            self._line += chr(byte)
            self._actions.show(chr(byte))
