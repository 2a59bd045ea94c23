"""The build of guest programs: what it makes, that it does so once, and what it says when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from guests import build
from mpemu import guests


def test_every_program_is_a_riscv_executable_at_the_start_of_ram() -> None:
    for path in build.build().values():
        with path.open("rb") as file:
            elf = ELFFile(file)
            assert elf.header["e_machine"] == "EM_RISCV"
            assert elf.header["e_entry"] == 0x8000_0000
            assert not any(s["p_type"] == "PT_DYNAMIC" for s in elf.iter_segments())


def test_a_second_build_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: path.stat().st_mtime_ns for name, path in build.build().items()}

    def refuse(_arguments: object) -> None:
        raise AssertionError("the compiler ran again")

    monkeypatch.setattr(build, "_run", refuse)
    assert {name: path.stat().st_mtime_ns for name, path in build.build().items()} == before


def test_a_syntax_error_is_reported_in_the_compilers_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int main(void) { return x; }\n")
    with pytest.raises(build.BuildError, match=r"broken.c:1:25.*undeclared identifier 'x'"):
        build._object(source)


def test_an_unknown_program_names_those_that_exist() -> None:
    with pytest.raises(build.BuildError, match=r"no guest program 'smpp'; there are .*smp"):
        build.build(["smpp"])


def test_shipped_programs_are_found_and_name_no_directories() -> None:
    build.build(build.SHIPPED_PROGRAMS)
    assert set(guests.available()) >= set(build.SHIPPED_PROGRAMS)
    assert str(build.ROOT).encode() not in guests.guest_path("smp").read_bytes()
    with pytest.raises(FileNotFoundError, match="'nosuch' is not built"):
        guests.guest_path("nosuch")
