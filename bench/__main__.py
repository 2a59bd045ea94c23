"""``python -m bench``: the same guest kernels on mpemu and QEMU in one run, with the host's own speed as the limit.

Sides take turns within each round, so that a change of the host's speed hits all of them. ``--quick`` is one short
round: good for "did I break something", not for numbers to quote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from bench.linux import missing, run_linux
from bench.report import Comparison, duration, human, times
from bench.sides import QEMU, BenchError, Sample, available, run_mmio, run_side, run_start

SIDES = ("mpemu", "qemu", "native")
SETS = (
    *(("alone", 1), ("scaling", 4), ("smp", 2), ("smp", 4)),
    *(("start", 1), ("start", 4), ("mmio", 1), ("linux", 1), ("linux", 4)),
)
"""(set, harts). The first row is the guest's own sets of kernels; guests/bench/bench.c explains them."""


def measure(side: str, what: str, harts: int, ms: int, only: str) -> list[Sample]:
    """One set, once."""
    match what:
        case "linux":
            return run_linux(side, harts, only)
        case "start":
            return run_start(side, harts)
        case "mmio":
            return run_mmio(side)
    return run_side(side, what, harts, ms, only.replace(" ", "_"))


@click.command()
@click.option("--quick", is_flag=True, help="One short round.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds to take the median of (default 5).")
@click.option("--ms", type=click.IntRange(1), help="Milliseconds per kernel (default 300).")
@click.option("--only", default="", metavar="TEXT", help="Only kernels whose names begin so.")
@click.option("--set", "sets", multiple=True, type=click.Choice(list(dict(SETS))), help="Only these sets.")
@click.option("--side", "sides", multiple=True, type=click.Choice(SIDES), help="Only these sides.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all samples there.")
def main(
    quick: bool,
    rounds: int | None,
    ms: int | None,
    only: str,
    sets: tuple[str, ...],
    sides: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Measure guest kernels on mpemu, QEMU and natively; print one table."""
    rounds, ms = rounds or (1 if quick else 5), ms or (50 if quick else 300)
    messages = Console(stderr=True)
    chosen = [side for side in sides or SIDES if available(side)]
    if "qemu" not in chosen and not sides:
        messages.print(f"{QEMU} is not installed (Debian: apt install qemu-system-misc): measuring without it")
    wanted = [(what, harts) for what, harts in SETS if not sets or what in sets]
    if dict(wanted).get("linux") and (reason := missing()):
        messages.print(f"bench: {reason}; measuring without it")
        wanted = [entry for entry in wanted if entry[0] != "linux"]
    comparison = Comparison()
    try:
        with messages.status("building") as status:
            for round_number in range(1, rounds + 1):
                for what, harts in wanted:
                    for side in chosen:
                        status.update(f"round {round_number} of {rounds}: {what}, {harts} harts, {side}")
                        comparison.add(side, measure(side, what, harts, ms, only))
    except BenchError as error:
        messages.print(f"bench: {error}", markup=False, highlight=False)
        sys.exit(1)
    show(comparison)
    if json_file:
        json_file.write_text(json.dumps(comparison.as_json(), indent=1) + "\n")
    if wrong := comparison.wrong_checks():
        messages.print("bench: different results: " + "; ".join(wrong), markup=False)
        sys.exit(1)


def show(comparison: Comparison) -> None:
    """The table and what follows from it."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(comparison.table())
    alone = [k for k, row in comparison.rows.items() if k[2] == 1 and row.samples.get("native")]
    for mode in ("M", "S"):
        keys = [k for k in alone if k[1] == mode]
        over_qemu, over_native = (comparison.geometric_mean("mpemu", side, keys) for side in ("qemu", "native"))
        if over_qemu or over_native:
            name = {"M": "without paging", "S": "S-mode, Sv39"}[mode]
            console.print(f"geometric mean, 1 hart, {name}: {times(over_qemu)} QEMU, {times(over_native)} native")
    for side in ("mpemu", "qemu"):
        for harts, factor in comparison.scaling(side).items():
            if harts > 1:
                console.print(f"{side}: {harts} harts with private work do {factor:.2f}x the work of one")
    if row := comparison.rows.get(("barrier", "M", 4)):
        rates = ", ".join(f"{side} {human(row.rate(side))}" for side in ("mpemu", "qemu") if row.rate(side))
        console.print(f"barriers/s, 4 harts: {rates}")
    for (kernel, _, harts), row in comparison.rows.items():
        if row.unit in ("run", "trip"):
            spent = [f"{side} {duration(1 / rate)}" for side in ("mpemu", "qemu") if (rate := row.rate(side))]
            console.print(f"{kernel}, {harts} hart{'s'[: harts > 1]}: {', '.join(spent)}")


if __name__ == "__main__":
    main()
