"""The table of subcommands. Each is a module beside this one, imported when it is used."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "run": "mpemu.cli.run:run",
    "check": "mpemu.cli.inspect:check",
    "list": "mpemu.cli.listing:listing",
    "dtb": "mpemu.cli.inspect:dtb",
    "mtree": "mpemu.cli.inspect:mtree",
    "disasm": "mpemu.cli.disasm:disasm",
    "profile": "mpemu.cli.profile:profile",
    "fetch": "mpemu.cli.fetch:fetch",
    "cache": "mpemu.cli.cache:cache",
    "schema": "mpemu.cli.inspect:schema",
}


class LazyGroup(click.Group):
    """Commands by name; `mpemu run` must not pay for what the others import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"mpemu {version('mpemu')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def group() -> None:
    """A multi-core RISC-V machine, compatible with QEMU's virt board, in which every hart is a process.

    \b
      mpemu run                        the embedded SMP guest on 4 harts
      mpemu fetch linux                get Debian's riscv64 kernel and busybox, once
      mpemu run configs/linux.yaml     SMP Linux to a shell
    """
