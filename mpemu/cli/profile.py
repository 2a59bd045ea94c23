"""``mpemu profile``: runs a machine, samples where its harts are, and shows the hottest functions and their code."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic_ns
from typing import TYPE_CHECKING, NoReturn

import click

from mpemu.cli import leaving
from mpemu.cli.options import machine_arguments
from mpemu.cli.progress import Reporter
from mpemu.config import MachineConfig
from mpemu.errors import ConfigError, Interrupted, MpemuError

if TYPE_CHECKING:
    from mpemu.codecache import CodeCache
    from mpemu.symbols import Function
    from mpemu.vcpu.blob import Blob


@click.command("profile", short_help="Show where a guest spends its time.")
@machine_arguments
@click.option("--seconds", type=click.FloatRange(0.1, 1e6), metavar="N", help="End the machine after so long.")
@click.option("--top", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N",
              help="So many functions.")  # fmt: skip
@click.option("--code", type=click.IntRange(0, 1000), default=3, show_default=True, metavar="N",
              help="Show the code of so many, guest and host side by side.")  # fmt: skip
@click.option("--symbols", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="More names of functions: an ELF file (vmlinux) or a System.map.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def profile(
    config: MachineConfig,
    seconds: float | None,
    top: int,
    code: int,
    symbols: tuple[Path, ...],
    as_json: bool,
) -> NoReturn:
    """Run the machine of CONFIG until it ends, or for --seconds or up to Ctrl-C, and show where its harts were.

    Names come from the ELF files that the machine boots, and from --symbols. A sample is taken per millisecond of a
    hart's CPU time, or at the host's clock tick if that is longer. On a terminal the guest has its console;
    otherwise a console of stdio is switched off, and stdout has the profile alone.
    """
    from mpemu.assembly import assemble
    from mpemu.cli.profile_view import as_data, print_profile
    from mpemu.paths import code_dir
    from mpemu.profile import Profile, Profiler
    from mpemu.symbols import Symbols

    if not (config.boot.kernel or config.boot.firmware):
        raise ConfigError("there is nothing to run: --kernel FILE, or boot.kernel in the config")
    known = Symbols(_functions(config, symbols))
    if config.console == "stdio" and (as_json or not sys.stdout.isatty()):
        config = config.model_copy(update={"console": "none"})
    exit_code, error = 0, None
    with ExitStack() as kept:
        root = code_dir() if config.engine.cache else Path(kept.enter_context(TemporaryDirectory(prefix="mpemu-")))
        with Reporter() as report:
            assembled = assemble(config, report, profile=root)
        with assembled.machine as machine:
            leaving.check()
            assert assembled.sampling
            profiler = Profiler(machine.memory, assembled.code, assembled.sampling, machine.loop)
            if seconds is not None:
                end = machine.loop.realtime.timer(machine.request_shutdown, "end of the profile")
                end.arm(monotonic_ns() + int(seconds * 1e9))
            try:
                exit_code = machine.run(config.timeout, signals=True)
            except Interrupted:
                pass  # that is how one ends it
            except MpemuError as caught:
                exit_code, error = caught.exit_code, caught
            samples = profiler.finish()
            statistics = machine.statistics()
        units = _units(root, assembled.code, config)
        found = Profile(samples, known, units.load if units else lambda digest: [])
        if as_json:
            click.echo(json.dumps(as_data(found, statistics, top, code), indent=2))
        else:
            print_profile(found, statistics, top, code)
    if error is not None:
        print(f"mpemu: {error}", file=sys.stderr)
    sys.exit(exit_code)


def _functions(config: MachineConfig, more: tuple[Path, ...]) -> list[Function]:
    """Of the images that are ELF files, and of the files given."""
    from mpemu.boot.elf import is_elf
    from mpemu.boot.image import read_file
    from mpemu.symbols import elf_functions, read_symbols

    found = [function for path in more for function in read_symbols(path)]
    for what in ("firmware", "kernel"):
        if path := config.boot.path(what):
            data = read_file(str(path), what)
            if is_elf(data):
                found += elf_functions(data, f"{what} {path}")
    return found


def _units(root: Path, code: Blob, config: MachineConfig) -> CodeCache | None:
    """The translations that this run has used; None, and a word to the user, if they can't be read (any more)."""
    from mpemu.codecache import CodeCache, units_key
    from mpemu.private_file import Refused
    from mpemu.vcpu.blob_file import BlobError, read_blob

    if not config.engine.translates:
        return None
    try:
        key = units_key(code.path, read_blob(code.path).digest, located=True)
        return CodeCache(root, key, config.harts.isa)
    except (Refused, BlobError) as refused:
        why = str(refused)
    except OSError as error:
        why = f"{error.filename or root}: {error.strerror}"
    print(f"mpemu: {why}: there is no host code to show", file=sys.stderr)
    return None
