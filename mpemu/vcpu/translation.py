"""The coordinator's side of translation: the memory that harts and the translator share, and the latter's process.

The code of regions lies directly behind the interpreter in every vCPU's address space, mapped read-execute; only the
translator maps it writable. It is a program of its own (`python -m mpemu.codegen.translator`). When it dies it is
started anew, and goes on from what the shared memory says: its death costs speed, nothing else.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

from mpemu.codecache import DEFAULT_LIMIT
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import KNOWN_GUEST_FACTOR, POINTS_PER_SAMPLE, TRANSLATOR
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.paths import COORDINATOR
from mpemu.shm import Segment
from mpemu.unit import OPTIMISED, QUICK
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.handle import signal_name

PATIENCE_S = 2.0
"""How long the translator gets at the end to write what is new to the cache."""
SETTLED_S = 5.0
"""A translator that lived so long died of something else than the one before."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Before the second restart in a row, doubled before each that follows."""
MOST_FAILURES = 5
"""Times in a row that a translator may give up by itself, soon after its start."""
MOST_WORDS = 5
"""Messages of translators that are passed on."""


@dataclass(frozen=True)
class TranslationSettings:
    """``hot``, ``very_hot``: samples that make a place worth a quick and an optimised translation. ``translators``:
    compilers at work at the same time. ``cache``: the directory of compiled code, None to keep nothing;
    ``cache_limit`` its bytes. ``located``: units have origins (codegen/origins.py)."""

    hot: int
    very_hot: int
    translators: int = 1
    cache: Path | None = None
    cache_limit: int = DEFAULT_LIMIT
    located: bool = False


class Translation:
    """Made before the vCPUs are forked, which inherit the mappings; :meth:`attach` connects it to the loop."""

    def __init__(self, blob: Blob, memory: MachineMemory, isa: IsaSpec, settings: TranslationSettings) -> None:
        self._segment = Segment("regions", TRANSLATOR.size, keep_descriptor=True)
        self.view: Any = TRANSLATOR.view(self._segment.map)
        self._memory = memory
        memory.translator = self.view
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC)
        self.view.doorbell = self.doorbell
        for i in range(memory.harts):
            hart = memory.hart(i)
            hart.translator = self._segment.address
            hart.hotness, hart.hotness_2 = (n * POINTS_PER_SAMPLE for n in (settings.hot, settings.very_hot))
            factor = KNOWN_GUEST_FACTOR if settings.hot > 1 else 1  # 1 means at once, whatever is known
            hart.hotness_known = min(factor * hart.hotness, hart.hotness_2)
            hart.cached_regions = 0
            hart.first_tier = QUICK if blob.stencils and settings.very_hot > settings.hot else OPTIMISED
        self._interpreter = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC)  # for restarts: the cache may be cleared
        shared = self._segment.descriptor, blob.regions_fd, memory.code_pages.descriptor
        self._descriptors = (*shared, self.doorbell, self._interpreter)
        cache = (settings.cache or "", settings.cache_limit)
        arguments = (isa, blob.path, *self._descriptors, settings.translators, *cache, "1" * settings.located)
        self._command = [sys.executable, "-m", "mpemu.codegen.translator", *map(str, arguments)]
        self._loop: MainLoop | None = None
        self._pause_s, self._failures, self._words = 0.0, 0, 0
        self._start()

    def _start(self) -> None:
        self._born = monotonic()
        self._process = subprocess.Popen(
            self._command,
            pass_fds=self._descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the coordinator, also before this process can ignore it
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), COORDINATOR: str(os.getpid())},
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._heard = b""
        assert self._process.stderr
        os.set_blocking(self._process.stderr.fileno(), False)

    def attach(self, loop: MainLoop, warn: Callable[[str], None]) -> None:
        """Serve the process from ``loop``: pass on what it says, and start another one when it dies."""
        self._loop, self._warn = loop, warn
        self._again = loop.realtime.timer(self._restart, "restart of the translator")
        self._watch()

    def _watch(self) -> None:
        assert self._loop and self._process.stderr
        self._loop.add_reader(self._pidfd, self._died, "end of the translator")
        self._loop.add_reader(self._process.stderr.fileno(), self._listen, "words of the translator")

    def _unwatch(self) -> None:
        assert self._process.stderr
        if self._loop and not self._process.stderr.closed:
            self._loop.remove_reader(self._pidfd)
            self._loop.remove_reader(self._process.stderr.fileno())

    def _listen(self) -> None:
        """Lines on its stderr are for the user; a traceback is, by its last line."""
        assert self._loop and self._process.stderr
        data = None
        with suppress(BlockingIOError):
            while data := os.read(self._process.stderr.fileno(), 1 << 16):
                self._heard += data
        if data == b"":
            self._loop.remove_reader(self._process.stderr.fileno())
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            if line and not line.startswith((b" ", b"Traceback")) and self._words < MOST_WORDS:
                self._words += 1
                self._warn(line.decode(errors="replace"))

    def _died(self) -> None:
        self._listen()
        self._unwatch()
        code = self._let_go()
        lived = monotonic() - self._born
        if lived > SETTLED_S:
            self._pause_s, self._failures = 0.0, 0
        self._failures += code >= 0
        if self._failures > MOST_FAILURES:
            self._warn("the translator keeps failing; the guest runs on, interpreted")
            return
        if code < 0 and not self.view.restarts:
            self._warn(f"the translator was killed by {signal_name(-code)}; it is started anew")
        self._again.arm(monotonic_ns() + int(self._pause_s * 1e9))
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def _restart(self) -> None:
        self.view.restarts += 1
        try:
            self._start()
        except OSError as error:
            self._warn(f"no new translator: {error.strerror}; the guest runs on")
            return
        self._watch()

    def _let_go(self) -> int:
        """Of a process that has ended: its exit code, or minus a signal."""
        code = self._process.wait()
        self.view.ready = 0
        if self._process.stderr:
            self._process.stderr.close()
        os.close(self._pidfd)
        self._pidfd = -1
        return code

    def close(self) -> None:
        """Have the process write what it has to, end it, and give the memory back."""
        if self._loop:
            self._again.cancel()
        if self._pidfd >= 0:
            self._unwatch()
            self.view.stop = 1
            os.eventfd_write(self.doorbell, 1)
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not self.view.ready or not poll.poll(PATIENCE_S * 1000):  # before it is ready it has nothing to write
                self._process.kill()
            if self._loop:
                self._listen()  # what it could not write to the cache, say
            self._let_go()
        os.close(self.doorbell)
        os.close(self._interpreter)
        self._memory.translator = None
        del self.view
        self._segment.close()
