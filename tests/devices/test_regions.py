"""The memory tree and the bus: priorities, access sizes, ROM, holes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.devices.bus import Bus, BusError
from mpemu.devices.regions import MemoryRegion, flatten, tree_json, tree_text


def io(name: str, size: int, value: int = 0, sizes: frozenset[int] = frozenset({1, 2, 4, 8})) -> MemoryRegion:
    return MemoryRegion.io(name, size, lambda offset, n: value, lambda offset, n, v: None, sizes)


def names(root: MemoryRegion) -> list[tuple[int, int, str]]:
    return [(r.start, r.end, r.region.name) for r in flatten(root)]


def test_higher_priority_covers_the_middle_of_a_lower_one() -> None:
    root = MemoryRegion.container("system", 0x1000)
    root.add(0, io("low", 0x1000))
    root.add(0x400, io("high", 0x100), priority=1)
    assert names(root) == [(0, 0x400, "low"), (0x400, 0x500, "high"), (0x500, 0x1000, "low")]
    assert flatten(root)[2].base == 0


def test_nested_container_is_clipped_and_ordered_by_its_own_priority() -> None:
    root = MemoryRegion.container("system", 0x3000)
    inner = MemoryRegion.container("inner", 0x1000)
    inner.add(0x800, io("a", 0x100), priority=100)
    root.add(0x1000, inner)
    root.add(0x1800, io("b", 0x80), priority=1)
    assert names(root) == [(0x1800, 0x1880, "b"), (0x1880, 0x1900, "a")]


def test_equal_priorities_must_not_overlap() -> None:
    root = MemoryRegion.container("system", 0x1000)
    root.add(0, io("uart", 0x100))
    with pytest.raises(ValueError, match=r"rtc at 0x80\.\.0x17f overlaps uart at 0x0\.\.0xff"):
        root.add(0x80, io("rtc", 0x100))
    with pytest.raises(ValueError, match="does not fit"):
        root.add(0xFFF, io("rtc", 2))
    with pytest.raises(ValueError, match="not a container"):
        io("uart", 4).add(0, io("x", 1))


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5)), max_size=12, unique_by=lambda t: t[2]
    )
)
def test_flat_view_agrees_with_looking_at_every_address(parts: list[tuple[int, int, int]]) -> None:
    root = MemoryRegion.container("system", 80)
    for offset, size, priority in parts:
        root.add(offset, io(str(priority), size), priority)
    bus = Bus(root)
    for address in range(80):
        here = [p for o, s, p in parts if o <= address < o + s]
        found = bus.find(address)
        assert (found.region.name if found else None) == (str(max(here)) if here else None)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("allowed", [{1}, {4}, {2, 4}, {1, 2, 4, 8}])
def test_access_sizes(size: int, allowed: set[int]) -> None:
    root = MemoryRegion.container("system", 0x1000)
    root.add(0, io("dev", 0x10, (1 << 80) - 1, frozenset(allowed)))
    bus = Bus(root)
    if size in allowed:
        assert bus.read(8, size) == (1 << (8 * size)) - 1
        bus.write(8, size, -1)
    else:
        with pytest.raises(BusError):
            bus.read(8, size)
        with pytest.raises(BusError):
            bus.write(8, size, 0)


def test_holes_alignment_and_edges_are_bus_errors() -> None:
    root = MemoryRegion.container("system", 0x1000)
    root.add(0x100, io("dev", 6))
    bus = Bus(root)
    for address, size in [(0xFF, 1), (0x106, 1), (0x101, 2), (0x104, 4), (0x100, 8), (0x10000, 4), (1 << 70, 1)]:
        with pytest.raises(BusError):
            bus.read(address, size)
        with pytest.raises(BusError):
            bus.write(address, size, 0)


def test_ram_and_rom() -> None:
    ram = bytearray(16)
    root = MemoryRegion.container("system", 0x1000)
    root.add(0, MemoryRegion.rom("rom", b"\x13\x05", 16))
    root.add(16, MemoryRegion.ram("ram", ram))
    bus = Bus(root)
    assert bus.read(0, 8) == 0x0513
    with pytest.raises(BusError):
        bus.write(0, 4, 1)
    bus.write(24, 4, 0x1_2345_6789)
    assert ram[8:12] == bytes.fromhex("89674523") and bus.read(24, 8) == 0x23456789


def test_mtree_text_and_json() -> None:
    root = MemoryRegion.container("system", 0x1000)
    root.add(0x100, io("uart", 0x100, sizes=frozenset({1})))
    assert tree_text(root).splitlines() == [
        "memory tree",
        "  0000000000000000-0000000000000fff (prio 0, container): system",
        "    0000000000000100-00000000000001ff (prio 0, i/o): uart",
        "flat view",
        "  0000000000000100-00000000000001ff (i/o): uart",
    ]
    assert tree_json(root)["tree"]["children"][0]["access_sizes"] == [1]
    assert tree_json(root)["flat"] == [{"start": 0x100, "last": 0x1FF, "kind": "i/o", "name": "uart", "offset": 0}]
