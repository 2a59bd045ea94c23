"""The sides of a comparison: what each is called, whether it can run here, and mpemu's caches, warm and cold."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench.process import ROOT
from bench.samples import BenchError
from mpemu.config import EngineConfig, load_config
from mpemu.errors import MpemuError
from mpemu.isa.profiles import IsaSpec
from mpemu.paths import cache_dir, linux_dir
from mpemu.vcpu.blob import blob_path, load_blob

QEMU = "qemu-system-riscv64"
SIDES = {
    "mpemu": "mpemu",
    "mpemu-cold": "mpemu, cold",
    "mpemu-interp": "mpemu, interpreter",
    "qemu": "QEMU",
    "native": "native",
}
"""Name and title. ``mpemu`` finds what an earlier run has translated, ``mpemu-cold`` finds nothing translated."""
USUAL = ("mpemu", "mpemu-cold", "qemu", "native")
ENGINES: tuple[str, ...] = get_args(EngineConfig.model_fields["mode"].annotation)


@dataclass(frozen=True)
class Settings:
    """How kernels are measured: milliseconds of the measured and of the first pass, which ones, mpemu's engine."""

    ms: int
    warm_ms: int
    only: str = ""
    engine: str = "auto"


def absent(side: str) -> str:
    """Why a side can't be measured on this host, or ""."""
    if side == "qemu" and shutil.which(QEMU) is None:
        return f"{QEMU} is not installed (Debian: apt install qemu-system-misc)"
    if side == "native" and importlib.util.find_spec("ziglang") is None:
        return f"the compiler is not installed: {sys.executable} -m pip install ziglang"
    return ""


def is_mpemu(side: str) -> bool:
    return side.startswith("mpemu")


def mpemu_command(side: str, settings: Settings, config: str) -> list[str]:
    """``mpemu run`` of a shipped config on this side's engine."""
    mode = "interp" if side == "mpemu-interp" else settings.engine
    return [sys.executable, "-m", "mpemu", "run", str(ROOT / "configs" / config), "--set", f"engine.mode={mode}"]


def _interpreter(config: str) -> Path:
    """Where the cache has the interpreter for a shipped config; made if need be."""
    try:
        isa = IsaSpec.parse(load_config(ROOT / "configs" / config).harts.isa)
        if not blob_path(isa).exists():
            load_blob(isa)
        return blob_path(isa)
    except MpemuError as error:
        raise BenchError(f"mpemu run {config}: {error}") from None


@contextlib.contextmanager
def cache_of(side: str, config: str) -> Iterator[dict[str, str]]:
    """The environment that gives an emulator this side's cache. BenchError.

    The interpreter is made before, once per mpemu version: that is not what is measured. The cold cache is new and goes
    away afterwards: it has the interpreter and the Linux guest, but nothing translated.
    """
    if not is_mpemu(side):
        yield {}
        return
    interpreter = _interpreter(config)
    if side != "mpemu-cold":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mpemu-bench-") as directory:
        copy = Path(directory) / interpreter.relative_to(cache_dir())
        copy.parent.mkdir(parents=True, mode=0o700)
        shutil.copy2(interpreter, copy)
        if linux_dir().exists():
            (Path(directory) / linux_dir().relative_to(cache_dir())).symlink_to(linux_dir())
        yield {"MPEMU_CACHE_DIR": directory}
