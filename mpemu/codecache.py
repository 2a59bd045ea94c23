"""The cache of translated code on disk: one file per head page, one directory per interpreter, beside the interpreters.

Whoever uses the same interpreter (that is, the same mpemu, ISA, host CPU and LLVM) uses the same directory: machines
that run at the same time find each other's units, a later one finds all of them. Files are never changed in place;
writers of a file take a lock and write the union of what is there and what is new. A file that can't be trusted is
removed, never used (:mod:`mpemu.private_file`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mpemu.private_file import Refused, check_owner, read_private, write_private
from mpemu.unit import Kind, Unit, decode_units, encode_units, page_digest, supersedes

INTERPRETER_PREFIX, INTERPRETER_SUFFIX = "interpreter-", ".blob"
DIRECTORY_PREFIX, FILE_SUFFIX = "units-", ".units"
LOCATED_SUFFIX = "-located"
LOCK = ".lock"
LOCK_PATIENCE_S = 1.0
MAX_VARIANTS = 4
"""Units with the same first instruction, head page and kind, but other pages around, that a file keeps."""
DEFAULT_LIMIT = 512 << 20
"""Bytes of all compiled code on disk."""


def units_key(interpreter: Path, digest: str, located: bool = False) -> str:
    """Of the units for the interpreter in a file with that digest; ``located``: of those with origins."""
    return f"{interpreter.stem.removeprefix(INTERPRETER_PREFIX)}-{digest[:16]}{LOCATED_SUFFIX * located}"


def open_directory(path: Path) -> None:
    """Make a directory for the user alone if there is none. OSError; Refused if somebody else may write there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    check_owner(path, path.stat())


def read_units(path: Path, key: str) -> list[Unit]:
    """The units in a file. FileNotFoundError; Refused if it is not a sound file of ``key`` under its right name."""
    file = decode_units(path, read_private(path))
    if file.key != key:
        raise Refused(f"{path}: made for another interpreter")
    if path.name != page_digest(file.units[0].head_page).hex() + FILE_SUFFIX:
        raise Refused(f"{path}: of another page than its name says")
    return file.units


class CodeCache:
    """The units of one interpreter, whose ``key`` names it. ``complain`` hears of each file that is refused.

    OSError where the directory can't be made, Refused where it is somebody else's.
    """

    def __init__(self, root: Path, key: str, isa: str, complain: Callable[[str], None] = lambda text: None) -> None:
        self.root, self._key, self._isa, self._complain = root, key, isa, complain
        self.directory = root / f"{DIRECTORY_PREFIX}{key}"
        self._located = key.endswith(LOCATED_SUFFIX)
        """For profiles: what was made anew has run, too, and may be where the samples are."""
        self._seen: dict[bytes, tuple[int, int]] = {}
        try:
            open_directory(root)
            open_directory(self.directory)
        except OSError:
            if not self.directory.is_dir():  # what is there can be read all the same
                raise
            check_owner(self.directory, self.directory.stat())

    def _path(self, digest: bytes) -> Path:
        return self.directory / f"{digest.hex()}{FILE_SUFFIX}"

    def newest_first(self) -> list[bytes]:
        """Digests of the head pages that there are units for, the most recently used one first."""
        found = []
        with suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                name = entry.name.removesuffix(FILE_SUFFIX)
                if name != entry.name:
                    with suppress(OSError, ValueError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, bytes.fromhex(name)))
        return [digest for _, digest in sorted(found, reverse=True)]

    def load(self, digest: bytes) -> list[Unit]:
        """All units of a head page, none if there is no file, or none to be trusted: that one is removed."""
        path = self._path(digest)
        try:
            units = read_units(path, self._key)
            status = path.stat()
            self._seen[digest] = status.st_ino, status.st_size
            return units
        except FileNotFoundError:
            return []
        except Refused as refused:
            with suppress(OSError):
                path.unlink()
            self._complain(f"{refused}; not used")
            return []

    def load_news(self, digest: bytes) -> list[Unit]:
        """As :meth:`load`, but none if this object has seen the file as it is now."""
        try:
            status = self._path(digest).lstat()
        except OSError:
            return []
        return [] if self._seen.get(digest) == (status.st_ino, status.st_size) else self.load(digest)

    def save(self, new: Sequence[Unit]) -> None:
        """Add units of one head page to its file. OSError; then the file is as it was."""
        digest = page_digest(new[0].head_page)
        with self._lock():
            units = merge(self.load(digest), new, keep_superseded=self._located)
            path = self._path(digest)
            self.directory.mkdir(mode=0o700, exist_ok=True)  # `mpemu cache clear` may have removed it
            write_private(path, encode_units(self._key, self._isa, units))
            status = path.stat()
            self._seen[digest] = status.st_ino, status.st_size

    def touch(self, digest: bytes) -> None:
        """The units of a head page have been of use: they are the last to be evicted."""
        with suppress(OSError):
            os.utime(self._path(digest), follow_symlinks=False)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time. TimeoutError, rather than wait for a process that somebody has stopped."""
        descriptor = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            limit = time.monotonic() + LOCK_PATIENCE_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > limit:
                        raise TimeoutError(f"{self.root / LOCK}: another process holds the lock") from None
                    time.sleep(0.002)
            yield
        finally:
            os.close(descriptor)


def merge(old: Sequence[Unit], new: Sequence[Unit], keep_superseded: bool = False) -> list[Unit]:
    """The union, without units made from the same, or (unless ``keep_superseded``) made anew since; of each head and
    kind the last MAX_VARIANTS, ``new`` behind ``old``."""
    units = {unit.identity: unit for unit in old}
    for unit in new:
        units.pop(unit.identity, None)
        units[unit.identity] = unit
    kept: list[Unit] = []
    places: dict[tuple[int, Kind], list[Unit]] = {}
    for unit in units.values():
        places.setdefault((unit.head, unit.kind.first), []).append(unit)
    count: dict[tuple[int, Kind], int] = {}
    for unit in reversed(units.values()):
        superseded = any(supersedes(other, unit) for other in places[unit.head, unit.kind.first])
        if keep_superseded or not superseded:
            place = unit.head, unit.kind if superseded else unit.kind.first
            count[place] = count.get(place, 0) + 1
            if count[place] <= MAX_VARIANTS:
                kept.append(unit)
    return kept[::-1]
