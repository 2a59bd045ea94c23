"""The guest programs that come with mpemu, built from ``guests/`` of the source tree and shipped inside the wheel.

``smp`` is the machine that ``mpemu run`` boots without a configuration; ``hello`` is the smallest one.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


def available() -> list[str]:
    """Names of the guest programs that are there."""
    return sorted(p.stem for p in HERE.glob("*.elf"))


def guest_path(name: str) -> Path:
    """The ELF file of a guest program; FileNotFoundError says how to get it."""
    path = HERE / f"{name}.elf"
    if not path.exists():
        raise FileNotFoundError(
            f"the embedded guest {name!r} is not built (there: {', '.join(available()) or 'none'}): "
            "in a source tree, run `python guests/build.py`"
        )
    return path
