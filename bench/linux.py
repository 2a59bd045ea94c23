"""Linux on both emulators: the same kernel, initramfs and OpenSBI, from the start to the shell, and programs in it.

A boot is timed from the start of the emulator's process to the prompt, a program from the last key to the end of its
output, both by the host's clock. Each program runs twice: the first pass finds it untranslated (or, with a warm cache,
translated by an earlier machine), the second is measured. What the programs print is compared between the sides.
"""

from __future__ import annotations

import time

from bench.process import ROOT
from bench.samples import BenchError, Sample, once
from bench.sides import QEMU, Settings, cache_of, is_mpemu, mpemu_command
from mpemu.paths import linux_dir
from tests.system.console import Console, ConsoleError

MEMORY = "512M"
CONFIG = "linux.yaml"
PROMPT = r"^~ # "
BOOT_TIMEOUT_S = PROGRAM_TIMEOUT_S = 300.0
QUIET = "echo 1 >/proc/sys/kernel/printk"
"""No messages of the kernel between what programs print."""

BOOT = "boot to the shell"
PROGRAMS = {
    "sha256sum, 4 MB": "head -c 4000000 /dev/zero | sha256sum",
    "gzip of busybox": "gzip -c /bin/busybox | wc -c",
    "awk, 200,000 turns": "awk 'BEGIN { for (n = 0; n < 200000; n++) s += n * n % 7; print s }'",
    "sort of 20,000 lines": "seq 20000 | awk '{ print $1 * 7919 % 20011 }' | sort -n | md5sum",
    "200 processes": "for n in $(seq 200); do busybox true; done; echo $n",
    "4 sha256sum side by side": "for n in 1 2 3 4; do (head -c 2000000 /dev/zero | sha256sum) & done; wait",
}
"""Name and shell command. Each output is short and the same on every machine."""


def missing() -> str:
    """Why Linux can't be measured here, or ""."""
    return "" if (linux_dir() / "manifest.json").exists() else "there is no Linux guest: run `mpemu fetch linux` first"


def run_linux(side: str, harts: int, settings: Settings) -> list[Sample]:
    """Boot once and run the programs whose names begin with ``settings.only``. BenchError has what was measured."""
    samples: list[Sample] = []
    try:
        with cache_of(side, CONFIG) as environment:
            start = time.monotonic()
            with Console(_command(side, harts, settings), ROOT, environment) as console:
                console.expect(PROMPT, BOOT_TIMEOUT_S)
                samples.append(once(f"Linux: {BOOT}", "run", "S", harts, time.monotonic() - start))
                console.shell(QUIET)
                for name, command in PROGRAMS.items():
                    if name.startswith(settings.only):
                        samples.append(_run_program(console, name, command, harts))
    except ConsoleError as error:
        raise BenchError(str(error), samples) from None
    return samples


def _run_program(console: Console, name: str, command: str, harts: int) -> Sample:
    seconds, results = [], []
    for _ in range(2):
        start = time.monotonic()
        results.append(_result(console.shell(command, PROGRAM_TIMEOUT_S)))
        seconds.append(time.monotonic() - start)
    check = " / ".join(dict.fromkeys(results))
    return Sample(f"Linux: {name}", "run", "S", harts, 1, seconds[1], 0, 0, check, 1, seconds[0])


def _result(output: str) -> str:
    """What must be the same everywhere: the lines without those of the shell about its jobs, in any order."""
    words = (line.split() for line in output.splitlines() if not line.startswith("["))
    return " ".join(sorted({first for first, *_ in filter(None, words)}))


def _command(side: str, harts: int, settings: Settings) -> list[str]:
    if is_mpemu(side):
        machine = [*mpemu_command(side, settings, CONFIG), "--harts", str(harts), "--memory", MEMORY]
        return [*machine, "--append", "console=ttyS0"]
    files = linux_dir()
    machine = [QEMU, "-M", "virt", "-smp", str(harts), "-m", MEMORY, "-nographic", "-device", "virtio-rng-device"]
    boot = ["-bios", str(files / "fw_dynamic.bin"), "-kernel", str(files / "Image")]
    return [*machine, *boot, "-initrd", str(files / "initramfs.cpio"), "-append", "console=ttyS0"]
