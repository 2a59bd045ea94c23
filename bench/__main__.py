"""``python -m bench``: the same guest programs on mpemu and QEMU in one run, with the host's own speed as the limit.

Sides take turns within each round, so that a change of the host's speed hits all of them. Before the rounds mpemu runs
everything once unmeasured: it then finds translated what an earlier machine has run, where it keeps such things.
``--quick`` is one short round of fewer sets: good for "did I break something", not for numbers to quote.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import FrameType
from typing import TextIO

import click
from rich.console import Console
from rich.status import Status

from bench.guest import run_kernels, run_mmio, run_start
from bench.linux import BOOT, missing, run_linux
from bench.report import Comparison
from bench.samples import BenchError, Sample
from bench.sides import ENGINES, SIDES, USUAL, Settings, absent
from bench.table import show

EMULATORS = ("mpemu", "mpemu-interp", "qemu")
WIDTH = 200
"""Of the table where there is no terminal."""


@dataclass(frozen=True)
class Set:
    """What one run of a guest measures."""

    what: str
    harts: int
    sides: tuple[str, ...]
    quick: bool = True
    """Also with ``--quick``."""


SETS = (
    Set("alone", 1, tuple(SIDES)),
    Set("alone", 2, (*EMULATORS, "native"), quick=False),
    Set("scaling", 4, EMULATORS),
    Set("smp", 1, (*EMULATORS, "native"), quick=False),
    Set("smp", 2, (*EMULATORS, "native")),
    Set("smp", 4, EMULATORS, quick=False),
    Set("start", 1, EMULATORS),
    Set("start", 4, EMULATORS, quick=False),
    Set("mmio", 1, ("mpemu",)),
    Set("linux", 1, (*EMULATORS, "mpemu-cold"), quick=False),
    Set("linux", 4, (*EMULATORS, "mpemu-cold")),
)
"""The first three are the guest's own sets of kernels; guests/bench/bench.c explains them."""
NAMES = tuple(dict.fromkeys(entry.what for entry in SETS))
TRANSLATED = ("alone", "scaling", "smp", "linux")
"""Sets that a warm cache matters for."""


def measure(side: str, entry: Set, settings: Settings) -> list[Sample]:
    """One set, once. BenchError has what was measured before it went wrong."""
    match entry.what:
        case "linux":
            return run_linux(side, entry.harts, settings)
        case "start":
            return run_start(side, entry.harts, settings)
        case "mmio":
            return run_mmio()
    return run_kernels(side, entry.what, entry.harts, settings)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is treated like Ctrl-C."""


class Session:
    """The rounds. A set that has failed on one side is not tried again there."""

    def __init__(self, sets: list[Set], sides: list[str], rounds: int, settings: Settings) -> None:
        self.comparison = Comparison()
        self._sets, self._sides, self._rounds, self._settings = sets, sides, rounds, settings
        for entry in sets:
            for side in sides:
                reason = absent(side) or (missing() if entry.what == "linux" else "")
                if side in entry.sides and reason:
                    self.comparison.absent[side, entry.what] = reason

    def run(self, status: Status) -> None:
        """All of it; what was measured is in ``comparison``, also after an interruption."""
        try:
            self._run(status)
        finally:
            for entry in self._sets:
                if entry.what == "linux":
                    self.comparison.expect((f"Linux: {BOOT}", "S", entry.harts), "run", entry.what)

    def _run(self, status: Status) -> None:
        for entry, side in self._steps():
            if side == "mpemu" and entry.what in TRANSLATED and self._settings.engine != "interp":
                status.update(f"warming the cache: {entry.what}, {entry.harts} harts")
                self._measure(side, entry, None)
        for round_number in range(1, self._rounds + 1):
            for entry, side in self._steps():
                status.update(f"round {round_number} of {self._rounds}: {entry.what}, {entry.harts} harts, {side}")
                self._measure(side, entry, round_number)

    def _steps(self) -> Iterator[tuple[Set, str]]:
        for entry in self._sets:
            for side in self._sides:
                absent_here = (side, entry.what) in self.comparison.absent
                failed = (side, entry.what, entry.harts) in self.comparison.failures
                if side in entry.sides and not absent_here and not failed:
                    yield entry, side

    def _measure(self, side: str, entry: Set, round_number: int | None) -> None:
        try:
            samples = measure(side, entry, self._settings)
        except BenchError as error:
            self.comparison.failures[side, entry.what, entry.harts] = str(error)
            samples = error.samples
        if round_number is not None:
            self.comparison.add(side, entry.what, round_number, samples)


@click.command()
@click.option("--quick", is_flag=True, help="One short round of fewer sets.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds to take the median of (default 3).")
@click.option("--ms", type=click.IntRange(1), help="Milliseconds per kernel (default 300).")
@click.option("--warm", type=click.IntRange(1), help="Milliseconds of the passes before (default 200).")
@click.option("--only", default="", metavar="TEXT", help="Only kernels and Linux programs whose names begin so.")
@click.option("--set", "sets", multiple=True, type=click.Choice(NAMES), help="Only these sets.")
@click.option("--harts", multiple=True, type=click.IntRange(1), help="Only sets with so many harts.")
@click.option("--side", "sides", multiple=True, type=click.Choice(tuple(SIDES)), help="Only these sides.")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="engine.mode of mpemu.")
@click.option("--json", "json_file", type=click.File("w", lazy=False), help="Write everything there.")
def main(
    quick: bool,
    rounds: int | None,
    ms: int | None,
    warm: int | None,
    only: str,
    sets: tuple[str, ...],
    harts: tuple[int, ...],
    sides: tuple[str, ...],
    engine: str,
    json_file: TextIO | None,
) -> None:
    """Measure guest programs on mpemu, QEMU and natively; print one table with the targets beside it.

    Sides: mpemu (what earlier runs translated is there), mpemu-cold (nothing is), mpemu-interp, qemu, native.
    """
    settings = Settings(ms or (50 if quick else 300), warm or (100 if quick else 200), only, engine)
    messages = Console(stderr=True)
    wanted = [e for e in SETS if (not sets or e.what in sets) and (not harts or e.harts in harts)]
    if quick:
        wanted = [e for e in wanted if e.quick or e.harts in harts]
    chosen = [side for side in SIDES if side in (sides or USUAL)]
    rounds = rounds or (1 if quick else 3)
    session = Session(wanted, chosen, rounds, settings)
    signal.signal(signal.SIGTERM, _terminated)
    code = 0
    try:
        with messages.status("building") as status:
            session.run(status)
    except KeyboardInterrupt as reason:
        messages.print("bench: interrupted; this is what was measured")
        code = 143 if isinstance(reason, Terminated) else 130
    comparison = session.comparison
    if not comparison.rows:
        messages.print("bench: nothing was measured")
    show(Console(width=None if sys.stdout.isatty() else WIDTH), comparison, chosen)
    if json_file:
        about = {"settings": asdict(settings), "rounds": rounds, "host": platform.platform()}
        json_file.write(json.dumps(about | comparison.as_json(), indent=1) + "\n")
    if wrong := comparison.wrong_checks():
        messages.print("bench: different results: " + "; ".join(wrong), markup=False)
    sys.exit(code or bool(wrong or comparison.failures))


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
