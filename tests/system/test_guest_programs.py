"""Self-checking guest programs, on every emulator: each prints what failed and ends with exit code 0 if nothing did."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.emulators import EMULATORS, emulator

ALONE = ("paging", "pmp", "traps", "interrupts", "misaligned", "code", "counters", "pages")
TOGETHER = ("fp", "zacas", "locks", "atomics", "lrsc", "ipi", "remote_fence", "litmus")
HARTS = [("mpemu", 1), ("mpemu", 2), ("mpemu", 4), ("mpemu", 8), ("deterministic", 4), ("qemu", 2)]
"""QEMU is here to test the programs; it takes seconds for what waits when harts outnumber the host's cores."""
QUICK = {
    "remote_fence": "rounds=30",
    "litmus": "rounds=30",
    "locks": "rounds=200 barriers=20",
    "ipi": "rounds=500",
    "lrsc": "rounds=1000",
    "atomics": "rounds=1000",
}
SOAK = {
    "locks": "rounds=100000 barriers=20000",
    "atomics": "rounds=300000",
    "lrsc": "rounds=300000",
    "ipi": "rounds=1000000",
    "remote_fence": "rounds=2000",
    "litmus": "rounds=100000",
}


def check(name: str, elf: Path, program: str, harts: int, append: str = "", timeout: float = 60) -> None:
    result = emulator(name)(elf, harts=harts, append=append, timeout=timeout)
    assert result.code == 0, f"{program} on {name}, {harts} harts:\n{result.console}\n{result.messages}"


@pytest.mark.parametrize("name", EMULATORS)
@pytest.mark.parametrize("program", ALONE)
def test_program_on_one_hart(name: str, program: str, guest_programs: dict[str, Path]) -> None:
    check(name, guest_programs[f"tests/{program}"], program, 1)


@pytest.mark.parametrize(("name", "harts"), HARTS)
@pytest.mark.parametrize("program", TOGETHER)
def test_program_on_several_harts(name: str, program: str, harts: int, guest_programs: dict[str, Path]) -> None:
    check(name, guest_programs[f"tests/{program}"], program, harts, QUICK.get(program, ""))


@pytest.mark.parametrize(("name", "harts"), HARTS)
def test_demonstration(name: str, harts: int, guest_programs: dict[str, Path]) -> None:
    result = emulator(name)(guest_programs["smp"], harts=harts, append="scale=0")
    assert result.code == 0, result.console + result.messages
    assert f"12 of 12 tests passed on {harts} hart" in result.console
    for hart in range(harts):
        assert f"hart {hart} is up" in result.console


def test_no_wake_up_is_lost(guest_programs: dict[str, Path]) -> None:
    check("mpemu", guest_programs["tests/ipi"], "ipi", 2, "rounds=20000")


def test_exit_code_is_the_guests(guest_programs: dict[str, Path]) -> None:
    for name in EMULATORS:
        assert emulator(name)(guest_programs["hello"], append="exit=7").code == 7, name


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harts", range(2, 9))
@pytest.mark.parametrize("program", SOAK)
def test_soak(program: str, harts: int, guest_programs: dict[str, Path]) -> None:
    check("mpemu", guest_programs[f"tests/{program}"], program, harts, SOAK[program], timeout=800)
