"""Puts samples side by side: medians, ratios round by round, spread, fairness, geometric means, goals reached."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bench.goals import GROUPS, WITHOUT_MEAN, Goal, Measure, goals_of, goals_of_group, group_of
from bench.samples import Key, Sample

_OVER = {
    Measure.QEMU: ("mpemu", "qemu"),
    Measure.NATIVE: ("mpemu", "native"),
    Measure.COLD: ("mpemu-cold", "qemu"),
}
"""Ratios: of which side to which."""
_NATIVE_MODES = {"alone": ("M", "S"), "smp": ("M",)}
"""The modes of each set that the host's own speed is the limit of."""


@dataclass
class Row:
    """One kernel in one mode on so many harts: its samples by side and round."""

    unit: str
    what: str
    """The set that it is measured in."""
    samples: dict[str, dict[int, Sample]] = field(default_factory=lambda: defaultdict(dict))

    def rate(self, side: str) -> float | None:
        """Median rate in units per second."""
        found = self.samples.get(side)
        return statistics.median(s.rate for s in found.values()) if found else None

    def ratio(self, over: str, under: str, *, first: bool = False) -> float | None:
        """The median of the rounds' ratios of rates, which a host that is slower in some rounds doesn't move.

        ``first``: of the first passes.
        """
        top, bottom = self.samples.get(over, {}), self.samples.get(under, {})
        pairs = [(top[n], bottom[n]) for n in sorted(top.keys() & bottom.keys())]
        rates = [(t.first_rate, b.first_rate) if first else (t.rate, b.rate) for t, b in pairs]
        ratios = [t / b for t, b in rates if t and b]  # a pass can be too short for anything to happen
        return statistics.median(ratios) if ratios else None

    def spread(self, side: str) -> float | None:
        """(fastest - slowest) / median; None if there are not two rounds."""
        rates = [s.rate for s in self.samples.get(side, {}).values()]
        median = statistics.median(rates) if len(rates) > 1 else 0
        return (max(rates) - min(rates)) / median if median else None

    def fairness(self, side: str) -> float | None:
        """Work of the hart that got least over that of the one that got most; None where harts share one count."""
        found = [s for s in self.samples.get(side, {}).values() if s.least and s.harts > 1]
        return statistics.median(s.least / s.most for s in found) if found else None


