"""``mpemu fetch``: guests that mpemu does not ship."""

from __future__ import annotations

from pathlib import Path

import click

from mpemu.cli.progress import Reporter
from mpemu.fetch.apt import KEYRING, MIRROR_VARIABLE


@click.group("fetch")
def fetch() -> None:
    """Get guests that mpemu does not ship."""


@fetch.command("linux")
@click.option(
    "--mirror",
    metavar="URI",
    help=f"Debian mirror to use.  [default: ${MIRROR_VARIABLE}, or that of this system's apt]",
)
@click.option(
    "--keyring", type=click.Path(path_type=Path), help=f"Keys that the mirror is signed by.  [default: {KEYRING}]"
)
@click.option("--force", is_flag=True, help="Get and build everything again.")
def linux(mirror: str | None, keyring: Path | None, force: bool) -> None:
    """Debian's riscv64 kernel, busybox-static and OpenSBI, for configs/linux.yaml.

    About 113 MB of packages of suite trixie are downloaded with this system's apt, which checks them against the
    signed Release file; an interrupted download goes on where it stopped. The kernel, the firmware and an initramfs
    end up in the user's cache directory ($MPEMU_CACHE_DIR, $XDG_CACHE_HOME/mpemu or ~/.cache/mpemu).
    """
    from mpemu.fetch import fetch_linux

    with Reporter() as report:
        directory, new = fetch_linux(report, mirror=mirror, keyring=keyring, force=force)
    click.echo(f"{directory}: {'ready' if new else 'up to date'}", err=True)
