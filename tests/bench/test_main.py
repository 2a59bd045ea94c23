"""The command: what can't be measured is said in its place, a side that fails stops nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.__main__ as command
from bench.samples import BenchError, Sample
from bench.sides import Settings, absent, cache_of, mpemu_command
from tests.bench.test_report import sample


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Instead of emulators: 2 units a second; what was asked for. QEMU is not there."""
    asked = []

    def measure(side: str, entry: command.Set, settings: Settings) -> list[Sample]:
        asked.append((side, entry.what, entry.harts))
        if entry.what == "scaling":
            raise BenchError("it hung", [sample("scaling", 1)])
        return [sample("spin lock", 2, harts=entry.harts)]

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "absent", lambda side: "QEMU is not installed" if side == "qemu" else "")
    return asked


def test_a_missing_emulator_is_named_in_the_rows(measured: list[tuple[str, str, int]], tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    result = CliRunner().invoke(command.main, ["--quick", "--set", "smp", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "not installed" in result.output and "QEMU is not installed" in result.output
    assert measured == [("mpemu", "smp", 2)] * 2 + [("native", "smp", 2)]  # the first warms the cache
    written = json.loads(file.read_text())
    assert written["rounds"] == 1 and written["rows"][0]["rates"] == {"mpemu": [2.0], "native": [2.0]}


def test_a_set_that_fails_is_reported_and_not_tried_again(measured: list[tuple[str, str, int]]) -> None:
    result = CliRunner().invoke(command.main, ["--rounds", "2", "--set", "scaling", "--set", "smp", "--harts", "4"])
    assert result.exit_code == 1
    assert "it hung" in result.output and "spin lock" in result.output
    assert measured.count(("mpemu", "scaling", 4)) == 1
    assert measured.count(("mpemu", "smp", 4)) == 3


def test_without_linux_its_row_says_so(measured: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "missing", lambda: "there is no Linux guest")
    result = CliRunner().invoke(command.main, ["--set", "linux", "--harts", "4"])
    assert "Linux: boot to the shell" in result.output and "there is no Linux guest" in result.output
    assert not measured and result.exit_code == 0


def test_a_file_that_can_not_be_written_is_found_out_before(
    measured: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    result = CliRunner().invoke(command.main, ["--set", "smp", "--json", str(tmp_path / "nowhere" / "numbers.json")])
    assert result.exit_code == 2 and "No such file or directory" in result.output and not measured


def test_an_interruption_shows_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(side: str, entry: command.Set, settings: Settings) -> list[Sample]:
        if side == "native":
            raise KeyboardInterrupt
        return [sample("sort", 3)]

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "absent", lambda side: "")
    result = CliRunner().invoke(command.main, ["--quick", "--set", "alone"])
    assert result.exit_code == 130
    assert "interrupted" in result.output and "sort" in result.output


def test_qemu_that_is_not_in_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "qemu-system-riscv64 is not installed" in absent("qemu")
    assert absent("mpemu") == ""


def test_engines_of_the_sides() -> None:
    settings = Settings(1, 1, engine="auto")
    assert "engine.mode=auto" in mpemu_command("mpemu", settings, "bare.yaml")
    assert "engine.mode=auto" in mpemu_command("mpemu-cold", settings, "bare.yaml")
    assert "engine.mode=interp" in mpemu_command("mpemu-interp", settings, "bare.yaml")


def test_only_the_cold_side_has_a_cache_of_its_own() -> None:
    with cache_of("mpemu", "bare.yaml") as environment:
        assert environment == {}
    with cache_of("mpemu-cold", "bare.yaml") as environment:
        directory = Path(environment["MPEMU_CACHE_DIR"])
        kept = [path.name.partition("-")[0] for path in directory.rglob("*.blob")]
        assert kept == ["interpreter"]
    assert not directory.exists()