@dataclass(frozen=True)
class Mean:
    """Geometric means of the ratios of a group's rows."""

    group: str
    mode: str
    harts: int
    values: dict[Measure, float]
    whole: frozenset[Measure]
    """The ratios that every kernel of the group has: only their means can be held against a goal."""

    def verdicts(self) -> list[Verdict]:
        """The goals of this mean."""
        subject = f"mean of {title((self.group, self.mode, self.harts))}"
        goals = goals_of_group(self.group, self.harts)
        return [Verdict(subject, g, self.values[g.measure] if g.measure in self.whole else None) for g in goals]


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured; None where a side is missing."""

    subject: str
    goal: Goal
    value: float | None

    @property
    def reached(self) -> bool | None:
        return None if self.value is None else self.value >= self.goal.least

    def as_json(self) -> dict[str, object]:
        return {"goal": self.goal.text, "least": self.goal.least, "value": self.value, "reached": self.reached}


class Comparison:
    """All rows of a run, in the order in which they were measured."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.absent: dict[tuple[str, str], str] = {}
        """(side, set) -> why it can't be measured on this host."""
        self.failures: dict[tuple[str, str, int], str] = {}
        """(side, set, harts) -> what went wrong."""

    def add(self, side: str, what: str, round_number: int, samples: Iterable[Sample]) -> None:
        for sample in samples:
            for mode in _NATIVE_MODES.get(what, ()) if sample.mode == "native" else (sample.mode,):
                row = self.rows.setdefault((sample.kernel, mode, sample.harts), Row(sample.unit, what))
                row.samples[side][round_number] = sample

    def expect(self, key: Key, unit: str, what: str) -> None:
        """There is to be such a row even if nothing was measured."""
        self.rows.setdefault(key, Row(unit, what))

    def wrong_checks(self) -> list[str]:
        """Kernels whose checksums differ between sides or rounds."""
        wrong = []
        for key, row in self.rows.items():
            checks = {s.check for found in row.samples.values() for s in found.values()}
            if len(checks) > 1:
                wrong.append(f"{title(key)}: {', '.join(sorted(checks))}")
        return wrong

    def scaling(self, side: str) -> dict[int, float]:
        """Harts -> throughput of private work over that of one hart."""
        rates = {h: row.rate(side) for (kernel, _, h), row in self.rows.items() if kernel == "scaling"}
        one = rates.get(1)
        return {harts: rate / one for harts, rate in rates.items() if rate and one}

    def value(self, key: Key, measure: Measure) -> float | None:
        """That number of a row."""
        row = self.rows[key]
        match measure:
            case Measure.RATE:
                return row.rate("mpemu")
            case Measure.SCALING:
                return self.scaling("mpemu").get(key[2])
        return row.ratio(*_OVER[measure], first=measure is Measure.COLD)

    def means(self) -> list[Mean]:
        """One per group, mode and number of harts, of the rows that both sides of a ratio have."""
        groups: dict[tuple[str, str, int], list[Key]] = defaultdict(list)
        for kernel, mode, harts in self.rows:
            if (group := group_of(kernel, harts)) not in WITHOUT_MEAN:
                groups[group, mode, harts].append((kernel, mode, harts))
        means = []
        for place, keys in groups.items():
            values, whole = {}, set()
            for measure in _OVER:
                ratios = [ratio for key in keys if (ratio := self.value(key, measure)) is not None]
                if ratios:
                    values[measure] = statistics.geometric_mean(ratios)
                if len(ratios) == len(GROUPS.get(place[0], ())):
                    whole.add(measure)
            means.append(Mean(*place, values, frozenset(whole)))
        return means

    def verdicts(self, key: Key) -> list[Verdict]:
        """The goals of a row."""
        return [Verdict(title(key), goal, self.value(key, goal.measure)) for goal in goals_of(key[0], key[2])]

    def all_verdicts(self) -> Iterator[Verdict]:
        """The goals of all rows and means."""
        for key in self.rows:
            yield from self.verdicts(key)
        for mean in self.means():
            yield from mean.verdicts()

    def lacks(self, side: str, key: Key) -> str:
        """In a word or two, why a row has no sample of this side; "" if it was not asked for."""
        what = self.rows[key].what
        if (side, what) in self.absent:
            return "not installed"
        return "failed" if (side, what, key[2]) in self.failures else ""

    def as_json(self) -> dict[str, object]:
        """Everything: for machines, so with plain numbers and the names that the command line uses."""
        return {
            "rows": [self._row_as_json(key) for key in self.rows],
            "means": [
                {"group": mean.group, "mode": mean.mode, "harts": mean.harts}
                | {measure.value: value for measure, value in mean.values.items()}
                | {"goals": [v.as_json() for v in mean.verdicts()]}
                for mean in self.means()
            ],
            "absent": [{"side": side, "set": what, "reason": why} for (side, what), why in self.absent.items()],
            "failures": [
                {"side": side, "set": what, "harts": harts, "reason": reason}
                for (side, what, harts), reason in self.failures.items()
            ],
            "different results": self.wrong_checks(),
        }

    def _row_as_json(self, key: Key) -> dict[str, object]:
        row = self.rows[key]
        kernel, mode, harts = key
        return {
            **{"kernel": kernel, "mode": mode, "harts": harts, "unit": row.unit, "set": row.what},
            "group": group_of(kernel, harts),
            "rates": {side: [s.rate for s in found.values()] for side, found in row.samples.items()},
            "first rates": {side: [s.first_rate for s in found.values()] for side, found in row.samples.items()},
            **{measure.value: self.value(key, measure) for measure in _OVER},
            "fairness": row.fairness("mpemu"),
            "goals": [v.as_json() for v in self.verdicts(key)],
        }


def title(key: Key) -> str:
    """A row in words."""
    kernel, mode, harts = key
    return f"{kernel} ({', '.join(filter(None, (mode, f'{harts} hart' + 's' * (harts > 1))))})"
