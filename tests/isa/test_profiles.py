"""ISA strings and profile names."""

from __future__ import annotations

import pytest

import mpemu.isa.instructions  # noqa: F401
from mpemu.isa.profiles import EXTENSIONS, IMPLIES, PROFILES, IsaError, IsaSpec
from mpemu.isa.registry import COMPRESSED, INSNS


def test_letters_and_what_they_imply() -> None:
    isa = IsaSpec.parse("rv64gc")
    assert all(isa.has(e) for e in ("I", "M", "A", "Zaamo", "Zalrsc", "F", "D", "C", "Zicsr", "Zifencei", "Zicntr"))
    assert not any(isa.has(e) for e in ("Zba", "Zacas", "Zfh", "G"))


@pytest.mark.parametrize(
    "text", ["rv64i", "rv64gc", "rv64imac_zba_zbb_zbs", "rv64gc_sv39", "rva20s64", "rva22s64_sstc", "max"]
)
def test_text_reads_back(text: str) -> None:
    isa = IsaSpec.parse(text)
    assert IsaSpec.parse(str(isa)) == isa


@pytest.mark.parametrize(
    "same",
    [
        "RV64IMAFDC_Zba",
        "rv64gc_zba",
        "rv64gczba",
        "rv64i2p1m2p0afdc_zicsr2p0_zifencei_zba1p0",
        " rv64imafdc_zifencei_zba ",
    ],
)
def test_spellings_of_the_same(same: str) -> None:
    expected = IsaSpec.parse("rv64gc_zba")
    assert IsaSpec.parse(same).extensions | {"Zifencei"} == expected.extensions


def test_max_is_everything_and_everything_defined_can_be_selected() -> None:
    isa = IsaSpec.parse("max")
    assert isa.extensions == frozenset(EXTENSIONS)
    assert {i.ext for i in INSNS.values()} | {c.ext for c in COMPRESSED} <= set(EXTENSIONS)
    assert {e for names in IMPLIES.values() for e in names} <= set(EXTENSIONS)


def test_paging_is_the_largest_unless_named() -> None:
    assert IsaSpec.parse("rv64gc").paging == "sv57"
    assert IsaSpec.parse("rv64gc_sv48").paging == "sv48"
    assert IsaSpec.parse("rva22s64").paging == "sv39"


def test_device_tree_properties() -> None:
    isa = IsaSpec.parse("rv64gc_sstc_zbb_zicbom_svpbmt_zba_sv39")
    assert isa.isa_string == "rv64imafdc_zicbom_zicntr_zicsr_zifencei_zba_zbb_sstc_svpbmt"
    assert isa.extensions_list[:7] == ["i", "m", "a", "f", "d", "c", "zicbom"]


def test_misa() -> None:
    def letters(text: str) -> str:
        misa = IsaSpec.parse(text).misa
        assert misa >> 62 == 2
        return "".join(chr(65 + n) for n in range(26) if misa >> n & 1)

    assert letters("rv64gc") == "ACDFIMSU"
    assert letters("rv64im_zba_zbb_zbs") == "BIMSU"
    assert letters("rv64i_zaamo") == "ISU", "A is both halves"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rv64gc_zicomb", "'zicomb' is not an extension that mpemu implements; did you mean zicbom"),
        ("rv64gcv", "'v' is not an extension that mpemu implements; known: "),
        ("rva23s64", f"one of {', '.join(PROFILES)}; did you mean rva22s64"),
        ("rv32imac", "harts have 64 bits: write rv64imac"),
        ("rv64", "the base must be I or G"),
        ("rv64e", "the base must be I or G"),
        ("", "neither an ISA string"),
    ],
)
def test_errors_say_what_would_be_valid(text: str, message: str) -> None:
    with pytest.raises(IsaError) as caught:
        IsaSpec.parse(text)
    assert message in str(caught.value)
