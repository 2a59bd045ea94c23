"""Debian's kernel as a guest in tests: its files, and a machine that boots it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mpemu.fetch.linux import RECIPE
from mpemu.paths import linux_dir
from tests.system.console import Console
from tests.system.emulators import ROOT

FETCH_TIMEOUT_S = 600
BOOT_TIMEOUT_S = 100
"""For a boot on a host that is busy with other work; an idle one takes seconds."""
PROMPT = r"^~ # "


def ready() -> bool:
    """Whether the cache has the files, made as this version makes them."""
    try:
        manifest = json.loads((linux_dir() / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    return manifest.get("recipe") == RECIPE and all((linux_dir() / name).is_file() for name in manifest["files"])


def require_linux() -> None:
    """Fetch the files if they aren't in the user's cache. Where that is impossible, skip; but fail in CI."""
    if ready():
        return
    command = [sys.executable, "-m", "mpemu", "fetch", "linux"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    if done.returncode == 0:
        return
    reason = f"`mpemu fetch linux` ended with code {done.returncode}: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def command(*options: str, harts: int, run: str = "", timeout: float = BOOT_TIMEOUT_S) -> list[str]:
    """The command line of a machine with Linux. ``run``: what the guest does instead of giving a shell."""
    append = "console=ttyS0" + (f' mpemu.run="{run}"' if run else "")
    machine = [sys.executable, "-m", "mpemu", "run", "configs/linux.yaml", "--harts", str(harts), "--memory", "256M"]
    return [*machine, "--append", append, "--timeout", f"{timeout:g}", *options]


def boot(*options: str, harts: int, timeout: float = 3 * BOOT_TIMEOUT_S) -> Console:
    """A machine whose guest has come to its shell's prompt."""
    console = Console(command(*options, harts=harts, timeout=timeout), ROOT)
    try:
        console.expect(PROMPT, BOOT_TIMEOUT_S)
    except BaseException:
        console.close()
        raise
    return console
