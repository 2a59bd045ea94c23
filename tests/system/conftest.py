"""Guest programs are built once per session, before the first test that runs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from guests.build import build


@pytest.fixture(scope="session")
def guest_programs() -> dict[str, Path]:
    """ELF files of all guest programs by name."""
    return build()
