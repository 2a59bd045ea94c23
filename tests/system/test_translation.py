"""Guests with the translator at work (engine.mode auto): nothing but speed may change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.system.emulators import run_deterministic, run_mpemu
from tests.system.test_guest_programs import ALONE, QUICK, TOGETHER

AT_ONCE = ("--set", "engine.mode=auto", "--set", "engine.hot=1")
"""Whatever a hart is found in once is translated."""


@pytest.mark.parametrize("program", ALONE)
def test_program_on_one_hart(program: str, guest_programs: dict[str, Path]) -> None:
    result = run_mpemu(guest_programs[f"tests/{program}"], options=AT_ONCE)
    assert result.code == 0, result.console + result.messages


@pytest.mark.parametrize("program", TOGETHER)
def test_program_on_several_harts(program: str, guest_programs: dict[str, Path]) -> None:
    """Among them harts that rewrite code that others run, and remap pages under them."""
    result = run_mpemu(guest_programs[f"tests/{program}"], harts=3, append=QUICK.get(program, ""), options=AT_ONCE)
    assert result.code == 0, result.console + result.messages


def test_deterministic_machines_do_not_notice(guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """Same seed: the same instruction counts, console and memory, whether code is translated or not."""
    outcomes = []
    for mode in ("interp", "auto"):
        statistics = tmp_path / f"{mode}.json"
        options = ("--seed", "7", "--hash", "--stats-json", str(statistics), "--set", f"engine.mode={mode}")
        result = run_deterministic(guest_programs["smp"], harts=2, append="scale=0", options=options)
        assert result.code == 0, result.console + result.messages
        harts = json.loads(statistics.read_text())["harts"]
        found = re.search(r"sha256 (\w+)", result.messages)
        assert found
        outcomes.append((result.console, found[1], [hart["instructions"] for hart in harts]))
    assert outcomes[0] == outcomes[1]
