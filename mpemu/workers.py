"""Worker threads for what blocks: disk, compression. Completion reaches the loop through an eventfd.

Threads start when first needed, after the vCPUs were forked. Python's own threads do: blocking system calls leave the
interpreter lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from mpemu.notifier import Notifier

Job = tuple[Callable[[], Any], Callable[[Any], None]]


class WorkerPool:
    """Up to ``limit`` threads. ``done`` callbacks run in :meth:`complete`, which the loop calls when ``bell`` rings."""

    def __init__(self, limit: int = 4) -> None:
        self.bell = Notifier()
        self._limit = limit
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._results: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._unfinished = 0

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call ``work()`` in a worker, then ``done`` with its result, or with the exception that it raised."""
        self._unfinished += 1
        if len(self._threads) < min(self._limit, self._unfinished):
            thread = threading.Thread(target=self._work, name=f"mpemu-worker{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((work, done))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            try:
                result = work()
            except BaseException as error:
                result = error
            self._results.append((done, result))
            del job, work, done, result
            self.bell.notify()

    def complete(self) -> None:
        """Call the ``done`` of what is finished."""
        self.bell.clear()
        for _ in range(len(self._results)):  # what they submit may finish at once: next time
            done, result = self._results.popleft()
            self._unfinished -= 1
            done(result)
        if self._results:
            self.bell.notify()

    @property
    def unfinished(self) -> int:
        """Jobs submitted whose ``done`` has not been called yet."""
        return self._unfinished

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the threads finish what is queued, for at most ``timeout_s`` each; no ``done`` is called any more."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads.clear()
        self.bell.close()
