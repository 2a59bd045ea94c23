"""Translation for reports: Sv39 to Sv57, superpages, Svnapot, and tables that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpemu.memory import RAM_BASE, MachineMemory
from mpemu.report import hart_report
from mpemu.walk import read_code, translate

ROOT = RAM_BASE + 0x1_0000
LEAF = 0xF  # V, R, W, X
SIGN = {8: 38, 9: 47, 10: 56}


@pytest.fixture
def memory() -> Iterator[MachineMemory]:
    made = MachineMemory(1, 1 << 20)
    yield made
    made.close()


def map_page(memory: MachineMemory, mode: int, virtual: int, physical: int, level: int = 0, bits: int = LEAF) -> None:
    """Fresh tables below ROOT for one leaf at ``level``."""
    table = ROOT
    for depth in range(mode - 6, -1, -1):
        place = table + 8 * (virtual >> (12 + 9 * depth) & 0x1FF)
        if depth == level:
            memory.write(place, (physical >> 12 << 10 | bits).to_bytes(8, "little"))
            break
        table += 0x1000
        memory.write(place, (table >> 12 << 10 | 1).to_bytes(8, "little"))
    hart = memory.hart(0)
    hart.priv, hart.satp = 1, mode << 60 | ROOT >> 12


@pytest.mark.parametrize("mode", [8, 9, 10])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_pages_of_every_size(memory: MachineMemory, mode: int, level: int) -> None:
    virtual = -(1 << SIGN[mode]) & ((1 << 64) - 1) | 0x12_3456_7ABC
    map_page(memory, mode, virtual, 0x80_0000_0000, level)
    size = 1 << (12 + 9 * level)
    assert translate(memory, memory.hart(0), virtual) == 0x80_0000_0000 + virtual % size
    assert translate(memory, memory.hart(0), virtual ^ 1 << SIGN[mode]) is None  # not canonical
    assert translate(memory, memory.hart(0), virtual ^ 1 << (12 + 9 * level)) is None  # the page beside it


def test_napot(memory: MachineMemory) -> None:
    map_page(memory, 8, 0x4003_5678, 0x8000_8000, bits=LEAF | 1 << 63)
    assert translate(memory, memory.hart(0), 0x4003_5678) == 0x8000_5678


def test_bare_and_machine_mode(memory: MachineMemory) -> None:
    hart = memory.hart(0)
    hart.priv = 1
    assert translate(memory, hart, 0x1234) == 0x1234
    hart.satp, hart.priv = 8 << 60, 3
    assert translate(memory, hart, 0x1234) == 0x1234


def test_tables_outside_ram(memory: MachineMemory) -> None:
    hart = memory.hart(0)
    hart.priv, hart.satp = 1, 8 << 60 | 0x1
    assert translate(memory, hart, 0x1234) is None
    assert "0x1234 is not mapped" in hart_report_at(memory, 0x1234)


def test_code_ends_where_nothing_is_mapped(memory: MachineMemory) -> None:
    map_page(memory, 8, 0x4000_0000, RAM_BASE)
    memory.write(RAM_BASE + 0xFF8, b"12345678")
    assert read_code(memory, memory.hart(0), 0x4000_0FF8, 32) == b"12345678"


def test_report_disassembles_through_page_tables(memory: MachineMemory) -> None:
    map_page(memory, 8, 0x4000_0000, RAM_BASE + 0x2000)
    # c.nop; addi a0, a0, 1; pc here: ecall; something unknown
    memory.write(RAM_BASE + 0x2010 - 16, bytes.fromhex("0100" * 6 + "13051500" + "73000000" + "ffffffff"))
    report = hart_report_at(memory, 0x4000_0010)
    assert "   0x4000000c: addi a0, a0, 1" in report
    assert "=> 0x40000010: ecall" in report
    assert ".4byte 0xffffffff" in report
    assert "privilege S" in report


def hart_report_at(memory: MachineMemory, pc: int) -> str:
    memory.hart(0).pc = pc
    return hart_report(memory, 0, "was killed by a test")
