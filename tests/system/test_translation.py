"""Guests with the translator at work (engine.mode auto): nothing but speed may change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.system.emulators import run_deterministic, run_mpemu
from tests.system.random_programs import Generator, make_image
from tests.system.test_guest_programs import ALONE, QUICK, SOAK, TOGETHER

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


@pytest.mark.parametrize("harts", [1, 2])
def test_interrupts_reach_hot_loops(harts: int, guest_programs: dict[str, Path]) -> None:
    """Loops of many shapes that only an interrupt ends; the guest judges how soon it came."""
    result = run_mpemu(guest_programs["tests/hot_interrupts"], harts=harts, append="rounds=8", options=AT_ONCE)
    assert result.code == 0, result.console + result.messages


@pytest.mark.parametrize("mode", [3, 1], ids=["M-mode", "S-mode"])
def test_random_programs(mode: int, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """The same hashes of registers and memory with and without translation."""
    generator = Generator(200 + mode)
    image = make_image(guest_programs["random"], [generator.program() for _ in range(150)])
    path = tmp_path / "random.elf"
    path.write_bytes(image.elf)
    interpreted = run_mpemu(path, append=f"mode={mode}")
    translated = run_mpemu(path, append=f"mode={mode}", options=AT_ONCE)
    assert interpreted.code == translated.code == 0, translated.messages
    assert interpreted.console == translated.console


MODES = {
    "interp": ("--set", "engine.mode=interp"),
    "auto": ("--set", "engine.mode=auto"),
    "at once": AT_ONCE,
}
DETERMINISTIC = {
    "smp": ("scale=0", ("interp", "at once")),
    "tests/locks": ("rounds=20 barriers=5", ("interp", "at once")),
    "tests/lrsc": ("rounds=500", ("interp", "at once")),
    "tests/code": ("", ("interp", "at once")),
    "tests/traps": ("", ("interp", "at once")),
    "tests/remote_fence": ("rounds=20", ("interp", "at once")),
    "tests/hot_interrupts": ("rounds=4", ("interp", "at once")),
}


def deterministic_run(elf: Path, append: str, mode: str, seed: int, statistics: Path) -> tuple[str, str, list[int]]:
    """(console, hash of RAM, instructions by hart)."""
    options = ("--seed", str(seed), "--hash", "--stats-json", str(statistics), *MODES[mode])
    result = run_deterministic(elf, harts=2, append=append, options=options)
    assert result.code == 0, result.console + result.messages
    harts = json.loads(statistics.read_text())["harts"]
    found = re.search(r"sha256 (\w+)", result.messages)
    assert found
    return result.console, found[1], [hart["instructions"] for hart in harts]


@pytest.mark.parametrize("program", DETERMINISTIC)
def test_deterministic_machines_do_not_notice(program: str, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """Same seed: the same instruction counts, console and memory, whether code is translated or not."""
    append, modes = DETERMINISTIC[program]
    outcomes = [deterministic_run(guest_programs[program], append, m, 7, tmp_path / "statistics.json") for m in modes]
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("program", DETERMINISTIC)
def test_deterministic_machines_for_long(
    program: str, seed: int, guest_programs: dict[str, Path], tmp_path: Path
) -> None:
    append = SOAK_DETERMINISTIC.get(program, DETERMINISTIC[program][0])
    outcomes = [
        deterministic_run(guest_programs[program], append, m, seed, tmp_path / "statistics.json") for m in MODES
    ]
    assert all(outcome == outcomes[0] for outcome in outcomes)


SOAK_DETERMINISTIC = {
    "smp": "scale=1",
    "tests/locks": "rounds=3000 barriers=500",
    "tests/lrsc": "rounds=10000",
    "tests/remote_fence": "rounds=300",
    "tests/hot_interrupts": "rounds=50",
}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harts", [2, 3, 4, 8])
@pytest.mark.parametrize("program", SOAK)
def test_races_for_long(program: str, harts: int, guest_programs: dict[str, Path]) -> None:
    elf = guest_programs[f"tests/{program}"]
    result = run_mpemu(elf, harts=harts, append=SOAK[program], timeout=800, options=AT_ONCE)
    assert result.code == 0, result.console + result.messages
