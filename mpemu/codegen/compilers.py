"""The translator's compiler processes (compiling.py): started when there is work, replaced when they die.

A compiler that dies takes nothing with it: its job is given to another one, and is given up if that one dies of it too.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack  # type: ignore[import-untyped]

from mpemu.codegen.surroundings import SLOTS, Surroundings
from mpemu.unit import BEST, Kind, Unit, pairs

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
PROCESS_NAME = b"mpemu-compiler"
NICENESS = 10
"""Guests go first: until a region is there they are interpreted. Publishing is quick, and has no need to wait."""
ATTEMPTS = 2
STALE_S = 2.0
"""What nobody has asked for again in this time is not hot any more: an idle guest leaves the host idle."""
MAX_WAITING = 1024
"""Jobs; what is asked for beyond that will be hot again."""


@dataclass
class Job:
    """A region that begins at offset ``head`` of the page at distance 0."""

    key: Hashable
    head: int
    code: Surroundings
    kind: Kind = BEST
    attempts: int = 0
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_wanted(self) -> bool:
        """It has been asked for lately, or a compiler that had begun it has died."""
        return self.attempts > 0 or self.asked_at >= time.monotonic() - STALE_S


@dataclass
class _Compiler:
    pid: int
    socket: socket.socket
    job: Job | None = None
    answers: Any = field(default_factory=msgpack.Unpacker)


class Compilers:
    """Up to ``limit`` processes that run ``serve(socket)``. ``done`` hears of each job: its unit, or what failed."""

    def __init__(
        self,
        limit: int,
        serve: Callable[[socket.socket], None],
        done: Callable[[Job, Unit | str], None],
        poll: select.poll,
    ) -> None:
        self._limit, self._serve, self._done, self._poll = limit, serve, done, poll
        self._compilers: dict[int, _Compiler] = {}
        self._waiting: OrderedDict[Hashable, Job] = OrderedDict()
        self._running: set[Hashable] = set()

    def submit(self, job: Job) -> bool:
        """Have a job done, unless one with its key is on the way. False: too many wait already."""
        if job.key in self._running:
            return True
        if job.key in self._waiting:
            self._waiting[job.key] = job
            self._waiting.move_to_end(job.key, last=False)  # still hot: it is worth most
            return True
        if len(self._waiting) >= MAX_WAITING:
            self._waiting = OrderedDict((key, one) for key, one in self._waiting.items() if one.is_wanted)
            if len(self._waiting) >= MAX_WAITING:
                return False
        self._waiting[job.key] = job
        self._distribute()
        return True

    def answer(self, descriptor: int) -> None:
        """A compiler's socket is readable."""
        compiler = self._compilers[descriptor]
        data = b""
        with suppress(ConnectionError):
            data = compiler.socket.recv(1 << 18)
        if not data:
            self._bury(compiler)
        else:
            compiler.answers.feed(data)
            for answer in compiler.answers:
                if (job := compiler.job) is None:
                    continue
                if isinstance(answer, int):
                    reached = job.code.reached(answer).to_bytes(SLOTS // 8, "little")
                    self._tell(compiler, [job.code.page(answer), reached])
                    continue
                if isinstance(answer, list) and len(answer) == 1:
                    self._tell(compiler, job.code.targets(*answer))
                    continue
                compiler.job = None
                self._finish(job, answer if isinstance(answer, str) else _unit(job, answer))
        self._distribute()

    def _tell(self, compiler: _Compiler, what: Sequence[Any]) -> None:
        with suppress(ConnectionError):
            compiler.socket.sendall(msgpack.packb(what))

    def owns(self, descriptor: int) -> bool:
        return descriptor in self._compilers

    def _finish(self, job: Job, result: Unit | str) -> None:
        self._running.discard(job.key)
        self._done(job, result)

    def _bury(self, compiler: _Compiler) -> None:
        descriptor = compiler.socket.fileno()
        self._poll.unregister(descriptor)
        del self._compilers[descriptor]
        compiler.socket.close()
        os.waitpid(compiler.pid, 0)
        if (job := compiler.job) is not None:
            if job.attempts < ATTEMPTS:
                self._running.discard(job.key)
                self._waiting[job.key] = job
            else:
                self._finish(job, "the compiler died of it")

    def _distribute(self) -> None:
        """Give waiting jobs to compilers that have none."""
        while len(self._running) < self._limit and (job := self._next()):
            idle = next((c for c in self._compilers.values() if c.job is None), None) or self._start()
            job.attempts += 1
            idle.job = job
            self._running.add(job.key)
            with suppress(ConnectionError):  # its end will be noticed
                idle.socket.sendall(msgpack.packb([job.head, job.kind.rank, list(job.code.distances)]))

    def _next(self) -> Job | None:
        """The job to do now. Those that are not wanted any more are forgotten."""
        while self._waiting:
            _, job = self._waiting.popitem(last=False)
            if job.is_wanted:
                return job
        return None

    def _start(self) -> _Compiler:
        ours, theirs = socket.socketpair()
        parent, pid = os.getpid(), os.fork()
        if not pid:
            try:
                ours.close()
                for other in self._compilers.values():
                    other.socket.close()
                _settle(parent)
                self._serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        compiler = _Compiler(pid, ours)
        self._compilers[ours.fileno()] = compiler
        self._poll.register(ours, select.POLLIN)
        return compiler


def _settle(parent: int) -> None:
    """In the new process: it ends with the translator."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    libc.prctl(PR_SET_NAME, PROCESS_NAME, 0, 0, 0)
    os.nice(NICENESS)


def _unit(job: Job, answer: list[Any]) -> Unit:
    entries, distances, code, contains, left_out, guesses, origins, *numbers = answer
    pages = tuple((distance, job.code.page(distance) or b"") for distance in distances)
    bitmaps = tuple(int.from_bytes(bits, "little") for bits in contains)
    unit = Unit(tuple(entries), pages, code, *numbers)
    learnt = {"contains": bitmaps, "left_out": tuple(left_out), "guesses": pairs(guesses), "origins": origins}
    return replace(unit, kind=job.kind, **learnt)
