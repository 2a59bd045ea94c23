"""Every error that mpemu raises on purpose, and the exit codes of the command.

The tree, each with the exit code that the command ends with if nobody handles it::

    MpemuError                  1    base class; never raised itself
    |-- ConfigError            78    a config file, a --set or an option's value is wrong
    |-- GuestImageError        66    a kernel, firmware, initrd, device tree or disk can't be read or is malformed
    |-- FetchError             69    a download is impossible or does not verify
    |-- HostError              71    the host lacks something: memory, descriptors, a system call
    |   `-- SharedMemoryError  71    no room for, or no access to, POSIX shared memory
    |-- InternalError          70    mpemu itself is at fault: please report it
    |   |-- EngineError        70    the vCPUs' machine code can't be built or loaded
    |   |-- ProtocolError      70    bytes between processes that are no message
    |   `-- StateError         70    a run-state change that the table of legal ones does not have
    |-- VCpuCrashed            70    a vCPU process died or gave up; carries the post-mortem report
    |-- RunTimeout            124    --timeout passed (the code that timeout(1) uses)
    |-- Interrupted           130    Ctrl-C, SIGINT
    `-- Terminated            143    SIGTERM

Exit codes that are no error: 0, the guest powered off, or the user left with Ctrl-A x; 1..255, the code that the guest
gave to the test finisher (0x3333) or to HTIF, low eight bits, at least 1; 2, a wrong command line.

A message says what, where, and what to do. The class says nothing that the message does not.
"""

from __future__ import annotations

from typing import ClassVar


class MpemuError(Exception):
    """Base of all of them; ``str(error)`` is meant for the user, without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(MpemuError):
    exit_code = 78


class GuestImageError(MpemuError):
    exit_code = 66


class FetchError(MpemuError):
    exit_code = 69


class HostError(MpemuError):
    exit_code = 71


class SharedMemoryError(HostError):
    pass


class InternalError(MpemuError):
    exit_code = 70


class EngineError(InternalError):
    pass


class ProtocolError(InternalError):
    pass


class StateError(InternalError):
    pass


class VCpuCrashed(MpemuError):
    """``report`` is the whole post-mortem, several lines; the message is its first."""

    exit_code = 70

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report or message


class RunTimeout(MpemuError):
    exit_code = 124


class Interrupted(MpemuError):
    exit_code = 130


class Terminated(MpemuError):
    exit_code = 143


def guest_exit_code(code: int) -> int:
    """The process's exit code for a guest's code: low eight bits, but a failure never looks like success."""
    return code & 0xFF or (1 if code else 0)
