"""Guest programs are built once per session, before the first test that runs one; and a cache without translations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guests.build import build
from mpemu.config import load_config
from mpemu.isa.profiles import IsaSpec
from mpemu.vcpu.blob import blob_path, load_blob


@pytest.fixture(scope="session")
def guest_programs() -> dict[str, Path]:
    """ELF files of all guest programs by name."""
    return build()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of compiled code of a cache that has the interpreter, and nothing else."""
    isa = IsaSpec.parse(load_config("bare").harts.isa)
    load_blob(isa)
    interpreter = blob_path(isa)
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path / "cache"))
    code = tmp_path / "cache" / "code"
    code.mkdir(parents=True, mode=0o700)
    shutil.copy2(interpreter, code)
    return code
