"""The cache of translated code and the life of the translator, seen from outside: whole runs of `mpemu run`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mpemu.unit import OPTIMISED, Unit, decode_units
from tests.processes import running, wait_until
from tests.system.emulators import Result, run_mpemu

JIT = ("--set", "engine.mode=jit")
LOOPS = "ms=1500"
"""Boot argument of guests/tests/pages.c: long enough for a busy host to translate something."""
LONGER_AND_LONGER = (800, 1600, 3200, 6400)
"""Milliseconds: until this host has had the time to translate, or to load."""


def run(elf: Path, tmp_path: Path, *options: str, runner: Callable[..., Result] = run_mpemu, **rest: Any) -> Any:
    """What the statistics say about translation, and the messages."""
    file = tmp_path / "statistics.json"
    result = runner(elf, options=(*JIT, "--stats-json", str(file), "--no-stats", *options), **rest)
    assert result.code == 0, result.console + result.messages
    return json.loads(file.read_text())["translation"], result.messages


def units(cache: Path) -> list[Path]:
    return sorted(cache.glob("units-*/*.units"))


def translations(cache: Path) -> list[Unit]:
    """What the files hold."""
    return [unit for file in units(cache) for unit in decode_units(file, file.read_bytes()).units if unit.code]


def test_what_is_known_is_not_translated_again(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """A later run may be sampled where earlier ones were not, as it is elsewhere at the end of a slice; but it ends."""
    for _ in range(8):
        known = len(translations(cache))
        found, _ = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
        assert found["failed"] == 0
        assert found["units_loaded"] == known
        if known and not found["units_translated"]:
            assert found["compile_us"] == found["instructions"] == 0
            assert found["code_bytes"] > 0
            return
    pytest.fail(f"translates again and again: {found}")


def test_regions_over_pages_come_from_the_cache(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """And are entered: the loop, which calls functions on two other pages, stays inside one region."""
    statistics = tmp_path / "statistics.json"

    def run_for(ms: int) -> Any:
        options = (*JIT, "--set", "engine.hot=1", "--stats-json", str(statistics))
        result = run_mpemu(guest_programs["tests/pages"], append=f"ms={ms}", options=options)
        assert result.code == 0, result.console + result.messages
        return json.loads(statistics.read_text())

    for ms in LONGER_AND_LONGER:
        run_for(ms)
        if any(len(unit.pages) > 2 and unit.kind.tier == OPTIMISED for unit in translations(cache)):
            break
    before = len(translations(cache))
    for ms in LONGER_AND_LONGER:
        found = run_for(ms)
        translation, (hart,) = found["translation"], found["harts"]
        assert translation["units_translated"] <= 3, "a place that was not met before, at the end of a slice"
        if hart["region_visits"]:
            break
    assert translation["units_loaded"] >= before > 0
    assert hart["region_instructions"] / hart["region_visits"] > 1000


def test_without_a_cache_nothing_is_read_or_written(
    cache: Path, guest_programs: dict[str, Path], tmp_path: Path
) -> None:
    for _ in range(2):
        found, _ = run(guest_programs["tests/pages"], tmp_path, "--set", "engine.cache=false", append=LOOPS)
        assert found["units_translated"] > 0 and found["units_loaded"] == 0
        assert [path.suffix for path in cache.iterdir()] == [".blob"]


def test_damaged_files_are_named_and_made_anew(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    (file, *_) = units(cache)
    file.write_bytes(file.read_bytes()[:-1])
    found, messages = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    assert f"mpemu: {file}: damaged (checksum); not used" in messages
    assert found["units_translated"] > 0
    _, messages = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    assert "damaged" not in messages


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_directory_that_others_may_write_is_not_used(
    cache: Path, guest_programs: dict[str, Path], tmp_path: Path, mode: int
) -> None:
    cache.chmod(mode)
    found, messages = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    assert f"{cache}: others may write it (mode {mode:o}): translations are not kept" in messages
    assert found["units_translated"] > 0 and found["units_loaded"] == 0 and not units(cache)


def test_a_cache_that_can_not_be_written_costs_a_warning(
    cache: Path, guest_programs: dict[str, Path], tmp_path: Path
) -> None:
    (cache / ".lock").mkdir()
    found, messages = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    assert messages.count("translations can't be kept there (Is a directory)") == messages.count("\n") == 1
    assert found["units_translated"] > 0 and not units(cache)


def test_two_machines_at_once(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    """They write the same files at the same time; a third one finds what both have found."""
    with ThreadPoolExecutor(2) as pool:
        elf, places = guest_programs["tests/pages"], [tmp_path / "one", tmp_path / "two"]
        for place in places:
            place.mkdir()
        both = [found for found, _ in pool.map(lambda place: run(elf, place, append=LOOPS), places)]
    found, messages = run(guest_programs["tests/pages"], tmp_path, append=LOOPS)
    assert found["units_loaded"] >= max(each["units_translated"] for each in both)
    assert messages == ""


# -- the process
def translators(machine: int) -> list[int]:
    """Translators and compilers of the machine with this process number."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if b"mpemu.codegen.translator" in command:
                found.append((int(entry.name), parent))
    own = [process for process, parent in found if parent == machine]
    return own + [process for process, parent in found if parent in own]


