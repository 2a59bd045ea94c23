"""The cache of translated code on disk: what may be used, who may write, what goes when there is too much."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mpemu import codecache
from mpemu.codecache import MAX_VARIANTS, CodeCache, merge
from mpemu.codecache_upkeep import clear, evict, inventory
from mpemu.private_file import Refused
from mpemu.unit import BEST, MAGIC, QUICK, Kind, Unit, page_digest
from tests.processes import fork, succeeded


def page(number: int) -> bytes:
    return number.to_bytes(2, "little") * 2048


def unit(head: int, number: int, *others: int, code: bytes = b"\xcc" * 32) -> Unit:
    """A unit on page ``number``, with the others behind it."""
    pages = tuple((distance, page(each)) for distance, each in enumerate((number, *others)))
    return Unit((head,), pages, code, 0, 0, 2, 100)


DIGEST = page_digest(page(1))


class Place:
    """A cache in a temporary directory, and what it complained about."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.cache = self.open()

    def open(self, key: str = "key") -> CodeCache:
        return CodeCache(self.root, key, "rv64i", self.said.append)

    @property
    def file(self) -> Path:
        return self.cache.directory / f"{DIGEST.hex()}.units"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "code")


def test_what_was_saved_is_loaded(place: Place) -> None:
    place.cache.save([unit(0, 1)])
    place.cache.save([unit(2, 1, 5), unit(0, 1, 7)])
    assert place.open().load(DIGEST) == [unit(0, 1), unit(2, 1, 5), unit(0, 1, 7)]
    assert place.open().load(page_digest(page(2))) == []
    for path in (place.root, place.cache.directory, place.file):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    assert place.said == []


def test_another_interpreters_units_are_not_found(place: Place) -> None:
    place.cache.save([unit(0, 1)])
    assert place.open("another").load(DIGEST) == []


def test_news_are_what_others_have_written_since(place: Place) -> None:
    other = place.open()
    assert place.cache.load_news(DIGEST) == []
    other.save([unit(0, 1)])
    assert place.cache.load_news(DIGEST) == [unit(0, 1)]
    assert place.cache.load_news(DIGEST) == []
    place.cache.touch(DIGEST)
    assert place.cache.load_news(DIGEST) == []
    other.save([unit(2, 1)])
    assert place.cache.load_news(DIGEST) == [unit(0, 1), unit(2, 1)]
    place.cache.save([unit(4, 1)])
    assert place.cache.load_news(DIGEST) == []


def test_the_union_is_kept_and_of_variants_the_newest() -> None:
    variants = [unit(0, 1, number) for number in range(10)]
    assert merge([unit(2, 1)], variants) == [unit(2, 1), *variants[-MAX_VARIANTS:]]
    again = unit(0, 1, 7, code=b"better")
    assert merge(variants[-MAX_VARIANTS:], [again]) == [variants[6], variants[8], variants[9], again]


def test_a_unit_made_anew_takes_the_place_of_the_old_one() -> None:
    """Kinds are counted by themselves."""
    renewed = replace(unit(0, 1, 2, 3), kind=replace(BEST, generation=1))
    quick = replace(unit(0, 1, 2), kind=Kind(QUICK))
    assert merge([unit(0, 1, 2), unit(0, 1, 5), quick], [renewed]) == [unit(0, 1, 5), quick, renewed]
    assert merge([renewed], [unit(0, 1, 2)]) == [renewed], "whoever comes first"


def test_for_profiles_what_was_made_anew_is_kept(place: Place) -> None:
    """A hart may have spent its time in it."""
    first, renewed = unit(0, 1, 2), replace(unit(0, 1, 2, 3), kind=replace(BEST, generation=1))
    for key, wanted in (("key-located", [first, renewed]), ("key", [renewed])):
        cache = place.open(key)
        cache.save([first])
        cache.save([renewed])
        assert cache.load(DIGEST) == wanted


def test_many_writers_lose_nothing(place: Place) -> None:
    def write(first: int) -> None:
        cache = place.open()
        for head in range(first, first + 40, 2):
            cache.save([unit(head, 1)])

    writers = [fork(lambda first=first: write(first)) for first in (0, 40, 80)]  # type: ignore[misc]
    assert all(map(succeeded, writers))
    assert {each.head for each in place.cache.load(DIGEST)} == set(range(0, 120, 2))


# -- what is not to be trusted
def truncated(place: Place) -> None:
    place.file.write_bytes(place.file.read_bytes()[:-1])


