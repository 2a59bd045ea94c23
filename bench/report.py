"""Puts samples side by side: medians, ratios, spread, fairness, geometric means."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.table import Table

from bench.sides import Sample

Key = tuple[str, str, int]


@dataclass
class Row:
    """One kernel in one mode on so many harts: its samples by side."""

    unit: str
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def rate(self, side: str) -> float | None:
        """Median rate in units per second."""
        found = self.samples.get(side)
        return statistics.median(s.rate for s in found) if found else None

    def spread(self, side: str) -> float:
        """(fastest - slowest) / median."""
        rates = [s.rate for s in self.samples[side]]
        return (max(rates) - min(rates)) / statistics.median(rates)

    def fairness(self, side: str) -> float | None:
        """Work of the hart that got least over that of the one that got most; None where harts share one count."""
        found = [s for s in self.samples.get(side, ()) if s.least]
        return statistics.median(s.least / s.most for s in found) if found and found[0].harts > 1 else None

    def ratio(self, over: str, under: str) -> float | None:
        top, bottom = self.rate(over), self.rate(under)
        return top / bottom if top and bottom else None


class Comparison:
    """All rows of a run, in the order in which they were measured."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def add(self, side: str, samples: Iterable[Sample]) -> None:
        for sample in samples:
            modes = [sample.mode] if sample.mode != "native" else ["M", "S"]  # the host is the limit of both
            for mode in modes:
                row = self.rows.setdefault((sample.kernel, mode, sample.harts), Row(sample.unit))
                row.samples[side].append(sample)

    def wrong_checks(self) -> list[str]:
        """Kernels whose checksums differ between sides."""
        wrong = []
        for (kernel, mode, harts), row in self.rows.items():
            checks = {s.check for found in row.samples.values() for s in found}
            if len(checks) > 1:
                wrong.append(f"{kernel} ({mode}, {harts} harts): {', '.join(sorted(checks))}")
        return wrong

    def geometric_mean(self, over: str, under: str, keys: Iterable[Key] | None = None) -> float | None:
        ratios = [self.rows[k].ratio(over, under) for k in (self.rows if keys is None else keys)]
        logs = [math.log(r) for r in ratios if r]
        return math.exp(sum(logs) / len(logs)) if logs else None

    def scaling(self, side: str) -> dict[int, float]:
        """Harts -> throughput of private work over that of one hart."""
        rates = {h: self.rows[k, m, h].rate(side) for k, m, h in self.rows if k == "scaling"}
        one = rates.get(1)
        return {harts: rate / one for harts, rate in rates.items() if rate and one}

    def table(self) -> Table:
        table = Table(title="guest kernels: work per second, median", title_justify="left")
        for name in ("kernel", "mode", "harts", "unit"):
            table.add_column(name, justify="right" if name == "harts" else "left")
        for name in ("mpemu", "QEMU", "native", "mpemu/QEMU", "mpemu/native", "spread", "fairness"):
            table.add_column(name, justify="right")
        for (kernel, mode, harts), row in self.rows.items():
            table.add_row(
                *(kernel, mode, str(harts), row.unit),
                *(human(row.rate(side)) for side in ("mpemu", "qemu", "native")),
                *(times(row.ratio("mpemu", other)) for other in ("qemu", "native")),
                f"{row.spread('mpemu'):.0%}" if row.samples.get("mpemu") else "",
                f"{fair:.2f}" if (fair := row.fairness("mpemu")) is not None else "",
            )
        return table

    def as_json(self) -> list[dict[str, object]]:
        return [
            {
                "kernel": kernel,
                "mode": mode,
                "harts": harts,
                "unit": row.unit,
                "rates": {side: [s.rate for s in found] for side, found in row.samples.items()},
                "fairness": row.fairness("mpemu"),
            }
            for (kernel, mode, harts), row in self.rows.items()
        ]


def human(rate: float | None) -> str:
    """Three significant digits with k, M or G; "" for None."""
    if rate is None:
        return ""
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
