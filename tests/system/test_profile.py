"""`mpemu profile` on whole machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mpemu.symbols import Symbols, read_symbols
from tests.system.emulators import Result, run_process

AT_ONCE = ("--set", "engine.mode=jit")


pytestmark = pytest.mark.usefixtures("cache")


def profile(elf: Path, *options: str, append: str = "") -> Result:
    command = [sys.executable, "-m", "mpemu", "profile", "configs/bare.yaml", "--kernel", str(elf), "--harts", "1"]
    return run_process([*command, "--append", append, *options], 90)


def profile_json(elf: Path, *options: str, append: str = "") -> Any:
    result = profile(elf, "--json", *options, append=append)
    assert result.code == 0, result.console + result.messages
    return json.loads(result.console)


BENCH = "set=alone ms=2500 warm=10 only=crc"


def test_translated_functions_with_the_host_code(guest_programs: dict[str, Path]) -> None:
    found = profile_json(guest_programs["bench"], *AT_ONCE, "--seconds", "4", "--code", "1", append=BENCH)
    assert found["samples"] > 0 and found["tiers"]["regions"] > 0
    hottest = found["functions"][0]
    assert "crc" in hottest["name"]
    lines = hottest["code"]
    assert max(line["samples"] for line in lines) > 0
    assert any(made["samples"] for line in lines for made in line["host"])


def test_interpreted_and_as_a_table(guest_programs: dict[str, Path]) -> None:
    result = profile(guest_programs["bench"], "--set", "engine.mode=interp", "--seconds", "1", append=BENCH)
    assert result.code == 0, result.messages
    head, titles, *rows = result.console.splitlines()
    assert "samples of 1 hart in" in head and "interpreter 9" in head
    assert titles.split()[-1] == "function" and "crc" in rows[0]


def test_symbols_of_an_elf_file(guest_programs: dict[str, Path]) -> None:
    functions = read_symbols(guest_programs["bench"])
    main = next(function for function in functions if function.name == "main")
    assert Symbols(functions).find(main.start + 2) == main
    assert all(not function.name.startswith("$") for function in functions)


def test_mistakes_are_said(guest_programs: dict[str, Path], tmp_path: Path) -> None:
    result = profile(guest_programs["bench"], "--symbols", str(tmp_path / "absent"))
    assert result.code == 66 and "absent can't be read: No such file" in result.messages
