"""``mpemu list``: what there is to choose from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

Rows = list[dict[str, Any]]


def machines() -> Rows:
    """The boards."""
    from mpemu.config import MachineConfig

    defaults = MachineConfig().dump()
    return [
        {
            "name": "virt",
            "description": "QEMU's virt board: CLINT, SSWI, PLIC, 16550 UART, 8 virtio-mmio slots, RTC, flash",
            "defaults": {"harts": defaults["harts"], "memory": defaults["memory"]},
        }
    ]


def cpus() -> Rows:
    """Profiles and extensions of a hart's ISA string."""
    from mpemu.isa.profiles import EXTENSIONS, PROFILES, IsaSpec

    profiles = [{"name": name, "kind": "profile", "description": str(IsaSpec.parse(name))} for name in PROFILES]
    extensions = [{"name": name, "kind": "extension", "description": text} for name, text in EXTENSIONS.items()]
    return profiles + extensions


def devices() -> Rows:
    """Device types and their properties."""
    from mpemu.config import ON_BOARD
    from mpemu.devices.registry import device_classes

    rows = []
    for name, kind in device_classes().items():
        fields = kind.Properties.model_fields
        rows.append(
            {
                "name": name,
                "kind": "on the board" if name in ON_BOARD else "optional",
                "description": _first_line(kind.Properties.__doc__ or kind.__doc__),
                "properties": {key: str(field.description or "") for key, field in fields.items()},
            }
        )
    return rows


def configs() -> Rows:
    """The shipped configs."""
    from mpemu.paths import configs_dir

    return [
        {"name": path.stem, "description": _first_line(path.read_text().removeprefix("# ")), "file": str(path)}
        for path in sorted(configs_dir().glob("*.yaml"))
    ]


def exits() -> Rows:
    """Why a hart's native loop returns to Python, as counted in the statistics."""
    from mpemu.vcpu.exits import EXIT_DOCS

    return [{"name": reason.name, "number": int(reason), "description": text} for reason, text in EXIT_DOCS.items()]


LISTS: dict[str, Callable[[], Rows]] = {
    "machines": machines, "cpus": cpus, "devices": devices, "configs": configs, "exits": exits,
}  # fmt: skip


def _first_line(text: str | None) -> str:
    first = (text or "").strip().splitlines()[:1]
    return first[0].rpartition("``: ")[2] if first else ""


@click.command("list", short_help="Machines, cpus, devices, configs, exits.")
@click.argument("what", type=click.Choice(list(LISTS)))
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def listing(what: str, as_json: bool) -> None:
    """What there is: machines, cpus (profiles and extensions), devices, configs, exits (of a hart's native loop)."""
    rows = LISTS[what]()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    names = max(len(row["name"]) for row in rows)
    kinds = max(len(row.get("kind", "")) for row in rows)
    for row in rows:
        columns = [f"{row['name']:<{names}}", f"{row.get('kind', ''):<{kinds}}", row["description"]]
        click.echo("  ".join(column for column in columns if column).rstrip())
        for key, text in row.get("properties", {}).items():
            click.echo(f"{'':<{names}}  {key}: {text}".rstrip(": "))
