"""Ctrl-C and termination while there is no machine that handles them: start-up, fetch, and the last moments.

What was begun is undone by an exception, SystemExit. Extension modules swallow it now and then when it hits them in an
import, so it is not relied upon: see :func:`check`, and the alarm.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_TEXT = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated: the terminal is gone"}
PATIENCE_S = 3
"""How long undoing may take. Processes of ours that are left by then die with this one."""

_code = 0


def watch() -> None:
    """From here on the signals end this process with the codes of mpemu/errors.py."""
    for number in _TEXT:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _leave)


def check() -> None:
    """Leave now if a signal said so, and the exception was lost on its way."""
    if _code:
        sys.exit(_code)


def _leave(number: int, _frame: FrameType | None) -> None:
    global _code
    if _code:  # the user is impatient, or time is up
        os._exit(_code)
    _code = 130 if number == signal.SIGINT else 143
    signal.signal(signal.SIGALRM, _leave)
    signal.alarm(PATIENCE_S)
    print(f"mpemu: {_TEXT[signal.Signals(number)]}", file=sys.stderr, flush=True)
    sys.exit(_code)
