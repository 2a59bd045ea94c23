"""Progress on stderr: a bar on a terminal, a line per phase elsewhere.

No thread draws it: processes are forked right after, and a thread would not survive that.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Reporter:
    """Called with (what is being done, fraction done); 1 gives the terminal back. Imports rich when first called."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None
        self._phase = ""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, phase: str, fraction: float) -> None:
        if not sys.stderr.isatty():
            if phase != self._phase and fraction < 1:
                print(f"mpemu: {phase}", file=sys.stderr, flush=True)
            self._phase = phase
            return
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
                TimeElapsedColumn(), console=Console(stderr=True), auto_refresh=False,
            )  # fmt: skip
            self._progress.start()
        if phase != self._phase:
            self._phase = phase
            self._task = self._progress.add_task(phase, total=1.0)
        self._progress.update(self._task, completed=fraction, refresh=True)
        if fraction >= 1:
            self.close()

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._phase = ""
