"""Runs guest programs on mpemu and on QEMU: the same ELF, the same boot arguments, exit code and console compared."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-system-riscv64"
QEMU_CPU = "rv64"  # with svnapot it stops to look at reserved bits of page-table entries


@dataclass(frozen=True)
class Result:
    """What a guest left behind: the emulator's exit code, the guest's console, the emulator's messages, wall time."""

    code: int
    console: str
    messages: str
    seconds: float


def run_process(command: list[str], timeout: float) -> Result:
    """Run to the end in a process group of its own; after ``timeout`` seconds the whole group is killed."""
    start = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            console, messages = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            console, messages = process.communicate()
            messages += f"\n(killed after {timeout} s)"
    return Result(process.returncode, console, messages, time.monotonic() - start)


def run_qemu(
    elf: Path, *, harts: int = 1, append: str = "", timeout: float = 60, options: tuple[str, ...] = ()
) -> Result:
    machine = ["-M", "virt", "-cpu", QEMU_CPU, "-smp", str(harts), "-m", "128M", "-nographic", "-bios", "none"]
    boot = ["-kernel", str(elf), "-append", f"emulator=qemu exact=0 {append}"]
    return run_process([QEMU, *machine, *boot, *options], timeout)


def run_mpemu(
    elf: Path, *, harts: int = 1, append: str = "", timeout: float = 60, options: tuple[str, ...] = ()
) -> Result:
    command = [sys.executable, "-m", "mpemu", "run", "configs/bare.yaml", "--kernel", str(elf), "--harts", str(harts)]
    settings = ["--append", f"emulator=mpemu {append}", "--timeout", str(timeout)]
    return run_process([*command, *settings, *options], timeout + 10)


def run_deterministic(
    elf: Path, *, harts: int = 1, append: str = "", timeout: float = 60, options: tuple[str, ...] = ()
) -> Result:
    """mpemu with all harts in one process, by turns."""
    options = ("--execution", "deterministic", *options)
    return run_mpemu(elf, harts=harts, append=append, timeout=timeout, options=options)


def missing(name: str) -> str:
    """Why this emulator can't run here, or ""."""
    if name == "qemu":
        return "" if shutil.which(QEMU) else f"{QEMU} is not installed (Debian: apt install qemu-system-misc)"
    return "" if importlib.util.find_spec("mpemu.cli.run") else "there is no `mpemu run` yet"


Emulator = Callable[..., Result]
EMULATORS: dict[str, Emulator] = {
    "mpemu": run_mpemu,
    "deterministic": run_deterministic,
    "qemu": run_qemu,
}


def emulator(name: str) -> Emulator:
    """The function that runs guests on it; skips the test where it can't."""
    reason = missing(name)
    if reason:
        pytest.skip(reason)
    return EMULATORS[name]
