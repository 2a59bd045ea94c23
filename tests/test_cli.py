"""The command as users type it: what goes to stdout, what to stderr, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guests.build import build
from mpemu.cli.commands import COMMANDS, group
from mpemu.cli.run import signature_text
from mpemu.config import parse_config
from mpemu.errors import ConfigError, GuestImageError

BARE = ("bare", "--isa", "rva22s64_sstc", "--kernel")  # the ISA of the other configs: one interpreter to build


@pytest.fixture(scope="session")
def hello() -> Path:
    return build(["hello"])["hello"]


def invoke(*arguments: str) -> Result:
    """In this process, for commands that start no machine."""
    return CliRunner().invoke(group, arguments, prog_name="mpemu")


def mpemu(*arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """As a command."""
    command = [sys.executable, "-m", "mpemu", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"mpemu {command}" in result.stdout


def test_help_of_run_documents_every_exit_code() -> None:
    from mpemu import errors

    text = invoke("run", "--help").stdout
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MpemuError)]
    for kind in classes:
        if kind is not errors.MpemuError:
            assert str(kind.exit_code) in text, kind


def test_check_print_loads_again(tmp_path: Path) -> None:
    result = invoke("check", "linux", "--harts", "7", "--drive", "disk,with,commas,readonly", "--print")
    assert result.exit_code == 0
    config = parse_config(result.stdout)
    assert config.harts.count == 7
    disk = config.devices[1].properties
    assert (disk.file, disk.readonly) == (str(Path.cwd() / "disk,with,commas"), True)  # type: ignore[attr-defined]
    as_json = json.loads(invoke("check", "linux", "--harts", "7", "--json").stdout)
    assert as_json["harts"]["count"] == 7


def test_wrong_options_are_named_as_typed() -> None:
    result = invoke("check", "linux", "--harts", "0", "--memory", "3X")
    assert isinstance(result.exception, ConfigError)
    assert "--harts 0: harts.count: must be at least 1, not 0" in str(result.exception)
    assert "--memory 3X: memory: '3X' is not a size" in str(result.exception)


@pytest.mark.parametrize("what", ["machines", "cpus", "devices", "configs", "exits"])
def test_lists(what: str) -> None:
    text, rows = invoke("list", what).stdout, json.loads(invoke("list", what, "--json").stdout)
    assert rows
    for row in rows:
        assert row["name"] in text
        assert row["description"], row


def test_device_tree(tmp_path: Path) -> None:
    blob = tmp_path / "virt.dtb"
    assert invoke("dtb", "smp", "--harts", "3", "-o", str(blob)).exit_code == 0
    assert blob.read_bytes()[:4] == b"\xd0\x0d\xfe\xed"
    text = invoke("dtb", "smp", "--harts", "3", "--dts").stdout
    assert text.count("cpu@") == 3
    assert invoke("dtb", "smp", "--harts", "3", "--dts").stdout == text


def test_memory_tree() -> None:
    text = invoke("mtree", "linux", "--memory", "64M").stdout
    assert "0000000080000000-0000000083ffffff (prio 0, ram): RAM" in text
    flat = json.loads(invoke("mtree", "linux", "--json").stdout)["flat"]
    assert {"ns16550a", "plic", "RAM"} <= {entry["name"] for entry in flat}


def test_disassembly(hello: Path, tmp_path: Path) -> None:
    assert invoke("disasm", str(hello)).stdout.split()[:2] == ["80000000", "30401073"]
    source, program = tmp_path / "x.s", tmp_path / "x.o"
    source.write_text(".globl first\nfirst: add a0, a1, a2\nsecond: ret\n")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none", "-c"]
    subprocess.run([*compiler, str(source), "-o", str(program)], check=True, cwd=tmp_path)
    text = invoke("disasm", str(program)).stdout
    assert "\nfirst:\n" in text
    assert "\nsecond:\n" in text
    only = invoke("disasm", str(program), "--symbol", "first", "--json").stdout
    assert json.loads(only) == {"address": 0, "bytes": "00c58533", "text": "add a0, a1, a2", "symbol": "first"}
    assert "did you mean second?" in str(invoke("disasm", str(program), "--symbol", "secnd").exception)


def test_disassembly_of_a_raw_image(tmp_path: Path) -> None:
    """amocas.w is one that capstone does not know: mpemu's own table does."""
    raw = tmp_path / "raw"
    raw.write_bytes(bytes.fromhex("3385c5002fa5c5280000000001"))
    lines = invoke("disasm", str(raw), "--base", "0x1000").stdout.splitlines()
    assert lines[0].split() == ["1000", "00c58533", "add", "a0,", "a1,", "a2"]
    assert lines[1].split()[2] == "amocas.w"
    assert lines[2].split() == ["1008", "0000", "c.unimp"]


@pytest.mark.parametrize("content", [b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(57), b"\x7fELF" + bytes(range(200))])
def test_disassembly_of_a_broken_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert isinstance(invoke("disasm", str(tmp_path / "x")).exception, GuestImageError)
    assert isinstance(invoke("disasm", str(tmp_path / "absent")).exception, GuestImageError)


def test_run(hello: Path, tmp_path: Path) -> None:
    """The console is all that is on stdout; the table is on stderr; the code is the guest's."""
    found = tmp_path / "stats.json"
    done = mpemu("run", *BARE, str(hello), "--harts", "2", "--hash", "--stats-json", str(found))
    assert done.returncode == 0, done.stderr
    assert "instructions" in done.stderr
    assert "instructions" not in done.stdout
    statistics = json.loads(found.read_text())
    assert len(statistics["harts"]) == 2
    assert f"RAM sha256 {statistics['ram_sha256']}" in done.stderr


def test_run_is_reproducible_in_deterministic_mode(hello: Path) -> None:
    arguments = ("run", *BARE, str(hello), "--harts", "2", "--execution", "deterministic", "--seed", "5", "--hash")
    first, second = mpemu(*arguments), mpemu(*arguments)
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    hashes = [line for run in (first, second) for line in run.stderr.splitlines() if line.startswith("RAM sha256")]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]


def _failures() -> Iterator[tuple[list[str], int, str]]:
    yield ["run", "bare"], 78, "there is nothing to run"
    yield ["run", "absent.yaml"], 78, "no such file"
    yield ["run", *BARE, "absent"], 66, "absent"
    yield ["run", "--harts", "many"], 2, "not a valid integer"
    yield ["rum"], 2, "No such command"
    yield ["run", "--console", "unix:/nowhere/at/all"], 78, "console"


@pytest.mark.parametrize(("arguments", "code", "message"), list(_failures()))
def test_failures(arguments: list[str], code: int, message: str) -> None:
    done = mpemu(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_signature_needs_its_symbols(hello: Path, tmp_path: Path) -> None:
    done = mpemu("run", *BARE, str(hello), "--signature", str(tmp_path / "sig"))
    assert done.returncode == 78
    assert "begin_signature" in done.stderr


def test_signature_format() -> None:
    """As Spike writes it: little-endian words of the granularity, a line each."""
    assert signature_text(bytes(range(8)), 4) == "03020100\n07060504\n"
    assert signature_text(bytes(range(5)), 4) == "03020100\n00000004\n"
    assert signature_text(b"", 4) == ""


def test_run_imports_nothing_heavy() -> None:
    """Start-up time: LLVM, rich and capstone are for those who need them."""
    code = (
        "import sys, mpemu.cli.run, mpemu.assembly; "
        "print(*{m.split('.')[0] for m in sys.modules} & {'llvmlite', 'rich', 'capstone', 'hypothesis', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
