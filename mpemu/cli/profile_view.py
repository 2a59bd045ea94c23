"""What `mpemu profile` prints: a table of functions; of the hottest the code, guest and host side by side; or JSON."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpemu.cli.disasm import lines
from mpemu.layout import TIERS
from mpemu.profile import HostLine, Hot, Profile, Spot
from mpemu.report import PRIVILEGE
from mpemu.statistics import share

if TYPE_CHECKING:
    from mpemu.statistics import MachineStatistics

WORTH_SHOWING = 0.01
"""Share of a function's samples at an instruction that is shown, with ..."""
CONTEXT = 3
"""... so many before and behind it."""
PLAIN_WIDTH = 140


@dataclass(frozen=True)
class HostInsn:
    """``offset``: handler offset."""

    offset: int
    text: str
    samples: int


@dataclass(frozen=True)
class GuestInsn:
    """``host``: what the translator made of it in the region with most samples of the function."""

    address: int
    text: str
    samples: int
    host: list[HostInsn]


def print_profile(
    profile: Profile, statistics: MachineStatistics, top: int, code: int, file: TextIO | None = None
) -> None:
    """On a terminal in colour, elsewhere plain."""
    file = file or sys.stdout
    console = Console(file=file, width=None if file.isatty() else PLAIN_WIDTH, highlight=False)
    harts = len(statistics.harts)
    tiers = ", ".join(f"{tier} {share(n, profile.total):.1%}" for tier, n in profile.tiers.items())
    console.print(
        f"{profile.total:,} samples of {harts} hart{'s' * (harts > 1)} in {statistics.seconds:.1f} s, "
        f"{statistics.instructions / 1e6:,.1f} M instructions: {tiers}"
    )
    if profile.lost:
        console.print(f"{profile.lost:,} samples were lost")
    console.print(functions_table(profile, top))
    hidden = len(profile.functions) - top
    if hidden > 0:
        rest = sum(hot.total for hot in profile.functions[top:])
        console.print(f"and {hidden:,} more with {share(rest, profile.total):.1%}")
    for hot in profile.functions[:code]:
        console.print()
        console.print(
            f"{_title(hot)}: {share(hot.total, profile.total):.1%} of all samples", style="bold", markup=False
        )
        console.print(code_table(profile, hot))


def functions_table(profile: Profile, top: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("share", "samples", *TIERS):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("address", "function"):
        table.add_column(title, no_wrap=True)
    for hot in profile.functions[:top]:
        tiers = (f"{share(n, hot.total):.0%}" if n else "-" for n in hot.samples)
        numbers = f"{share(hot.total, profile.total):.1%}", f"{hot.total:,}", *tiers
        table.add_row(*numbers, f"{hot.start:#x}", Text(_title(hot)))
    return table


def _title(hot: Hot) -> str:
    return f"{hot.name} [{_privileges(hot)}]"


def _privileges(hot: Hot) -> str:
    return " ".join(PRIVILEGE.get(priv, str(priv)) for priv in sorted({space.priv for space in hot.spaces}))


def code_table(profile: Profile, hot: Hot) -> Table:
    """Where samples are, and a little around it. Shares are of the function's samples; the host's are those of one of
    its regions, the guest's of all, and of the interpreter."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("guest", "right"), ("address", "left"), ("instruction", "left"),
                           ("host", "right"), ("instruction", "left")):  # fmt: skip
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    code = instructions(profile, hot)
    if not code:
        table.add_row("", "", "its code is not known any more", "", "")
    worth = {i for i, insn in enumerate(code) if insn.samples >= max(1, WORTH_SHOWING * hot.total)}
    shown = {i + d for i in worth for d in range(-CONTEXT, CONTEXT + 1)} & set(range(len(code)))
    before = -1
    for i in sorted(shown):
        if i != before + 1:
            table.add_row("", "...", "", "", "")
        before, insn = i, code[i]
        host = insn.host or [HostInsn(0, "", 0)]
        for row, made in enumerate(host):
            left = (_percent(insn.samples, hot), f"{insn.address:x}", Text(insn.text)) if row == 0 else ("", "", "")
            table.add_row(*left, _percent(made.samples, hot), Text(made.text))
    return table


def _percent(samples: int, hot: Hot) -> str:
    return f"{share(samples, hot.total):.1%}" if samples else ""


def instructions(profile: Profile, hot: Hot) -> list[GuestInsn]:
    """All of a function whose code is known."""
    number, host = profile.host_code(hot)
    found = []
    for line in lines(profile.guest_code(hot), hot.start, {}):
        spot = hot.spots.get(line.address)
        made: list[HostInsn] = []
        for piece in host.get(line.address, ()):
            run = list(_host_insns(piece, number, spot))
            if not made or any(insn.samples for insn in run):  # copies and rare ways are shown where they count
                made += run
        found.append(GuestInsn(line.address, line.text, spot.total if spot else 0, made))
    return found


def _host_insns(piece: HostLine, number: int, spot: Spot | None) -> Iterator[HostInsn]:
    import capstone

    kinds = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    engine = capstone.Cs(*kinds[platform.machine()])
    for address, _, mnemonic, operands in engine.disasm_lite(piece.code, piece.offset):
        samples = spot.host[number, address] if spot else 0
        yield HostInsn(address, f"{mnemonic} {operands}".strip(), samples)


def as_data(profile: Profile, statistics: MachineStatistics, top: int, code: int) -> dict[str, Any]:
    """For JSON."""
    functions = []
    for rank, hot in enumerate(profile.functions[:top]):
        row: dict[str, Any] = {
            "name": hot.name,
            "start": hot.start,
            "privilege": _privileges(hot),
            "samples": hot.total,
            "share": round(share(hot.total, profile.total), 4),
            "tiers": dict(zip(TIERS, hot.samples, strict=True)),
        }
        if rank < code:
            row["code"] = [
                {
                    "address": insn.address,
                    "text": insn.text,
                    "samples": insn.samples,
                    "host": [{"text": made.text, "samples": made.samples} for made in insn.host],
                }
                for insn in instructions(profile, hot)
            ]
        functions.append(row)
    return {
        "seconds": statistics.seconds,
        "instructions": statistics.instructions,
        "samples": profile.total,
        "lost": profile.lost,
        "tiers": profile.tiers,
        "functions": functions,
    }
