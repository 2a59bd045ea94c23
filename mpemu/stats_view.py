"""The table at the end of a run: what each hart did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

from mpemu.addresses import NS_PER_TICK
from mpemu.layout import REFUSED, TIERS
from mpemu.statistics import quantile, share

if TYPE_CHECKING:
    from mpemu.statistics import MachineStatistics

QUANTILES = {"half": 0.5, "90 %": 0.9, "99 %": 0.99, "99.9 %": 0.999, "all": 1.0}


def statistics_table(statistics: MachineStatistics) -> Table:
    """Per hart: instructions, MIPS, exits by reason, IPIs sent, sleeps; below, the whole machine."""
    reasons = sorted({reason for hart in statistics.harts for reason in hart.exits})
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(statistics.harts) > 1)
    harts = statistics.harts
    rows = [
        ("hart", [str(hart.hart) for hart in harts], "all"),
        ("instructions", [f"{hart.instructions:,}" for hart in harts], f"{statistics.instructions:,}"),
        ("MIPS", [f"{hart.mips:,.1f}" for hart in harts], f"{sum(hart.mips for hart in harts):,.1f}"),
    ]
    for title, values in (
        *((f"exits {reason}", [hart.exits.get(reason, 0) for hart in harts]) for reason in reasons),
        ("traps", [hart.traps for hart in harts]),
        ("interrupts", [hart.interrupts for hart in harts]),
        ("IPIs", [hart.ipis for hart in harts]),
        ("sleeps", [hart.sleeps for hart in harts]),
        ("yields", [hart.yields for hart in harts]),
    ):
        rows.append((title, [f"{value:,}" for value in values], f"{sum(values):,}"))
    for title, _, total in rows:
        table.add_column(title, footer=total, justify="right")
    for row in zip(*(values for _, values, _ in rows), strict=True):
        table.add_row(*row)
    return table


def attention_table(statistics: MachineStatistics) -> Table:
    """How soon interrupts are seen: what so many of the cases stay below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("interrupts are seen within", *QUANTILES, "cases"):
        table.add_column(title, justify="right" if table.columns else "left")
    distances = _sum([hart.poll_distance for hart in statistics.harts])
    lateness = _sum([hart.timer_lateness for hart in statistics.harts])
    for what, histogram, unit, digits in (
        ("instructions, to the next look at the lines", distances, 1.0, 0),
        ("microseconds, from a timer's deadline", lateness, NS_PER_TICK / 1000, 1),
    ):
        bounds = (quantile(histogram, fraction) for fraction in QUANTILES.values())
        cells = ("-" if bound is None else f"{bound * unit:,.{digits}f}" for bound in bounds)
        table.add_row(what, *cells, f"{sum(histogram):,}")
    return table


def _sum(histograms: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*histograms, strict=True)]


def translation_lines(statistics: MachineStatistics) -> Iterator[str]:
    """What was translated, and how much it was used."""
    found = statistics.translation
    if found is None:
        return
    yield (
        f"translation: {found.units_translated:,} regions of {found.instructions:,} instructions made in "
        f"{found.compile_us / 1e6:,.2f} s of CPU, {found.units_loaded:,} from the cache; "
        f"{found.code_bytes / 1e6:,.2f} MB of code; {found.requests:,} requests, {found.dropped:,} dropped, "
        f"{found.failed:,} failed; {found.restarts:,} restarts"
    )
    samples = {tier: sum(hart.tier_samples[tier] for hart in statistics.harts) for tier in TIERS}
    if total := sum(samples.values()):
        shares = ", ".join(f"{tier} {share(number, total):.0%}" for tier, number in samples.items())
        yield f"CPU time of the harts: {shares} ({total:,} samples)"
    visits = sum(hart.region_visits for hart in statistics.harts)
    if not visits:
        return
    mean = sum(hart.region_instructions for hart in statistics.harts) / visits
    reasons = {reason for hart in statistics.harts for reason in hart.region_exits}
    exits = {reason: sum(hart.region_exits.get(reason, 0) for hart in statistics.harts) for reason in reasons}
    refused = exits.pop(REFUSED, 0)
    ends = "".join(
        f", {reason} {share(number, visits):.1%}" for reason, number in sorted(exits.items(), key=lambda e: -e[1])
    )
    yield (
        f"regions: {statistics.translated_share:.1%} of all instructions, {visits:,} visits of {mean:,.0f}; "
        f"they led to: a region {statistics.chained_share:.1%}{ends}; {refused:,} entries refused"
    )


def print_statistics(statistics: MachineStatistics, code: int, wall_seconds: float, file: TextIO = sys.stderr) -> None:
    """The table and a line below it; on a terminal in colour, elsewhere plain and as wide as it has to be."""
    console = Console(file=file, width=None if file.isatty() else 160, highlight=False)
    console.print(statistics_table(statistics))
    console.print(attention_table(statistics))
    for line in translation_lines(statistics):
        console.print(line, soft_wrap=True)
    console.print(
        f"{statistics.instructions / 1e6:,.1f} M instructions in {statistics.seconds:.3f} s; "
        f"{wall_seconds:.3f} s with start and end; exit code {code}"
    )
