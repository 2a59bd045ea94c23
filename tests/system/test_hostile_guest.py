"""A guest that tries every wild access from hot loops (guests/tests/hostile.c): exact traps, and mpemu lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.emulators import run_mpemu

MODES = {"interpreted": (), "translated": ("--set", "engine.mode=auto", "--set", "engine.hot=1")}


@pytest.mark.parametrize(
    ("mode", "harts", "warm"), [("interpreted", 1, 0), ("translated", 1, 8), ("translated", 2, 10)]
)
def test_wild_accesses(mode: str, harts: int, warm: int, guest_programs: dict[str, Path]) -> None:
    result = run_mpemu(
        guest_programs["tests/hostile"], harts=harts, append=f"warm={warm}", timeout=100, options=MODES[mode]
    )
    assert result.code == 0, result.console[-4000:] + result.messages
    assert f", {harts} hart" in result.console


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("memory", ["64M", "1G"])
@pytest.mark.parametrize("harts", [2, 4])
def test_wild_accesses_for_long(harts: int, memory: str, guest_programs: dict[str, Path]) -> None:
    options = (*MODES["translated"], "--memory", memory)
    result = run_mpemu(guest_programs["tests/hostile"], harts=harts, append="warm=150", timeout=500, options=options)
    assert result.code == 0, result.console[-4000:] + result.messages
