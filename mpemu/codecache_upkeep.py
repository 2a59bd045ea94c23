"""Upkeep of the cache of compiled code: what is there, whether it is sound, and what has to go.

For `mpemu cache`, and for the translator, which keeps the cache within its limit. Nothing here needs a lock: who still
reads a file that is removed has it open, and who writes a directory makes it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mpemu.codecache import DIRECTORY_PREFIX, FILE_SUFFIX, INTERPRETER_PREFIX, INTERPRETER_SUFFIX
from mpemu.private_file import remove_abandoned

EVICT_TO = 0.9
"""Of the limit: what eviction leaves, so that it is not needed again at once."""
INTERPRETERS, UNITS = "interpreter", "units"
"""Kinds of files."""

Progress = Callable[[float], None]
"""Hears of the fraction done."""


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache: ``key`` names the interpreter, ``kind`` is INTERPRETERS or UNITS."""

    path: Path
    key: str
    kind: str
    size: int
    used: float
    """When it was last used, in seconds since the epoch."""


def inventory(root: Path) -> list[CachedFile]:
    """Every file of compiled code under ``root``. OSError, but not if there is no such directory."""
    return list(_files(root))


def _files(root: Path) -> Iterator[CachedFile]:
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        key = path.name.removeprefix(DIRECTORY_PREFIX)
        if key != path.name and path.is_dir() and not path.is_symlink():
            for file in sorted(path.iterdir()):
                if file.name.endswith(FILE_SUFFIX):
                    yield from _file(file, key, UNITS)
        elif path.name.startswith(INTERPRETER_PREFIX) and path.name.endswith(INTERPRETER_SUFFIX):
            yield from _file(path, path.stem.removeprefix(INTERPRETER_PREFIX), INTERPRETERS)


def _file(path: Path, key: str, kind: str) -> Iterator[CachedFile]:
    with suppress(FileNotFoundError):  # somebody else cleans up
        status = path.lstat()
        yield CachedFile(path, key, kind, status.st_size, status.st_mtime)


def evict(root: Path, limit: int) -> int:
    """Remove what was not used for longest until the files have less than ``limit`` bytes; how many that were.

    What can't be removed stays.
    """
    files: list[CachedFile] = []
    with suppress(OSError):
        files = inventory(root)
    total = sum(file.size for file in files)
    if total <= limit:
        return 0
    removed = 0
    for file in sorted(files, key=lambda file: file.used):
        if total <= limit * EVICT_TO:
            break
        with suppress(OSError):
            file.path.unlink()
            total -= file.size
            removed += 1
    tidy(root)
    return removed


def clear(root: Path, kinds: tuple[str, ...], progress: Progress = lambda fraction: None) -> list[CachedFile]:
    """Remove all files of ``kinds``: those that are gone now. OSError at the first that can't be removed."""
    files = [file for file in inventory(root) if file.kind in kinds]
    for number, file in enumerate(files):
        file.path.unlink(missing_ok=True)
        progress((number + 1) / len(files))
    tidy(root)
    return files


def tidy(root: Path) -> None:
    """Remove what is no code: directories without files, what killed processes have left."""
    with suppress(OSError):
        remove_abandoned(root)
        for directory in root.glob(f"{DIRECTORY_PREFIX}*"):
            remove_abandoned(directory)
            with suppress(OSError):  # not empty
                directory.rmdir()
