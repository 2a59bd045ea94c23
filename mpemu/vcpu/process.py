"""The life of a vCPU process, from the fork to its end.

The child inherits the shared memory and gives up everything else: foreign descriptors, the terminal, the signals of the
terminal. It dies with the coordinator, whatever kills that one. It never returns into the coordinator's code.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress

from mpemu.errors import HostError
from mpemu.vcpu.vcpu import FAILED_EXIT_CODE, Leave, VCpu

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTTOU, signal.SIGTTIN)
"""The coordinator decides what these mean; sent to the whole group they must not look like a crash of a vCPU."""


def fork_vcpu(name: str, keep: Iterable[int], build: Callable[[], VCpu]) -> int:
    """Start a vCPU process and give its pid.

    ``build`` is called in the child and makes its :class:`VCpu`; ``keep`` are the descriptors that it needs. Call this
    before there are threads or an event loop.
    """
    coordinator = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)  # until the child ignores them
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise HostError(f"{name}: no new process: {error.strerror}") from None
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    code = FAILED_EXIT_CODE
    try:
        _settle(name, coordinator, set(keep))
        vcpu = build()
        try:
            vcpu.run()
        except Leave as leave:
            code = leave.code
        except BaseException:
            with suppress(Leave):
                vcpu.fail(vcpu.harts[0], traceback.format_exc())
    except OSError as error:
        print(f"mpemu: {name} can't start: {error.strerror}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        with suppress(OSError, ValueError):
            sys.stderr.flush()
    finally:
        os._exit(code)


def _settle(name: str, coordinator: int, keep: set[int]) -> None:
    """Make this process a vCPU's: see the module's text."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != coordinator:  # it died before that took effect
        os._exit(FAILED_EXIT_CODE)
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    signal.set_wakeup_fd(-1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    gc.disable()  # the run loops make no cycles
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    _close_except(keep | {0, 1, 2})


def _close_except(keep: set[int]) -> None:
    """Close all descriptors but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with suppress(OSError):  # the listing's own
                os.close(int(name))
