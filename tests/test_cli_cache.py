"""`mpemu cache`: what it counts, what it finds wrong, what it removes, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mpemu.cli.cache import cache
from mpemu.codecache import CodeCache
from mpemu.errors import ConfigError
from mpemu.private_file import write_private
from mpemu.unit import Unit, page_digest
from mpemu.vcpu.blob_file import BlobFile, encode_blob

KEY = "0123456789abcdef" * 2
ONE, TWO = bytes([1]) * 4096, bytes([2]) * 4096


def unit(head: int, page: bytes, code: bytes = b"\xcc" * 100) -> Unit:
    return Unit((head,), ((0, page),), code, 0, 0, 7, 1_500_000)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an interpreter, and three units and a place that was declined on two pages."""
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("MPEMU_CACHE_LIMIT", raising=False)
    root = tmp_path / "code"
    units = CodeCache(root, f"{KEY}-0123456789abcdef", "rv64gc")
    write_private(root / f"interpreter-{KEY}.blob", encode_blob(BlobFile(b"\xcc", {})))
    units.save([unit(0, ONE), unit(2, ONE), unit(4, ONE, b"")])
    units.save([unit(0, TWO)])
    return root


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cache, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code))


def spoil(root: Path, page: bytes) -> Path:
    (path,) = root.glob(f"units-*/{page_digest(page).hex()}.units")
    path.write_bytes(path.read_bytes()[:-1])
    return path


def test_info(code: Path) -> None:
    spoil(code, TWO)
    found = call_json("info")
    assert found["directory"] == str(code) and found["limit"] == 512 << 20
    (row,) = found["interpreters"]
    assert found["size"] == row["interpreter_size"] + row["units_size"]
    counts = {name: row[name] for name in ("key", "isa", "pages", "units", "declined", "instructions", "bad")}
    expected = {"key": KEY, "isa": "rv64gc", "pages": 2, "units": 2, "declined": 1, "instructions": 14, "bad": 1}
    assert counts == expected
    assert row["code_bytes"] == 200 and row["compile_seconds"] == 4.5
    text = call("info")
    assert KEY[:12] in text and "rv64gc" in text and "just now" in text and f"{code}: " in text


def test_info_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path / "none"))
    assert "0 B of at most" in call("info")
    assert "0 files, 0 bad" in call("verify")
    assert "0 files removed" in call("clear")
    assert not (tmp_path / "none").exists()


def test_the_limit_of_the_environment(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPEMU_CACHE_LIMIT", "64M")
    assert call_json("info")["limit"] == 64 << 20
    for nonsense in ("much", "1K"):
        monkeypatch.setenv("MPEMU_CACHE_LIMIT", nonsense)
        with pytest.raises(ConfigError, match=r"^\$MPEMU_CACHE_LIMIT: "):
            call("info")


def test_verify(code: Path) -> None:
    assert call("verify") == f"{code}: 3 files, 0 bad\n"
    bad = spoil(code, ONE)
    interpreter = code / f"interpreter-{KEY}.blob"
    interpreter.write_bytes(b"nothing")
    said = call("verify", code=1)
    assert f"{bad}: damaged (checksum)\n" in said
    assert f"{interpreter}: not a code file of this version\n" in said
    assert said.endswith("3 files, 2 bad\n")
    found = call_json("verify", "--remove", code=1)
    assert {each["path"] for each in found["bad"]} == {str(bad), str(interpreter)}
    assert found["removed"] and found["files"] == 3
    assert call("verify") == f"{code}: 1 files, 0 bad\n"


def test_verify_looks_at_directories_too(code: Path) -> None:
    os.chmod(code, 0o777)
    assert f"{code}: others may write it (mode 777)" in call("verify", code=1)
    assert "1 bad" in call("verify", "--remove", code=1), "not removed: that takes chmod"


def test_clear(code: Path) -> None:
    (code / "notes.txt").write_text("not ours")
    found = call_json("clear", "--units")
    assert found["removed"] == 2 and found["size"] > 0
    assert {path.name for path in code.iterdir()} == {f"interpreter-{KEY}.blob", "notes.txt", ".lock"}
    assert "1 files removed" in call("clear")
    assert {path.name for path in code.iterdir()} == {"notes.txt", ".lock"}
