"""Commands that look at a config without running it: ``check``, ``dtb``, ``mtree``, ``schema``."""

from __future__ import annotations

import json

import click

from mpemu.cli.options import machine_arguments, machine_title
from mpemu.config import MachineConfig


@click.command("check")
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


@click.command("schema")
def schema() -> None:
    """The JSON Schema of configs, for editors: `mpemu schema > mpemu.schema.json`."""
    from mpemu.schema import config_schema

    click.echo(json.dumps(config_schema(), indent=2))
