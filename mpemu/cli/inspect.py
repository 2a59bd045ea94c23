"""Commands that look at a config without running it: ``check``, ``dtb``, ``mtree``, ``schema``."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpemu.addresses import RAM
from mpemu.cli.options import machine_arguments, machine_title
from mpemu.config import BootConfig, MachineConfig
from mpemu.errors import HostError

if TYPE_CHECKING:
    from mpemu.board import Board


@click.command("check", short_help="Validate a config.")
@machine_arguments
@click.option(
    "--print", "print_it", is_flag=True, help="Print the full effective config; it loads to the same machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def check(config: MachineConfig, print_it: bool, as_json: bool) -> None:
    """Validate CONFIG: every mistake is told with its line, its key and what would be right (exit code 78)."""
    if as_json:
        click.echo(json.dumps(config.dump(), indent=2))
    elif print_it:
        from mpemu.schema import config_yaml

        click.echo(config_yaml(config), nl=False)
    else:
        click.echo(machine_title(config))


@click.command("schema", short_help="JSON Schema of configs, for editors.")
def schema() -> None:
    """The JSON Schema of configs, for editors: `mpemu schema > mpemu.schema.json`."""
    from mpemu.schema import config_schema

    click.echo(json.dumps(config_schema(), indent=2))


@click.command("mtree", short_help="Memory map of a machine.")
@machine_arguments
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def mtree(config: MachineConfig, as_json: bool) -> None:
    """The physical address space of CONFIG's machine: the tree of memory regions, and what an access sees of it."""
    from mpemu.devices.regions import tree_json, tree_text

    root = _board(config.model_copy(update={"boot": BootConfig()})).root
    click.echo(json.dumps(tree_json(root), indent=2) if as_json else tree_text(root))


@click.command("dtb", short_help="Device tree of a machine.")
@machine_arguments
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to.  [default: stdout]")
@click.option("--dts", is_flag=True, help="Source text instead of the blob. What a terminal gets in any case.")
def dtb(config: MachineConfig, output: Path | None, dts: bool) -> None:
    """The device tree that CONFIG's machine gives to its guest; only the random seed is left out."""
    blob = _board(config).plan.dtb
    if dts or (output is None and sys.stdout.isatty()):
        import fdt  # type: ignore[import-untyped]

        blob = fdt.parse_dtb(blob).to_dts().encode()
    if output is None:
        click.echo(blob, nl=False)
        return
    try:
        output.write_bytes(blob)
    except OSError as error:
        raise HostError(f"{output}: can't be written: {error.strerror}") from error


class _Nothing:
    """Stands in for the loop, the harts and the shared state, which devices only use while a machine runs."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *_: object) -> _Nothing:
        return self


class _Memory(_Nothing):
    """As much of mpemu/memory.py as devices look at when they are made. RAM is address space that nobody touches."""

    def __init__(self, config: MachineConfig) -> None:
        self.harts, self.ram_base, self.ram_size = config.harts.count, RAM, config.memory
        # read-only, so that the host sets nothing aside for it
        self.ram = memoryview(mmap.mmap(-1, config.memory, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))


def _board(config: MachineConfig) -> Board:
    """The hardware of a config, with nothing that runs."""
    from mpemu.board import Board
    from mpemu.boot.rom import ROM_SIZE
    from mpemu.devices.device import DeviceContext

    nothing: Any = _Nothing()
    memory: Any = _Memory(config)
    context = DeviceContext(
        loop=nothing, memory=memory, near=nothing, request_shutdown=nothing, request_reboot=nothing,
        clock=lambda: 0, timer=nothing, random=lambda count: b"",
    )  # fmt: skip
    return Board(config, context, memory.ram, bytearray(ROM_SIZE))
