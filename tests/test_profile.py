"""From samples to functions and instructions, without a machine."""

from __future__ import annotations

import json
from collections import Counter
from io import StringIO

from mpemu.cli.profile_view import as_data, instructions, print_profile
from mpemu.layout import PAGE
from mpemu.profile import Profile, Region, Samples, Space
from mpemu.statistics import MachineStatistics
from mpemu.symbols import Function, Symbols
from mpemu.unit import NOWHERE, Origin, Unit, pack_origins, page_digest
from mpemu.vcpu.sampling import Place

CODE = 0x8000_1000
NOP = bytes.fromhex("13000000")
HEAD = NOP * (PAGE // 4)
HOST = bytes(40)
REGIONS_START, BASE = 0x10000, 0x10100
ENTRY = 16
"""Of the unit's code."""
UNIT = Unit(
    (0x10,), ((0, HEAD),), HOST, ENTRY, 0, 3, 0,
    origins=pack_origins([Origin(16, NOWHERE), Origin(20, 0x10), Origin(28, 0x14), Origin(36, NOWHERE)]),
)  # fmt: skip
SYMBOLS = Symbols([Function(CODE, CODE + 0x14, "first"), Function(CODE + 0x14, CODE + 0x20, "second")])
STATISTICS = MachineStatistics(2.0, ())


def place(pc: int, host: int | None = None, priv: int = 3, satp: int = 0) -> Place:
    return Place(0, host, pc, satp, priv)


def profile(
    places: dict[Place, int], unit: Unit | None = UNIT, pages: dict[tuple[Space, int], bytes] | None = None
) -> Profile:
    region = Region(BASE + ENTRY, UNIT.identity, HEAD)
    samples = Samples(Counter(places), 0, pages or {}, [region], REGIONS_START)

    def units(digest: bytes) -> list[Unit]:
        assert digest == page_digest(HEAD)
        return [unit] if unit else []

    return Profile(samples, SYMBOLS, units)


def test_host_code_of_a_region_belongs_to_guest_instructions() -> None:
    entered = CODE + 0x10
    found = profile({place(entered, BASE + 21): 3, place(entered, BASE + 30): 5, place(entered, BASE + 16): 1})
    assert [(hot.name, hot.samples) for hot in found.functions] == [("second", [5, 0, 0]), ("first", [4, 0, 0])]
    assert found.tiers == {"regions": 9, "interpreter": 0, "outside": 0}
    line = next(insn for insn in instructions(found, found.functions[0]) if insn.address == CODE + 0x14)
    assert line.samples == 5 and sum(insn.samples for insn in line.host) == 5


def test_a_region_of_which_nothing_is_known_counts_where_it_was_entered() -> None:
    found = profile({place(CODE + 0x10, BASE + 30): 5}, unit=None)
    assert [(hot.name, hot.total) for hot in found.functions] == [("first", 5)]


def test_a_place_that_cannot_be_the_entry_is_not_believed() -> None:
    """The sample came before the region had noted by which record it was entered."""
    found = profile({place(CODE + 0x18, BASE + 30): 1})
    assert list(found.functions[0].spots) == [CODE + 0x18]


def test_interpreted_and_outside() -> None:
    found = profile({place(CODE, 0x200): 2, place(CODE, None): 1})
    assert found.functions[0].samples == [0, 2, 1]


def test_the_same_function_in_several_address_spaces_is_one() -> None:
    found = profile({place(CODE, 0x200, 1, 7): 2, place(CODE, 0x200, 1, 8): 3, place(CODE, 0x200): 4})
    assert [hot.total for hot in found.functions] == [9] and found.total == 9
    assert sum(found.tiers.values()) == 9


def test_the_same_page_in_several_address_spaces_is_one() -> None:
    pages = {(Space(7, 1), 0x5000): HEAD, (Space(8, 1), 0x5000): HEAD, (Space(9, 1), 0x5000): bytes(PAGE)}
    found = profile({place(0x5004, 0x200, 1, satp): satp for satp in (7, 8, 9)}, pages=pages)
    assert [hot.total for hot in found.functions] == [15, 9]


def test_code_without_a_name_counts_by_page_and_address_space() -> None:
    found = profile({place(0x5004, 0x200, 0, 7): 2, place(0x5008, 0x200, 0, 7): 1, place(0x5008, 0x200, 0, 8): 1})
    assert [(hot.name, hot.total) for hot in found.functions] == [("0x5000", 3), ("0x5000", 1)]


def test_what_is_printed() -> None:
    pages = {(Space(0, 3), CODE): HEAD}
    found = profile({place(CODE + 4, 0x200): 3, place(0x5000, 0x200, 0, 7): 1}, pages=pages)
    text = StringIO()
    print_profile(found, STATISTICS, 1, 2, text)
    assert "first [M]" in text.getvalue() and "and 1 more with 25.0%" in text.getvalue()
    assert "its code is not known any more" in text.getvalue()  # of the page without a name
    data = json.loads(json.dumps(as_data(found, STATISTICS, 5, 1)))
    assert data["samples"] == 4 and [row["name"] for row in data["functions"]] == ["first", "0x5000"]
    assert [line["samples"] for line in data["functions"][0]["code"]] == [0, 3, 0, 0, 0]


def test_no_samples_at_all() -> None:
    text = StringIO()
    print_profile(profile({}), STATISTICS, 10, 3, text)
    assert "0 samples" in text.getvalue()
