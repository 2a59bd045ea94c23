"""The ``mpemu`` command.

Messages go to stderr, a guest's console and what a command was asked to print go to stdout. Errors of mpemu/errors.py
end the command with their own exit code and without a traceback; so do Ctrl-C and a termination at any moment, which is
why nothing is imported before :func:`main` has seen to it.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

_ENDING = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminated: the terminal is gone",
}


def main() -> NoReturn:
    """Entry point of the console script and of ``python -m mpemu``."""
    for number in _ENDING:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _leave)
    from mpemu.cli.commands import group
    from mpemu.errors import MpemuError

    try:
        group(prog_name="mpemu")
    except MpemuError as error:
        for line in str(error).splitlines():
            print(f"mpemu: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Undo what was begun, and exit with the codes of mpemu/errors.py. A running machine has handlers of its own."""
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    ending = signal.Signals(number)
    print(f"mpemu: {_ENDING[ending]}", file=sys.stderr)
    sys.exit(130 if ending is signal.SIGINT else 143)
