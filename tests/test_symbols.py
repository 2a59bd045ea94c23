"""Names of guest code from ELF files and symbol tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpemu.errors import GuestImageError
from mpemu.symbols import Function, Symbols, read_symbols

TABLE = """\
ffffffff80000000 T _start
ffffffff80000010 t helper
ffffffff80000010 t helper_alias
ffffffff80000040 D data
ffffffff80000100 T last
"""


def test_a_table_of_symbols(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(TABLE)
    symbols = Symbols(read_symbols(path))
    found = symbols.find(0xFFFF_FFFF_8000_000C)
    assert found and found.name == "_start"
    assert symbols.find(0xFFFF_FFFF_8000_003F).name == "helper"  # type: ignore[union-attr]
    assert symbols.find(0xFFFF_FFFF_8000_0040) is None  # data
    assert symbols.find(0xFFFF_FFFF_7FFF_FFFF) is None


def test_of_two_names_the_longer_function_counts() -> None:
    symbols = Symbols([Function(0x10, 0x14, "inner"), Function(0x10, 0x20, "outer")])
    assert symbols.find(0x18) == Function(0x10, 0x20, "outer")
    assert symbols.find(0x20) is None


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(100), b"hello world\n", bytes(range(256)) * 4])
def test_what_is_neither(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(GuestImageError, match="file"):
        read_symbols(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match="No such file"):
        read_symbols(tmp_path / "absent")


def test_a_device_is_not_read() -> None:
    with pytest.raises(GuestImageError, match="/dev/zero is a device"):
        read_symbols(Path("/dev/zero"))
