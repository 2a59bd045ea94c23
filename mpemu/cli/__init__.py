"""The ``mpemu`` command.

Messages go to stderr, a guest's console and what a command was asked to print go to stdout. Errors of mpemu/errors.py
end the command with their own exit code and without a traceback; so do Ctrl-C and a termination at any moment, which is
why nothing is imported before :func:`main` has seen to it.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

from mpemu.cli.leaving import check, watch


def main() -> NoReturn:
    """Entry point of the console script and of ``python -m mpemu``."""
    watch()
    _open_standard_streams()
    from mpemu.errors import HostError, InternalError, MpemuError

    try:
        from mpemu.cli.commands import group

        group(prog_name="mpemu")
    except MpemuError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except (OSError, MemoryError) as error:
        _say(_host_trouble(error))
        sys.exit(HostError.exit_code)
    except ImportError as error:
        check()
        _say(f"{error}: the installation is incomplete, or there is too little memory")
        sys.exit(HostError.exit_code)
    except Exception:
        check()
        import traceback

        traceback.print_exc()
        _say("this is a bug in mpemu, please report it")
        sys.exit(InternalError.exit_code)
    sys.exit(0)


def _open_standard_streams() -> None:
    """Whoever starts us may have closed some, and our own descriptors must not become 0, 1 or 2."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number, this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"mpemu: {line}", file=sys.stderr)


def _host_trouble(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    where = f"{error.filename}: " if error.filename else ""
    hint = {errno.EMFILE: " (ulimit -n)", errno.ENOSPC: ": the output can't be written"}.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{hint}"
