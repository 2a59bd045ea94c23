"""The sides of a comparison: how to run the benchmark guest on mpemu, on QEMU, and its portable kernels natively."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from guests.build import HERE as GUESTS
from guests.build import build

ROOT = Path(__file__).resolve().parents[1]
QEMU = "qemu-system-riscv64"
MTIME_HZ = 10_000_000
TIMEOUT = 900.0
NATIVE_FLAGS = (
    *("-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-sanitize=undefined", "-fno-strict-aliasing"),
    *("-fno-vectorize", "-fno-slp-vectorize"),  # scalar, as the guest's RV64GC is
)


class BenchError(Exception):
    """A side could not be run, or what it printed is not understood."""


@dataclass(frozen=True)
class Sample:
    """One kernel, measured once. ``work`` of all harts in ``seconds``; least and most of a single hart."""

    kernel: str
    unit: str
    mode: str
    harts: int
    work: int
    seconds: float
    least: int
    most: int
    check: str

    @property
    def rate(self) -> float:
        """Units of work per second."""
        return self.work / self.seconds

    @property
    def key(self) -> tuple[str, str, int]:
        return self.kernel, self.mode, self.harts


def parse(text: str) -> list[Sample]:
    """The samples in a guest's (or the native program's) output; other lines are ignored."""
    samples = []
    for line in text.splitlines():
        if not line.startswith("bench "):
            continue
        fields = line.removeprefix("bench ").strip().split("|")
        if len(fields) != 9:
            raise BenchError(f"not a line of the benchmark guest: {line!r}")
        kernel, unit, mode, harts, work, ticks, least, most, check = fields
        seconds = int(ticks) / MTIME_HZ
        samples.append(Sample(kernel, unit, mode, int(harts), int(work), seconds, int(least), int(most), check))
    return samples


def run_start(side: str, harts: int) -> list[Sample]:
    """The wall time of a whole run of the smallest guest: start, first instructions, power-off, end."""
    if side == "native":
        return []
    command = _command(side, build(["hello"])["hello"], harts, "")
    start = time.monotonic()
    _output(command)
    return [Sample("start and end", "run", "M", harts, 1, time.monotonic() - start, 0, 0, "")]


def run_mmio(side: str) -> list[Sample]:
    """Far MMIO round trips of mpemu, without the guest and the device (mmio_channel.py)."""
    if side != "mpemu":
        return []
    lines = _output([sys.executable, "-m", "bench.mmio_channel"]).splitlines()
    found = [re.match(r"(\w+) .*? median +([\d.]+) us", line) for line in lines]
    return [Sample(f"far MMIO, {m[1]}", "trip", "", 1, 1, float(m[2]) / 1e6, 0, 0, "") for m in found if m is not None]


def run_side(side: str, what: str, harts: int, ms: int, only: str = "") -> list[Sample]:
    """Run a set of kernels (``alone``, ``scaling``, ``smp``) once; BenchError says what went wrong."""
    if side == "native":
        return parse(_output([str(build_native()), str(ms), only.replace("_", " ")])) if what == "alone" else []
    elf = build(["bench"])["bench"]
    append = f"set={what} ms={ms}" + (f" only={only}" if only else "")
    return parse(_output(_command(side, elf, harts, append)))


def available(side: str) -> bool:
    return side != "qemu" or shutil.which(QEMU) is not None


def _command(side: str, elf: Path, harts: int, append: str) -> list[str]:
    if side == "qemu":
        machine = [QEMU, "-M", "virt", "-smp", str(harts), "-m", "256M", "-nographic", "-bios", "none"]
        return [*machine, "-kernel", str(elf), "-append", append]
    machine = [sys.executable, "-m", "mpemu", "run", str(ROOT / "configs" / "bare.yaml"), "--memory", "256M"]
    return [*machine, "--harts", str(harts), "--kernel", str(elf), "--append", append]


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise BenchError(f"exit code {done.returncode} of {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build_native() -> Path:
    """Compile the portable kernels for this host (again only if they changed)."""
    names = ("kernels.c", "integer.c", "data.c", "numeric.c", "calls.c")
    sources = [ROOT / "bench" / "native.c", *(GUESTS / "bench" / name for name in names)]
    target = ROOT / "build" / "bench" / "native"
    newest = max(p.stat().st_mtime for p in (*sources, GUESTS / "bench" / "kernels.h", Path(__file__)))
    if not target.exists() or target.stat().st_mtime < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        _output([sys.executable, "-m", "ziglang", "cc", *NATIVE_FLAGS, *map(str, sources), "-o", str(target)])
    return target
