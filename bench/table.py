"""The report as text: one table of all rows, one of geometric means, and what is to be said beside them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.goals import Measure
from bench.report import Comparison, Row, Verdict
from bench.samples import Key
from bench.sides import SIDES

RATIOS = (Measure.QEMU, Measure.NATIVE, Measure.COLD)
TIMED = ("run", "trip")
"""Units of rows that say how long one takes, not how many there are in a second."""
REACHED = {True: "yes", False: "NO", None: "?"}


def show(console: Console, comparison: Comparison, sides: Sequence[str]) -> None:
    """All of it."""
    if comparison.rows:
        console.print(rows_table(comparison, [side for side in sides if any(_cells(comparison, side))]))
    if comparison.means():
        console.print(means_table(comparison))
    for side in sides:
        for harts, factor in comparison.scaling(side).items():
            if harts > 1:
                console.print(f"{SIDES[side]}: {harts} harts with private work do {factor:.2f}x the work of one")
    verdicts = list(comparison.all_verdicts())
    if known := [v for v in verdicts if v.reached is not None]:
        reached = sum(v.reached is True for v in known)
        console.print(f"targets: {reached} of {len(known)} reached, {len(verdicts) - len(known)} not measured")
    for verdict in known:
        if not verdict.reached:
            console.print(f"  short of {verdict.goal.text}: {verdict.subject}, {_value(verdict)}")
    for reason in dict.fromkeys(comparison.absent.values()):
        console.print(f"not measured: {reason}", markup=False, highlight=False)
    for (side, what, harts), reason in comparison.failures.items():
        console.print(f"{what}, {harts} harts, {SIDES[side]} failed: {reason}", markup=False, highlight=False)


def rows_table(comparison: Comparison, sides: Sequence[str]) -> Table:
    """A line per row: medians of each side, ratios, spread, the target and whether it is reached."""
    table = Table(title="work per second, or time of one; medians", title_justify="left")
    for name in ("kernel", "mode", "harts", "unit"):
        table.add_column(name, justify="right" if name == "harts" else "left", no_wrap=True)
    for name in (*(SIDES[side] for side in sides), *(m.value for m in RATIOS), "spread", "fair"):
        table.add_column(name, justify="right")
    table.add_column("target")
    table.add_column("reached")
    for key, row in comparison.rows.items():
        kernel, mode, harts = key
        verdicts = comparison.verdicts(key)
        table.add_row(
            *(kernel, mode, str(harts), row.unit),
            *(_cell(comparison, key, side) for side in sides),
            *(times(comparison.value(key, measure)) for measure in RATIOS),
            _spreads(row),
            f"{fair:.2f}" if (fair := row.fairness("mpemu")) is not None else "",
            "\n".join(v.goal.text for v in verdicts),
            "\n".join(REACHED[v.reached] for v in verdicts),
        )
    return table


def means_table(comparison: Comparison) -> Table:
    """A line per group, mode and number of harts."""
    table = Table(title="geometric means", title_justify="left")
    for name in ("group", "mode", "harts"):
        table.add_column(name, justify="right" if name == "harts" else "left")
    for measure in RATIOS:
        table.add_column(measure.value, justify="right")
    table.add_column("target")
    table.add_column("reached")
    for mean in comparison.means():
        verdicts = mean.verdicts()
        table.add_row(
            *(mean.group, mean.mode, str(mean.harts)),
            *(times(mean.values.get(measure)) for measure in RATIOS),
            "\n".join(v.goal.text for v in verdicts),
            "\n".join(REACHED[v.reached] for v in verdicts),
        )
    return table


def _cells(comparison: Comparison, side: str) -> list[str]:
    return [_cell(comparison, key, side) for key in comparison.rows]


def _cell(comparison: Comparison, key: Key, side: str) -> str:
    row = comparison.rows[key]
    if (rate := row.rate(side)) is not None:
        return duration(1 / rate) if row.unit in TIMED else human(rate)
    return comparison.lacks(side, key)


def _spreads(row: Row) -> str:
    """Those of mpemu and QEMU."""
    return " ".join(f"{spread:.0%}" for side in ("mpemu", "qemu") if (spread := row.spread(side)) is not None)


def _value(verdict: Verdict) -> str:
    assert verdict.value is not None
    return f"{human(verdict.value)}/s" if verdict.goal.measure is Measure.RATE else times(verdict.value)


def human(rate: float) -> str:
    """Three significant digits with k, M or G."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if rate >= factor:
            return f"{rate / factor:.3g}{letter}"
    return f"{rate:.3g}"


def duration(seconds: float) -> str:
    """Three significant digits in s, ms or us."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
