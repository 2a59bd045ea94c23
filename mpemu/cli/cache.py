"""``mpemu cache``: the compiled code on disk, that is, interpreters and what was translated for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from time import monotonic, time
from typing import TypeVar

import click

from mpemu.cli.progress import Reporter
from mpemu.codecache import read_units
from mpemu.codecache_upkeep import INTERPRETERS, UNITS, CachedFile, clear, inventory
from mpemu.config import cache_limit
from mpemu.paths import code_dir
from mpemu.private_file import Refused, check_owner, read_private
from mpemu.unit import decode_units
from mpemu.vcpu.blob_file import BlobError, read_blob

SILENCE_S = 1.0
"""What takes longer has a progress bar."""

T = TypeVar("T")


@click.group("cache")
def cache() -> None:
    """The compiled code that is kept on disk: interpreters, and translations of hot guest code.

    It lies in `code` of the user's cache directory ($MPEMU_CACHE_DIR, $XDG_CACHE_HOME/mpemu or ~/.cache/mpemu) and may
    be removed at any time. Its size is limited by engine.cache_limit, or $MPEMU_CACHE_LIMIT (512M); what was not used
    for longest goes first.
    """


as_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


def _watched(phase: str, things: list[T]) -> Iterator[T]:
    """The things, with a progress bar if they take long."""
    began = monotonic()
    with Reporter() as report:
        for number, thing in enumerate(things):
            yield thing
            if monotonic() - began > SILENCE_S:
                report(phase, (number + 1) / len(things))


@dataclass
class Interpreter:
    """An interpreter and the units for it. Sizes are bytes, times seconds since the epoch.

    ``isa`` is known by the units; without any it is empty. ``declined`` are places that were found not to be worth a
    translation; ``bad`` are files that won't be used.
    """

    key: str
    isa: str = ""
    interpreter_size: int = 0
    units_size: int = 0
    pages: int = 0
    units: int = 0
    declined: int = 0
    instructions: int = 0
    code_bytes: int = 0
    compile_seconds: float = 0.0
    last_used: float = 0.0
    bad: int = 0

    def count(self, file: CachedFile) -> None:
        self.last_used = max(self.last_used, file.used)
        if file.kind == INTERPRETERS:
            self.interpreter_size += file.size
            return
        self.units_size += file.size
        self.pages += 1
        try:
            content = decode_units(file.path, read_private(file.path))
        except FileNotFoundError:
            return
        except Refused:
            self.bad += 1
            return
        self.isa = content.isa
        for unit in content.units:
            self.units += bool(unit.code)
            self.declined += not unit.code
            self.instructions += unit.instructions if unit.code else 0
            self.code_bytes += len(unit.code)
            self.compile_seconds += unit.us / 1e6


@cache.command("info")
@as_json
def info(as_json: bool) -> None:
    """What is in the cache: per interpreter its translations, sizes, and when it was last used."""
    root, limit = code_dir(), cache_limit()
    files = inventory(root)
    found: dict[str, Interpreter] = {}
    for file in _watched("reading the cache", files):
        key = file.key.partition("-")[0]
        found.setdefault(key, Interpreter(key)).count(file)
    rows = sorted(found.values(), key=lambda row: row.last_used, reverse=True)
    size = sum(file.size for file in files)
    if as_json:
        whole = {"directory": str(root), "limit": limit, "size": size, "interpreters": list(map(asdict, rows))}
        click.echo(json.dumps(whole, indent=2))
        return
    if rows:
        _print_table(rows)
    click.echo(f"{root}: {_size(size)} of at most {_size(limit)}")


def _print_table(rows: Iterable[Interpreter]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("interpreter", "isa", "size", "pages", "units", "instructions", "code", "on disk", "used", "bad"):
        table.add_column(title, justify="left" if title in ("interpreter", "isa") else "right", overflow="ellipsis")
    for row in rows:
        numbers = (f"{row.pages:,}", f"{row.units:,}", f"{row.instructions:,}", _size(row.code_bytes))
        age, bad = _age(time() - row.last_used), Text(str(row.bad), style="red" if row.bad else "")
        on_disk = _size(row.units_size)
        table.add_row(
            Text(row.key[:12]), Text(row.isa[:24] or "?"), _size(row.interpreter_size), *numbers, on_disk, age, bad
        )
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)


def _size(size: float) -> str:
    if size < 1024:
        return f"{size:.0f} B"
    units = ("KiB", "MiB", "GiB")
    power = min(int(log2(size) / 10), len(units))
    return f"{size / 1024**power:.1f} {units[power - 1]}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


@cache.command("verify")
@click.option("--remove", is_flag=True, help="Remove the files that are bad.")
@as_json
def verify(remove: bool, as_json: bool) -> None:
    """Check every file, as is done before it is used. The exit code is 1 if any is bad.

    Bad files do no harm: they are never executed, and are replaced when they are met.
    """
    root = code_dir()
    files = inventory(root)
    bad: dict[Path, str] = {}
    for file in _watched("verifying the cache", files):
        if why := _fault(file):
            bad[file.path] = why
            if remove:
                file.path.unlink(missing_ok=True)
    places = [root, *{file.path.parent for file in files}] if files else []
    for place in places:
        with suppress(FileNotFoundError):
            try:
                check_owner(place, place.stat())
            except Refused as refused:
                bad[place] = str(refused)
    if as_json:
        found = [{"path": str(path), "why": why.removeprefix(f"{path}: ")} for path, why in bad.items()]
        click.echo(json.dumps({"files": len(files), "removed": remove, "bad": found}, indent=2))
    else:
        for why in bad.values():
            click.echo(why)
        click.echo(f"{root}: {len(files)} files, {len(bad)} bad" + (", removed" if bad and remove else ""))
    sys.exit(1 if bad else 0)


def _fault(file: CachedFile) -> str:
    """What is wrong with a file; empty: nothing, or it is gone."""
    with suppress(FileNotFoundError):
        try:
            if file.kind == INTERPRETERS:
                read_blob(file.path)
            else:
                read_units(file.path, file.key)
        except (Refused, BlobError) as error:
            return str(error)
    return ""


@cache.command("clear")
@click.option("--units", "units_only", is_flag=True, help="Keep the interpreters, which take seconds to make.")
@as_json
def clear_command(units_only: bool, as_json: bool) -> None:
    """Remove all compiled code. Machines that run are not disturbed."""
    root = code_dir()
    began = monotonic()
    with Reporter() as report:
        kinds = (UNITS,) if units_only else (UNITS, INTERPRETERS)
        removed = clear(
            root,
            kinds,
            lambda fraction: report("clearing the cache", fraction) if monotonic() - began > SILENCE_S else None,
        )
    size = sum(file.size for file in removed)
    if as_json:
        click.echo(json.dumps({"directory": str(root), "removed": len(removed), "size": size}, indent=2))
    else:
        click.echo(f"{root}: {len(removed)} files removed, {_size(size)}")
