"""The table at the end of a run: what each hart did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mpemu.statistics import MachineStatistics


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


def print_statistics(statistics: MachineStatistics, code: int, wall_seconds: float, file: TextIO = sys.stderr) -> None:
    """The table and a line below it; on a terminal in colour, elsewhere plain and as wide as it has to be."""
    console = Console(file=file, width=None if file.isatty() else 160, highlight=False)
    console.print(statistics_table(statistics))
    console.print(
        f"{statistics.instructions / 1e6:,.1f} M instructions in {statistics.seconds:.3f} s; "
        f"{wall_seconds:.3f} s with start and end; exit code {code}"
    )
