"""Where mpemu keeps things on the host: the user's cache directory, and the files shipped inside the package."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = PACKAGE.parent


def cache_dir() -> Path:
    """``$MPEMU_CACHE_DIR``, or ``mpemu`` in the XDG cache directory. Not created here."""
    if chosen := os.environ.get("MPEMU_CACHE_DIR"):
        return Path(chosen)
    if (xdg := os.environ.get("XDG_CACHE_HOME")) and os.path.isabs(xdg):
        return Path(xdg) / "mpemu"
    try:
        return Path.home() / ".cache" / "mpemu"
    except RuntimeError:  # no $HOME and no passwd entry: a container with an arbitrary user id
        return Path(tempfile.gettempdir()) / f"mpemu-{os.getuid()}"


def code_dir() -> Path:
    """Where all compiled code is kept: interpreters, and translated code in a directory per interpreter."""
    return cache_dir() / "code"


def linux_dir() -> Path:
    """Where ``mpemu fetch linux`` puts kernel, initramfs and firmware."""
    return cache_dir() / "linux"


def guests_dir() -> Path:
    """The embedded guests: ELF files built from ``guests/``, shipped inside the wheel."""
    return PACKAGE / "guests"


def configs_dir() -> Path:
    """The shipped configurations: ``configs/`` of a checkout, ``mpemu/configs/`` of an installed wheel."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else _CHECKOUT / "configs"


COORDINATOR = "MPEMU_COORDINATOR"
"""Environment variable by which the coordinator tells a program that it starts who it is."""