def killed_again_and_again(
    elf: Path, tmp_path: Path, harts: int, append: str, victim: int, options: tuple[str, ...] = ()
) -> Any:
    """A run whose translator (victim 0) or one of whose compilers (1) is killed all the time; as :func:`run`, and how
    many were killed. (On a busy host one that is killed may be found alive once more: it counts once.)"""
    file = tmp_path / "statistics.json"
    command = [sys.executable, "-m", "mpemu", "run", "configs/bare.yaml", "--kernel", str(elf), "--harts", str(harts)]
    command += [
        "--append",
        f"emulator=mpemu {append}",
        "--timeout",
        "60",
        *JIT,
        "--no-stats",
        "--stats-json",
        str(file),
    ]
    killed = set[int]()
    with subprocess.Popen(
        [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None:
            time.sleep(0.03)
            for number in translators(process.pid)[victim : victim + 1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                    killed.add(number)
        assert process.stdout
        assert process.returncode == 0, process.stdout.read()
        said = process.stdout.read()
    return json.loads(file.read_text())["translation"], len(killed), said


@pytest.mark.parametrize("program", ["code", "locks", "remote_fence"])
def test_translator_killed_again_and_again(
    program: str, cache: Path, guest_programs: dict[str, Path], tmp_path: Path
) -> None:
    append = {"code": "", "locks": "rounds=3000 barriers=300", "remote_fence": "rounds=60"}[program]
    harts = 1 if program == "code" else 3
    killed_again_and_again(guest_programs[f"tests/{program}"], tmp_path, harts, append, 0)


def test_a_dead_translator_is_started_anew(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    found, kills, said = killed_again_and_again(guest_programs["smp"], tmp_path, 2, "scale=1", 0)
    assert kills > 1 and found["restarts"] in (kills, kills - 1)
    assert said.count("the translator was killed by SIGKILL; it is started anew") == 1


def test_compilers_killed_again_and_again(cache: Path, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    found, kills, _ = killed_again_and_again(
        guest_programs["smp"], tmp_path, 2, "scale=1", 1, ("--set", "engine.translators=3")
    )
    assert kills > 1 and found["restarts"] == 0


def test_nobody_is_left_when_the_machine_is_killed(cache: Path, guest_programs: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "mpemu", "run", "configs/bare.yaml", "--kernel", str(guest_programs["smp"])]
    process = subprocess.Popen(
        [*command, "--append", "scale=100", *JIT], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert wait_until(lambda: len(translators(process.pid)) == 2, 30), "a translator and a compiler"
        children = translators(process.pid)
    finally:
        process.kill()
        process.wait()
    assert wait_until(lambda: not any(map(running, children)))
