"""Linux on both emulators: the same kernel, initramfs and OpenSBI, from the start to the shell, and programs in it.

A boot is timed from the start of the emulator's process to the prompt, a program from the last key to the end of its
output, both by the host's clock. What the programs print is compared between the sides.
"""

from __future__ import annotations

import sys
import time

from bench.sides import QEMU, ROOT, BenchError, Sample
from mpemu.paths import linux_dir
from tests.system.console import Console, ConsoleError

MEMORY = "512M"
PROMPT = r"^~ # "
BOOT_TIMEOUT_S = PROGRAM_TIMEOUT_S = 300.0
QUIET = "echo 1 >/proc/sys/kernel/printk"
"""No messages of the kernel between what programs print."""

PROGRAMS = {
    "sha256sum, 4 MB": "head -c 4000000 /dev/zero | sha256sum",
    "gzip of busybox": "gzip -c /bin/busybox | wc -c",
    "awk, 200,000 turns": "awk 'BEGIN { for (n = 0; n < 200000; n++) s += n * n % 7; print s }'",
    "200 processes": "for n in $(seq 200); do busybox true; done; echo $n",
    "4 sha256sum side by side": "for n in 1 2 3 4; do (head -c 2000000 /dev/zero | sha256sum) & done; wait",
}
"""Name and shell command. Each output is short and the same on every machine."""


def missing() -> str:
    """Why Linux can't be measured here, or ""."""
    return "" if (linux_dir() / "manifest.json").exists() else "there is no Linux guest: run `mpemu fetch linux` first"


def run_linux(side: str, harts: int, only: str = "") -> list[Sample]:
    """Boot once and run the programs; nothing for the side that has no guest. BenchError says what went wrong."""
    if side == "native":
        return []
    samples = []
    try:
        start = time.monotonic()
        with Console(_command(side, harts), ROOT) as console:
            console.expect(PROMPT, BOOT_TIMEOUT_S)
            samples.append(_sample("Linux: boot to the shell", harts, time.monotonic() - start, ""))
            console.shell(QUIET)
            for name, command in PROGRAMS.items():
                if name.startswith(only):
                    start = time.monotonic()
                    output = console.shell(command, PROGRAM_TIMEOUT_S)
                    samples.append(_sample(f"Linux: {name}", harts, time.monotonic() - start, _result(output)))
    except ConsoleError as error:
        raise BenchError(f"{side} with {harts} harts: {error}") from error
    return samples


def _result(output: str) -> str:
    """What must be the same everywhere: the lines without those of the shell about its jobs, in any order."""
    return " ".join(sorted({line.split()[0] for line in output.splitlines() if line and line[0] not in "["}))


def _sample(kernel: str, harts: int, seconds: float, check: str) -> Sample:
    return Sample(kernel, "run", "S", harts, 1, seconds, 0, 0, check)


def _command(side: str, harts: int) -> list[str]:
    if side == "mpemu":
        machine = [sys.executable, "-m", "mpemu", "run", str(ROOT / "configs" / "linux.yaml")]
        return [*machine, "--harts", str(harts), "--memory", MEMORY, "--append", "console=ttyS0"]
    files = linux_dir()
    machine = [QEMU, "-M", "virt", "-smp", str(harts), "-m", MEMORY, "-nographic", "-device", "virtio-rng-device"]
    boot = ["-bios", str(files / "fw_dynamic.bin"), "-kernel", str(files / "Image")]
    return [*machine, *boot, "-initrd", str(files / "initramfs.cpio"), "-append", "console=ttyS0"]
