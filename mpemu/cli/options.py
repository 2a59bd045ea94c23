"""The arguments that say which machine is meant: a config and what overrides it, the same in every command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from mpemu.config import MachineConfig, load_config
from mpemu.errors import ConfigError

DEFAULT_CONFIG = "smp"

# option -> the config key that it sets. Values are checked with the config, so that messages are the same.
_OVERRIDES: dict[str, tuple[str, Any, str, str]] = {
    "--kernel": ("boot.kernel", str, "FILE", "ELF, Linux Image or raw image (or linux, smp, hello)."),
    "--firmware": ("boot.firmware", str, "FILE", "M-mode firmware (or opensbi)."),
    "--initrd": ("boot.initrd", str, "FILE", "Initial RAM disk (or busybox)."),
    "--dtb": ("boot.dtb", str, "FILE", "Device tree to use instead of the generated one."),
    "--append": ("boot.append", str, "TEXT", "The kernel's command line."),
    "--harts": ("harts.count", int, "N", "Number of harts."),
    "--isa": ("harts.isa", str, "ISA", "ISA string or profile name."),
    "--memory": ("memory", str, "SIZE", "RAM, as in 512M or 2G."),
    "--execution": (
        "execution", str, "MODE", "parallel: a process per hart; deterministic: reproducible from the seed.",
    ),
    "--seed": ("seed", int, "N", "Seed of deterministic execution."),
    "--console": ("console", str, "WHERE", "stdio, file:PATH, pty, unix:PATH or none."),
    "--timeout": ("timeout", float, "SECONDS", "End the run after so long (exit code 124)."),
}  # fmt: skip


def _parameter(option: str) -> str:
    return option.removeprefix("--")


def machine_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds CONFIG and its overriding options; the command gets them as one argument, ``config``."""

    @functools.wraps(command)
    def wrapper(config_file: str | None, drive: tuple[str, ...], settings: tuple[str, ...], **rest: Any) -> Any:
        given = {option: rest.pop(_parameter(option)) for option in _OVERRIDES}
        overrides = [
            (_OVERRIDES[option][0], value, f"{option} {value}") for option, value in given.items() if value is not None
        ]
        config = load_config(config_file or DEFAULT_CONFIG, settings, [*overrides, *_drives(drive)])
        return command(config=config, **rest)

    decorated: Callable[..., Any] = wrapper
    decorated = click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the config: harts.isa=rv64gc."
    )(decorated)
    decorated = click.option(
        "--drive", multiple=True, metavar="FILE[,readonly]", help="Add a virtio disk with this raw image."
    )(decorated)
    for option, (_, kind, metavar, text) in reversed(_OVERRIDES.items()):
        decorated = click.option(option, type=kind, metavar=metavar, help=text)(decorated)
    return click.argument("config_file", metavar="[CONFIG]", required=False)(decorated)


def _drives(drives: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
    for drive in drives:
        file = drive.removesuffix(",readonly")
        if "=" in file.rpartition(",")[2] and "," in file and not Path(file).exists():  # as for QEMU: format=raw
            raise ConfigError(f"--drive {drive}: no such file; behind FILE there may be ,readonly and nothing else")
        entry: dict[str, Any] = {"type": "virtio-blk", "file": str(Path.cwd() / file)}
        if file != drive:
            entry["readonly"] = True
        yield "devices[+]", entry, f"--drive {drive}"


def machine_title(config: MachineConfig) -> str:
    """One line about a machine, for messages."""
    what = config.boot.kernel or config.boot.firmware or "nothing to run"
    return f"{config.machine}, {config.harts.count} harts {config.harts.isa}, {config.execution}: {what}"
