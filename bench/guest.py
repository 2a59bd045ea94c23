"""Runs the benchmark guest (guests/bench) on an emulator, its portable kernels natively; start-up and far MMIO."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from bench.process import ROOT, ProcessError, run
from bench.samples import BenchError, Sample, once, parse
from bench.sides import QEMU, Settings, cache_of, is_mpemu, mpemu_command
from guests.build import HERE as GUESTS
from guests.build import BuildError, build

MEMORY = "512M"
"""Enough for 7 harts with 64 MiB each, see guests/bench/bench.h."""
CONFIG = "bare.yaml"
NATIVE_FLAGS = (
    *("-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-sanitize=undefined", "-fno-strict-aliasing", "-pthread"),
    *("-fno-vectorize", "-fno-slp-vectorize"),  # scalar, as the guest's RV64GC is
)
PORTABLE = ("passes.c", "kernels.c", "integer.c", "data.c", "numeric.c", "calls.c", "contended.c")
"""Sources of guests/bench that are built for the host as well."""
PATIENCE_S = 120.0
"""How long anything may be silent: enough to make the interpreter on a busy host."""


def run_kernels(side: str, what: str, harts: int, settings: Settings) -> list[Sample]:
    """Run a set of the guest's kernels (``alone``, ``scaling``, ``smp``) once. BenchError has what was measured."""
    silence_s = PATIENCE_S + 20 * (settings.ms + settings.warm_ms) / 1000
    if side == "native":
        numbers = map(str, (settings.ms, settings.warm_ms, harts))
        return _samples([str(build_native()), what, *numbers, settings.only], silence_s, {})
    append = f"set={what} ms={settings.ms} warm={settings.warm_ms}"
    if settings.only:
        append += f" only={settings.only.replace(' ', '_')}"
    with cache_of(side, CONFIG) as environment:
        return _samples(_command(side, settings, _guest("bench"), harts, append), silence_s, environment)


def run_start(side: str, harts: int, settings: Settings) -> list[Sample]:
    """The wall time of a whole run of the smallest guest: start, first instructions, power-off, end. BenchError."""
    command = _command(side, settings, _guest("hello"), harts, "")
    with cache_of(side, CONFIG) as environment:
        start = time.monotonic()
        _output(command, PATIENCE_S, environment)
        return [once("start and end", "run", "M", harts, time.monotonic() - start)]


def run_mmio() -> list[Sample]:
    """Far MMIO round trips of mpemu, without the guest and the device (mmio_channel.py). BenchError."""
    lines = _output([sys.executable, "-m", "bench.mmio_channel"], PATIENCE_S, {}).splitlines()
    found = [re.match(r"(\w+) .*? median +([\d.]+) us", line) for line in lines]
    return [once(f"far MMIO, {m[1]}", "trip", "", 1, float(m[2]) / 1e6) for m in found if m is not None]


def _samples(command: list[str], silence_s: float, environment: dict[str, str]) -> list[Sample]:
    try:
        return parse(run(command, silence_s, environment))
    except ProcessError as error:
        whole_lines = error.output[: error.output.rfind("\n") + 1]
        raise BenchError(str(error), parse(whole_lines)) from None


def _output(command: list[str], silence_s: float, environment: dict[str, str]) -> str:
    try:
        return run(command, silence_s, environment)
    except ProcessError as error:
        raise BenchError(str(error)) from None


def _guest(name: str) -> Path:
    try:
        return build([name])[name]
    except BuildError as error:
        raise BenchError(f"the guest can't be built: {error}") from None


def _command(side: str, settings: Settings, elf: Path, harts: int, append: str) -> list[str]:
    if is_mpemu(side):
        machine = [*mpemu_command(side, settings, CONFIG), "--memory", MEMORY, "--harts", str(harts)]
        return [*machine, "--kernel", str(elf), "--append", append]
    machine = [QEMU, "-M", "virt", "-smp", str(harts), "-m", MEMORY, "-nographic", "-bios", "none"]
    return [*machine, "-kernel", str(elf), "-append", append]


def build_native() -> Path:
    """Compile the portable kernels for this host (again only if they changed). BenchError."""
    sources = [ROOT / "bench" / "native.c", *(GUESTS / "bench" / name for name in PORTABLE)]
    inputs = [*sources, *(GUESTS / "bench").glob("*.h"), *(GUESTS / "lib").glob("*.h"), Path(__file__)]
    target = ROOT / "build" / "bench" / "native"
    if not target.exists() or target.stat().st_mtime < max(path.stat().st_mtime for path in inputs):
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = (*NATIVE_FLAGS, f"-I{GUESTS / 'lib'}")
        _output([sys.executable, "-m", "ziglang", "cc", *flags, *map(str, sources), "-o", str(target)], PATIENCE_S, {})
    return target