def flipped(place: Place) -> None:
    data = bytearray(place.file.read_bytes())
    data[len(data) // 2] ^= 1
    place.file.write_bytes(data)


def old(place: Place) -> None:
    place.file.write_bytes(place.file.read_bytes().replace(MAGIC, b"mpemu-units-0\n"))


def linked(place: Place) -> None:
    place.file.rename(place.root / "elsewhere")
    place.file.symlink_to(place.root / "elsewhere")


def of_another_page(place: Place) -> None:
    place.cache.save([unit(0, 2)])
    os.replace(place.cache.directory / f"{page_digest(page(2)).hex()}.units", place.file)


def of_another_interpreter(place: Place) -> None:
    other = place.open("another")
    other.save([unit(0, 1)])
    os.replace(other.directory / place.file.name, place.file)


def fifo(place: Place) -> None:
    place.file.unlink()
    os.mkfifo(place.file)


BAD: dict[str, tuple[Callable[[Place], None], str]] = {
    "truncated": (truncated, "damaged"),
    "a flipped bit": (flipped, "damaged"),
    "empty": (lambda place: place.file.write_bytes(b"") and None, "not a code file of this version"),
    "of an old version": (old, "not a code file of this version"),
    "a symbolic link": (linked, "a symbolic link"),
    "a FIFO": (fifo, "not a regular file"),
    "for others to write": (lambda place: place.file.chmod(0o620), "others may write it"),
    "of another page": (of_another_page, "of another page than its name says"),
    "of another interpreter": (of_another_interpreter, "made for another interpreter"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_named_and_removed(place: Place, what: str) -> None:
    spoil, why = BAD[what]
    place.cache.save([unit(0, 1)])
    spoil(place)
    fresh = place.open()
    assert fresh.load(DIGEST) == []
    (said,) = place.said
    assert str(place.file) in said and why in said
    assert not place.file.is_symlink() and not place.file.exists()
    fresh.save([unit(2, 1)])
    assert fresh.load(DIGEST) == [unit(2, 1)]


def test_a_file_of_somebody_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.cache.save([unit(0, 1)])
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert place.cache.load(DIGEST) == []
    assert "belongs to user" in place.said[0]
    with pytest.raises(Refused, match="belongs to user"):
        place.open()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write(place: Place, mode: int) -> None:
    place.cache.directory.chmod(mode)
    with pytest.raises(Refused, match="others may write it"):
        place.open()


def test_a_file_in_the_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        CodeCache(tmp_path / "file" / "code", "key", "rv64i")


def test_a_full_disk_changes_nothing(place: Place) -> None:
    place.cache.save([unit(0, 1)])

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(OSError, match="File too large"):
            place.cache.save([unit(2, 1)])

    assert succeeded(fork(child))
    assert place.cache.load(DIGEST) == [unit(0, 1)]
    assert [path.name for path in place.cache.directory.iterdir()] == [place.file.name]


def test_a_stopped_writer_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecache, "LOCK_PATIENCE_S", 0.01)
    with open(place.root / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            place.cache.save([unit(0, 1)])
    place.cache.save([unit(0, 1)])


def test_the_cache_is_cleared_meanwhile(place: Place) -> None:
    place.cache.save([unit(0, 1)])
    assert [file.path for file in clear(place.root, ("units",))] == [place.file]
    assert not place.cache.directory.exists()
    place.cache.save([unit(2, 1)])
    assert place.cache.load(DIGEST) == [unit(2, 1)]


# -- the limit
def use(path: Path, seconds_ago: float) -> None:
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_what_was_not_used_for_longest_is_evicted(place: Place) -> None:
    interpreter = place.root / "interpreter-old.blob"
    interpreter.write_bytes(bytes(5000))
    for number in range(1, 9):
        place.cache.save([unit(0, number)])
        use(place.cache.directory / f"{page_digest(page(number)).hex()}.units", 100 - number)
    use(interpreter, 1000)
    size = sum(file.size for file in inventory(place.root))
    assert evict(place.root, size) == 0
    place.cache.touch(page_digest(page(2)))
    assert evict(place.root, size // 2) >= 4
    left = inventory(place.root)
    assert sum(file.size for file in left) <= size // 2
    assert not interpreter.exists()
    kept = [number for number in range(1, 9) if place.cache.load(page_digest(page(number)))]
    assert kept[0] == 2 and kept[1:] == list(range(kept[1], 9))
    assert place.cache.newest_first() == [page_digest(page(number)) for number in (2, *reversed(kept[1:]))]


def test_a_directory_without_files_goes(place: Place) -> None:
    place.cache.save([unit(0, 1)])
    assert evict(place.root, 0) == 1
    assert not place.cache.directory.exists()


def test_the_rubbish_of_killed_writers_goes(place: Place) -> None:
    place.cache.save([unit(0, 1)])
    torn = place.cache.directory / f".{place.file.name}.abc"
    torn.write_bytes(b"half")
    evict(place.root, 0)
    assert torn.exists(), "it may be that of a writer at work"
    os.utime(torn, (0, 0))
    place.cache.save([unit(0, 1)])
    evict(place.root, 0)
    assert not torn.exists()
