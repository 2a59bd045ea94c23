"""``mpemu run``: boots a machine and stays until it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

import click

from mpemu.cli import leaving
from mpemu.cli.options import machine_arguments
from mpemu.cli.progress import Reporter
from mpemu.config import MachineConfig
from mpemu.errors import ConfigError, HostError, MpemuError, VCpuCrashed

if TYPE_CHECKING:
    from mpemu.assembly import Assembled

EXIT_CODES = """\b
Exit codes: the guest's, that is 0 after a power-off (0x5555) and the code that
it gave to the test finisher (0x3333) or to HTIF otherwise; or
\b
    2  wrong command line              71  the host lacks something
   66  a guest image is unusable       78  wrong config
   69  a download failed              124  --timeout passed
   70  a vCPU crashed, or a bug       130  Ctrl-C      143  SIGTERM
"""


@click.command("run", short_help="Boot a machine.", epilog=EXIT_CODES)
@machine_arguments
@click.option("--signature", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="At the end, write the memory from begin_signature to end_signature, as Spike does.")  # fmt: skip
@click.option("--signature-granularity", type=click.IntRange(1, 1024), default=16, show_default=True, metavar="N",
              help="Bytes per line of the signature.")  # fmt: skip
@click.option("--hash", "with_hash", is_flag=True, help="Print the SHA-256 of guest RAM at the end.")
@click.option("--stats/--no-stats", default=True, help="The table at the end.  [default: on]")
@click.option("--stats-json", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the statistics as JSON.")  # fmt: skip
def run(
    config: MachineConfig,
    signature: Path | None,
    signature_granularity: int,
    with_hash: bool,
    stats: bool,
    stats_json: Path | None,
) -> NoReturn:
    """Boot the machine of CONFIG (a file, or a name of `mpemu list configs`; by default the embedded SMP guest).

    The guest's console is on stdin and stdout, messages are on stderr. Ctrl-A x ends the machine, Ctrl-A h shows the
    other commands.
    """
    if not (config.boot.kernel or config.boot.firmware):
        raise ConfigError("there is nothing to run: --kernel FILE, or boot.kernel in the config")
    from mpemu.assembly import assemble

    begin = monotonic()
    with Reporter() as report:
        assembled = assemble(config, report)
    code, error = 0, None
    with assembled.machine as machine:
        leaving.check()
        area = signature_area(assembled) if signature else (0, 0)
        try:
            code = machine.run(config.timeout, signals=True)
        except MpemuError as caught:
            code, error = caught.exit_code, caught
        statistics = machine.statistics()
        digest = machine.ram_hash() if with_hash else ""
        if signature and error is None:
            _write(signature, signature_text(machine.memory.read(area[0], area[1] - area[0]), signature_granularity))
    wall = monotonic() - begin
    if stats:
        from mpemu.stats_view import print_statistics

        print_statistics(statistics, code, wall)
    if with_hash:
        print(f"RAM sha256 {digest}", file=sys.stderr)
    if stats_json:
        found = {"exit_code": code, "wall_seconds": wall, **statistics.as_dict()}
        _write(stats_json, json.dumps(found | ({"ram_sha256": digest} if digest else {}), indent=2) + "\n")
    if isinstance(error, VCpuCrashed):
        print(f"mpemu: {error.report}", file=sys.stderr)
    elif error is not None:
        print(f"mpemu: {error}", file=sys.stderr)
    sys.exit(code)


def signature_area(assembled: Assembled) -> tuple[int, int]:
    """First and last address (exclusive) of the signature. ConfigError if the guest's ELF file has none in RAM."""
    symbols = assembled.board.plan.symbols
    if not {"begin_signature", "end_signature"} <= symbols.keys():
        raise ConfigError("--signature: the guest's ELF file has no symbols begin_signature and end_signature")
    first, last = symbols["begin_signature"], symbols["end_signature"]
    if last < first or (last > first and not assembled.machine.memory.contains(first, last - first)):
        raise ConfigError(f"--signature: {first:#x}..{last:#x} is not a piece of RAM")
    return first, last


def signature_text(data: bytes, granularity: int) -> str:
    """Lines of ``granularity`` bytes, the last one filled up with zeros; a line is a hexadecimal number."""
    rows = range(0, len(data), granularity)
    return "".join(data[row : row + granularity].ljust(granularity, b"\0")[::-1].hex() + "\n" for row in rows)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise HostError(f"{path}: can't be written: {error.strerror}") from error
