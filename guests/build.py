"""Builds the guest programs: our C and assembly under guests/, compiled by the clang and lld that ``ziglang`` brings.

A directory with a source named like itself (``smp/smp.c``) is one program made of all its sources; in any other
directory (``tests/``) every C file is a program of its own. ``lib/`` is linked into all of them. Programs that the
wheel ships land in ``mpemu/guests/``, the others in ``build/guests/``; nothing that is built is committed.

``python guests/build.py [NAME...]`` builds (all, or those named) and prints the paths; tests and benchmarks call
:func:`build`. Objects are kept by the hash of what they are made from, so a second build does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "guests"
SHIPPED = ROOT / "mpemu" / "guests"
SHIPPED_PROGRAMS = ("hello", "smp")
LIB = HERE / "lib"
LINKER_SCRIPT = LIB / "link.ld"

TARGET = (
    *("-target", "riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+f+d+c+zicsr+zifencei", "-mabi=lp64d"),
    "-mcmodel=medany",
)
COMPILE = (
    *("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-sanitize=undefined", "-fno-stack-protector", "-fno-strict-aliasing"),
    "-fno-math-errno",  # __builtin_sqrt is an instruction
    "-ffp-contract=off",  # results must not depend on whether the compiler finds a multiply-add
    f"-ffile-prefix-map={ROOT}=.",  # no paths of the building machine in the debug information
    f"-I{LIB}",
)
# what the wheel ships keeps its symbols but no debug information, which names directories of the building machine
LINK_SHIPPED = ("-Wl,--strip-debug",)
LINK = ("-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none", f"-Wl,-T,{LINKER_SCRIPT}")


class BuildError(Exception):
    """A compiler or linker failed, or is missing; the message is what it said."""


@dataclass(frozen=True)
class Program:
    """``name`` as users say it (``smp``, ``tests/pmp``) and its own sources."""

    name: str
    sources: tuple[Path, ...]

    @property
    def elf(self) -> Path:
        return (SHIPPED if self.name in SHIPPED_PROGRAMS else BUILD) / f"{self.name}.elf"


def programs() -> dict[str, Program]:
    """Every guest program by name."""
    found = {}
    for directory in sorted(p for p in HERE.iterdir() if p.is_dir() and p != LIB):
        if (directory / f"{directory.name}.c").exists():
            found[directory.name] = Program(directory.name, _sources(directory))
        else:
            for source in sorted(directory.glob("*.c")):
                name = f"{directory.name}/{source.stem}"
                found[name] = Program(name, (source,))
    return found


def _sources(directory: Path) -> tuple[Path, ...]:
    return tuple(sorted(p for p in directory.iterdir() if p.suffix in (".c", ".S")))


def _compiler_version() -> str:
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        raise BuildError(
            f"the guest programs are built with ziglang, which {sys.executable} does not have: pip install ziglang"
        ) from None


def _run(arguments: Iterable[str | Path]) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", *map(str, arguments)]
    environment = os.environ | {  # leave the user's home alone
        "ZIG_LOCAL_CACHE_DIR": str(BUILD / "zig"),
        "ZIG_GLOBAL_CACHE_DIR": str(BUILD / "zig"),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    if done.returncode:
        raise BuildError(f"{done.stderr or done.stdout}\n(exit code {done.returncode} of: {' '.join(command)})")


def _digest(*parts: bytes | str) -> str:
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:24]


def _make(target: Path, command: tuple[str | Path, ...]) -> None:
    """Run a compiler whose output goes to a temporary name first, so that ``target`` is whole or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / target.name
        _run((*command, "-o", output))
        os.replace(output, target)


def _object(source: Path) -> Path:
    headers = sorted({*LIB.glob("*.h"), *source.parent.glob("*.h")})
    inputs = [source, *headers]
    key = _digest(_compiler_version(), *TARGET, *COMPILE, *(f"{p.name}\0{p.read_text()}" for p in inputs))
    target = BUILD / "objects" / f"{source.stem}-{key}.o"
    if not target.exists():
        _make(target, (*TARGET, *COMPILE, "-c", source))
    return target


def _link(program: Program, objects: list[Path]) -> Path:
    flags = (*TARGET, *LINK, *(LINK_SHIPPED if program.name in SHIPPED_PROGRAMS else ()))
    key = _digest(_compiler_version(), *flags, LINKER_SCRIPT.read_bytes(), *(o.name for o in objects))
    stamp = BUILD / f"{program.name}.stamp"
    if not (program.elf.exists() and stamp.exists() and stamp.read_text() == key):
        _make(program.elf, (*flags, *objects))
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(key)
    return program.elf


def build(names: Iterable[str] | None = None) -> dict[str, Path]:
    """Build the named programs (all if None); their ELF files by name. BuildError says what the compiler said."""
    known = programs()
    names = list(known) if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BuildError(f"no guest program {unknown[0]!r}; there are {', '.join(known)}")
    library = _sources(LIB)
    sources = sorted({*library, *(s for name in names for s in known[name].sources)})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = dict(zip(sources, pool.map(_object, sources), strict=True))
        elves = pool.map(lambda n: _link(known[n], [objects[s] for s in (*library, *known[n].sources)]), names)
        return dict(zip(names, elves, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the guest programs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to build, e.g. smp or tests/pmp (default: all)")
    parser.add_argument("--shipped", action="store_true", help="build what the wheel ships")
    options = parser.parse_args()
    names = [*options.names, *(SHIPPED_PROGRAMS if options.shipped else ())]
    try:
        for path in build(names or None).values():
            print(path.relative_to(ROOT))
    except BuildError as error:
        print(f"guests/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
