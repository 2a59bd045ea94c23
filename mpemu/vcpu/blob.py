"""The interpreter's machine code: from the user's cache, or made by a builder process; mapped read-execute.

The cache key covers everything the code depends on: mpemu's own sources that go into it, the ISA, the host's CPU and
the version of LLVM. No process but the builder imports llvmlite.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from mpemu.codecache import INTERPRETER_PREFIX, INTERPRETER_SUFFIX
from mpemu.errors import EngineError, HostError
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import REGIONS_SIZE
from mpemu.paths import PACKAGE, code_dir
from mpemu.shm import map_memory
from mpemu.vcpu.blob_file import BlobError, BlobFile, read_blob

_MAP_FIXED, _PROT_NONE = 0x10, 0  # Linux; the mmap module lacks them
Progress = Callable[[str, float], None]

_SOURCES = (
    "isa",
    "codegen",
    "layout.py",
    "unit.py",
    "addresses.py",
    "vcpu/exits.py",
    "vcpu/hostcalls.py",
    "vcpu/blob_file.py",
)
"""Of the interpreter, files and directories of the package."""


class BuildError(EngineError):
    """The interpreter could not be built."""


class Outcome(ctypes.Structure):
    """What a routine returns: its result and a status of exits.py."""

    _fields_ = (("value", ctypes.c_uint64), ("status", ctypes.c_uint64))


class Blob:
    """Machine code in this process (and, inherited, in those forked from it): ``address(symbol)``."""

    def __init__(self, file: BlobFile, path: Path = Path()) -> None:
        self.path = path
        self.symbols, self.stencils = file.symbols, file.stencils
        self.regions_start = -(-len(file.code) // mmap.PAGESIZE) * mmap.PAGESIZE
        """Offset of the memory for translated regions, ``regions_size`` bytes of the descriptor ``regions_fd``."""
        self.regions_size = REGIONS_SIZE
        self.base, self.regions_fd = _map_executable(file.code, REGIONS_SIZE)

    def address(self, symbol: str) -> int:
        return self.base + self.symbols[symbol]

    def routine(self, name: str, arguments: int) -> Callable[..., int]:
        """A routine as a Python callable of (hart struct address, ``arguments`` more)."""
        kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * (arguments + 1))
        return kind(self.address(f"r_{name}"))

    def checked_routine(self, name: str, arguments: int) -> Callable[..., Outcome]:
        """The same with the routine's status."""
        kind = ctypes.CFUNCTYPE(Outcome, *[ctypes.c_uint64] * (arguments + 1))
        return kind(self.address(f"r_{name}"))


def _map_executable(code: bytes, regions: int) -> tuple[int, int]:
    """Map ``code`` and behind it ``regions`` bytes for more: (address, descriptor of the latter).

    W^X: nothing here is mapped writable. The code is sealed, so nobody can write it later; regions are written by the
    translator through a mapping of its own. memfd and not /dev/shm, which containers mount noexec.
    """
    fd = os.memfd_create("mpemu-code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    regions_fd = os.memfd_create("mpemu-regions", os.MFD_CLOEXEC)
    try:
        size = -(-len(code) // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(fd, size)
        os.ftruncate(regions_fd, regions)
        view = memoryview(code)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        address = map_memory(None, size + regions, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        map_memory(address, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | _MAP_FIXED, fd)
        map_memory(address + size, regions, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED | _MAP_FIXED, regions_fd)
        return address, regions_fd
    except OSError as error:
        os.close(regions_fd)
        raise BuildError(f"this system does not let a program map code that it generated: {error}") from error
    finally:
        os.close(fd)


@functools.cache
def _source_digest() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        root = PACKAGE / name
        for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".txt")) if root.is_dir() else [root]:
            digest.update(str(path.relative_to(PACKAGE)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _cpu() -> str:
    """The host CPU as far as code generation may depend on it."""
    wanted = ("model name", "flags", "cpu family", "model", "Features", "CPU implementer", "CPU part")
    lines: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                lines.setdefault(key.strip(), value.strip())
    return f"{platform.machine()} {sorted(lines.items())}"


def blob_path(isa: IsaSpec) -> Path:
    """Where the cache keeps the interpreter for ``isa``."""
    try:
        llvm = metadata.version("llvmlite")
    except metadata.PackageNotFoundError:
        llvm = "none"
    key = "\0".join((_source_digest(), str(isa), _cpu(), llvm))
    return code_dir() / f"{INTERPRETER_PREFIX}{hashlib.sha256(key.encode()).hexdigest()[:32]}{INTERPRETER_SUFFIX}"


def load_blob(isa: IsaSpec, progress: Progress | None = None) -> Blob:
    """The interpreter for ``isa``: from the cache if it is there and sound, else built (some seconds). BuildError."""
    path = blob_path(isa)
    try:
        blob = Blob(read_blob(path), path)
        with contextlib.suppress(OSError):
            os.utime(path)  # used: see codecache_upkeep.evict
        return blob
    except FileNotFoundError:
        pass
    except BlobError:
        _remove(path)
    _build(isa, path, progress)
    try:
        return Blob(read_blob(path), path)
    except (OSError, BlobError) as error:
        raise BuildError(f"the interpreter was built, but can't be used: {error}") from error


def _remove(path: Path) -> None:
    """Make room for a new file where something unusable is. BuildError if that is impossible."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"{path}: is in the way of compiled code ({error.strerror}); remove it") from None


def _build(isa: IsaSpec, path: Path, progress: Progress | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise HostError(
            f"{path.parent}: can't keep compiled code there ({error.strerror}); set MPEMU_CACHE_DIR"
        ) from error
    command = [sys.executable, "-m", "mpemu.codegen.build", str(isa), str(path), str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        try:
            for line in process.stdout:
                fraction, _, phase = line.strip().partition(" ")
                if progress:
                    progress(phase, float(fraction))
            messages = process.stderr.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        last = messages.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        if process.returncode == HostError.exit_code:
            raise HostError(last[0])
        raise BuildError(f"building the interpreter failed: {last[0]}")
