"""The cache of compiled code: what is damaged, foreign or in the way is rebuilt or refused, never executed."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from mpemu.codegen import build
from mpemu.errors import HostError, MpemuError
from mpemu.isa.profiles import IsaSpec
from mpemu.paths import PACKAGE
from mpemu.vcpu import blob as blob_module
from mpemu.vcpu.blob import Blob, BuildError, blob_path, load_blob
from mpemu.vcpu.blob_file import MAGIC, BlobError, BlobFile, Patch, Stencil, encode_blob, read_blob

ISA = IsaSpec.parse("max")
# mov eax, 42; ret
CODE = bytes.fromhex("b82a000000c3")
DAMAGED = r"damaged|not a code file"
GOOD = encode_blob(BlobFile(CODE, {"r_answer": 0}, {"g_go": Stencil(CODE, (Patch(1, 11, "count", 0),))}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.blob"
    build.write(path, GOOD)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a builder that is quick: it writes GOOD."""
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path))

    def quick(isa: IsaSpec, path: Path, progress: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        build.write(path, GOOD)

    monkeypatch.setattr(blob_module, "_build", quick)
    return blob_path(ISA)


IMPORTED = """
import sys, mpemu.codegen.build
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "mpemu"), sep="\\n")
"""


def test_the_key_covers_all_that_the_builder_is_made_of() -> None:
    """A module that is missing there would leave old machine code in use."""
    used = subprocess.run([sys.executable, "-c", IMPORTED], stdout=subprocess.PIPE, text=True, check=True).stdout
    files = {str(Path(name).relative_to(PACKAGE)) for name in used.splitlines()}
    covered = {name for name in files if name.startswith(("isa/", "codegen/")) or name in blob_module._SOURCES}
    assert files - covered == {"__init__.py", "vcpu/__init__.py", "errors.py", "private_file.py"}, "no code is in these"


def test_what_was_written_is_read_and_runs(file: Path) -> None:
    assert encode_blob(read_blob(file)) == GOOD
    assert Blob(read_blob(file)).routine("answer", 0)(0) == 42
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_code_is_mapped_so_that_nobody_can_write_it(file: Path) -> None:
    blob = Blob(read_blob(file))
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (permissions,) = (m[1] for m in mapped if int(m[0].split("-")[0], 16) <= blob.base < int(m[0].split("-")[1], 16))
    assert permissions.startswith("r-x")


def test_every_truncation_and_every_flipped_bit_is_noticed(file: Path) -> None:
    for length in range(len(GOOD)):
        file.write_bytes(GOOD[:length])
        with pytest.raises(BlobError, match=DAMAGED):
            read_blob(file)
    for position in range(len(GOOD)):
        file.write_bytes(GOOD[:position] + bytes([GOOD[position] ^ (1 << position % 8)]) + GOOD[position + 1 :])
        with pytest.raises(BlobError, match=DAMAGED):
            read_blob(file)
    file.write_bytes(GOOD + b"\0")
    with pytest.raises(BlobError, match="damaged"):
        read_blob(file)


def test_a_checksum_does_not_make_it_a_blob(file: Path) -> None:
    listed = msgpack.packb({"code": CODE, "symbols": {}, "stencils": []})
    for body in (b"", b"\x93\x01\x02\x03", b"\x80", b"\xc1", listed):
        file.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
        with pytest.raises(BlobError, match="not what a code file holds"):
            read_blob(file)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_file_that_others_may_write(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(BlobError, match=f"others may write it .mode {mode:o}"):
        read_blob(file)


def test_a_file_of_somebody_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(BlobError, match="belongs to user"):
        read_blob(file)


def make_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    build.write(target, GOOD)
    path.symlink_to(target)


ODD: dict[str, Callable[[Path], None]] = {
    "a link": make_link,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a FIFO": lambda path: os.mkfifo(path),
    "garbage": lambda path: path.write_bytes(b"garbage") and None,
    "empty": lambda path: path.touch(),
    "the code of another version": lambda path: path.write_bytes(b"mpemu-blob-0\n" + GOOD[len(MAGIC) :]) and None,
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_whatever_is_in_the_files_place_is_replaced(cache: Path, make: Callable[[Path], None]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    make(cache)
    with pytest.raises(BlobError):
        read_blob(cache)
    assert load_blob(ISA).routine("answer", 0)(0) == 42
    assert stat.S_ISREG(cache.lstat().st_mode)


def test_a_directory_in_the_files_place_is_left_alone(cache: Path) -> None:
    cache.mkdir(parents=True)
    with pytest.raises(BuildError, match=r"\.blob: is in the way of compiled code .*remove it"):
        load_blob(ISA)


def test_a_sound_file_is_not_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_blob(ISA)
    monkeypatch.setattr(blob_module, "_build", lambda *_: pytest.fail("built again"))
    load_blob(ISA)


def test_the_cache_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(HostError, match=r"can't keep compiled code there .*set MPEMU_CACHE_DIR"):
        load_blob(ISA)


# -- the builder process; the interpreter itself is not built here
STUB = """
import sys, time
from mpemu.codegen import build
from mpemu.isa.profiles import IsaSpec
def quick(isa, target):
    build.say("pretending", 0.5)
    {body}
build.build = quick
sys.exit(build.main())
"""


def use_builder(monkeypatch: pytest.MonkeyPatch, cache: Path, body: str) -> None:
    """Have load_blob start a builder of which only the work is another."""
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(cache))
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        assert command[1:3] == ["-m", "mpemu.codegen.build"]
        return real([sys.executable, "-c", STUB.format(body=body), *command[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)


WRITE = f"build.write(target, {GOOD!r})"


def test_the_builder_reports_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_builder(monkeypatch, tmp_path, WRITE)
    seen: list[tuple[str, float]] = []
    load_blob(ISA, lambda phase, fraction: seen.append((phase, fraction)))
    assert seen == [("pretending", 0.5)]


@pytest.mark.parametrize(
    ("body", "message", "error"),
    [
        (
            "raise OSError(28, 'No space left on device')",
            "can't keep compiled code there .No space left on device.; set",
            HostError,
        ),
        ("raise build.LinkError('x: not in the module')", "failed: x: not in the module$", BuildError),
        ("raise build.UnsupportedHost('this CPU lacks fma')", "failed: this CPU lacks fma$", BuildError),
        ("raise ValueError('bug')", "failed: ValueError: bug$", BuildError),
        ("import os; os.kill(os.getpid(), 9)", "failed: exit status -9$", BuildError),
        ("pass", "was built, but can't be used", BuildError),
    ],
)
def test_a_builder_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str, error: type[MpemuError]
) -> None:
    use_builder(monkeypatch, tmp_path, body)
    with pytest.raises(error, match=message):
        load_blob(ISA)
    assert list(tmp_path.rglob("*.blob")) == []


def test_a_builder_killed_while_it_writes_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = "import os; os.replace = lambda *_: os.kill(os.getpid(), 9); " + WRITE
    use_builder(monkeypatch, tmp_path, torn)
    with pytest.raises(BuildError, match="exit status -9"):
        load_blob(ISA)
    (left,) = tmp_path.glob("code/.*")
    monkeypatch.undo()
    use_builder(monkeypatch, tmp_path, WRITE)
    assert load_blob(ISA).routine("answer", 0)(0) == 42
    blob_path(ISA).unlink()
    os.utime(left, (0, 0))
    load_blob(ISA)
    assert not left.exists(), "old rubbish goes with the next build"


def test_many_builders_at_once(tmp_path: Path) -> None:
    """They overwrite each other's result, which is the same; readers always find a whole one."""
    target = tmp_path / "x.blob"
    script = f"for _ in range(50): write(Path({str(target)!r}), {GOOD!r})"
    script = f"from pathlib import Path\nfrom mpemu.codegen.build import write\n{script}"
    build.write(target, GOOD)
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    try:
        end = time.monotonic() + 60
        while any(w.poll() is None for w in writers):
            assert read_blob(target).code == CODE
            assert time.monotonic() < end
    finally:
        for writer in writers:
            writer.kill()
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["x.blob"]
