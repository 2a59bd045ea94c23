"""Address translation: every Sv mode, every reason for a fault, A and D, superpages, PMP on the way."""

from __future__ import annotations

import pytest
from privileged_machine import LEVELS, RAM, RAM_SIZE, READY, PageTables, PrivilegedMachine

from mpemu.isa.privileged import (
    ADUE,
    MXR,
    PBMTE,
    PTE_A,
    PTE_D,
    PTE_G,
    PTE_N,
    PTE_PBMT,
    PTE_R,
    PTE_U,
    PTE_V,
    PTE_W,
    PTE_X,
    SUM,
    Access,
    Mode,
)
from mpemu.isa.reference import GuestTrap
from mpemu.isa.value import Value

PAGE_FAULT = {Access.LOAD: 13, Access.STORE: 15, Access.FETCH: 12}
ACCESS_FAULT = {Access.LOAD: 5, Access.STORE: 7, Access.FETCH: 1}
VA, PA = 0x1234_5000, RAM + 0x80000
MODES = sorted(LEVELS)
AD = PTE_A | PTE_D


@pytest.fixture(params=MODES, ids=["sv39", "sv48", "sv57"])
def tables(request: pytest.FixtureRequest) -> PageTables:
    return PageTables(PrivilegedMachine(), request.param)


@pytest.fixture
def sv39() -> PageTables:
    return PageTables(PrivilegedMachine(), 8)


def faults(tables: PageTables, causes: dict[Access, int], va: int = VA, mode: int = Mode.S, only: str = "lsf") -> None:
    """Every access (of ``only``: load, store, fetch) raises its cause, with the address as tval."""
    for access, letter in zip(Access, "lsf", strict=True):
        if letter in only:
            with pytest.raises(GuestTrap) as trap:
                tables.machine.translate(va, access, mode)
            assert (trap.value.cause, trap.value.tval) == (causes[access], va & (1 << 64) - 1)


def works(tables: PageTables, va: int, pa: int, mode: int = Mode.S, only: str = "lsf") -> None:
    for access, letter in zip(Access, "lsf", strict=True):
        if letter in only:
            assert tables.machine.translate(va, access, mode) == pa


def test_bare_and_machine_mode_do_not_translate() -> None:
    machine = PrivilegedMachine()
    assert machine.translate(PA + 5, mode=Mode.S) == PA + 5
    PageTables(machine, 8)
    assert machine.translate(PA + 5, mode=Mode.M) == PA + 5


def test_a_mapped_page_translates_with_its_offset(tables: PageTables) -> None:
    tables.map(VA, PA)
    works(tables, VA + 0xABC, PA + 0xABC)
    assert tables.machine.state["walk_shift"] == 12


def test_the_upper_half_translates(tables: PageTables) -> None:
    high = -(1 << tables.bits - 1) & (1 << 64) - 1
    tables.map(high, PA)
    works(tables, high + 8, PA + 8)


def test_addresses_that_are_not_canonical_fault(tables: PageTables) -> None:
    for va in (1 << tables.bits - 1, 1 << tables.bits, 1 << 63, -(1 << tables.bits) & (1 << 64) - 1):
        tables.map(va, PA)
        faults(tables, PAGE_FAULT, va)


def test_superpages_of_every_level(tables: PageTables) -> None:
    for level in range(1, tables.levels):
        va = 3 << 12 + 9 * level  # indices are 0 above the level, so each has tables of its own
        tables.map(va, 0, READY, level)
        offset = (1 << 12 + 9 * level) - 8
        works(tables, va + offset, offset)
        assert tables.machine.state["walk_shift"] == 12 + 9 * level


def test_misaligned_superpages_fault(tables: PageTables) -> None:
    for level in range(1, tables.levels):
        va = 3 << 12 + 9 * level
        tables.map(va, 1 << 12 + 9 * level - 1, READY, level)
        faults(tables, PAGE_FAULT, va)


@pytest.mark.parametrize("flags", [0, READY & ~PTE_V, PTE_V | PTE_W | AD, PTE_V | PTE_W | PTE_X | AD])
def test_invalid_and_write_only_leaves_fault(tables: PageTables, flags: int) -> None:
    tables.map(VA, PA, flags)
    faults(tables, PAGE_FAULT)


def test_a_pointer_in_the_last_level_faults(tables: PageTables) -> None:
    tables.map(VA, PA, PTE_V)
    faults(tables, PAGE_FAULT)


@pytest.mark.parametrize("bit", [*range(54, 61)])
def test_reserved_bits_fault_in_leaves_and_pointers(sv39: PageTables, bit: int) -> None:
    leaf = sv39.map(VA, PA, READY | 1 << bit)
    faults(sv39, PAGE_FAULT)
    sv39.map(VA, PA)
    pointer = sv39.entry(VA, 1)
    sv39.machine.put(pointer, sv39.machine.get(pointer) | 1 << bit)
    assert leaf != pointer
    faults(sv39, PAGE_FAULT)


@pytest.mark.parametrize("flag", [PTE_A, PTE_D, PTE_U, PTE_N, 1 << 61, 1 << 62])
def test_flags_of_leaves_are_reserved_in_pointers(sv39: PageTables, flag: int) -> None:
    sv39.machine.set("menvcfg", PBMTE)
    sv39.map(VA, PA)
    pointer = sv39.entry(VA, 1)
    sv39.machine.put(pointer, sv39.machine.get(pointer) | flag)
    faults(sv39, PAGE_FAULT)


def test_global_and_software_bits_change_nothing(sv39: PageTables) -> None:
    sv39.map(VA, PA, READY | PTE_G | 3 << 8)
    pointer = sv39.entry(VA, 1)
    sv39.machine.put(pointer, sv39.machine.get(pointer) | PTE_G | 3 << 8)
    works(sv39, VA, PA)


@pytest.mark.parametrize("permissions, allowed", [("r", "l"), ("rw", "ls"), ("x", "f"), ("rx", "lf"), ("rwx", "lsf")])
def test_permissions(tables: PageTables, permissions: str, allowed: str) -> None:
    flags = sum({"r": PTE_R, "w": PTE_W, "x": PTE_X}[p] for p in permissions)
    tables.map(VA, PA, PTE_V | AD | flags)
    works(tables, VA, PA, only=allowed)
    faults(tables, PAGE_FAULT, only="".join(set("lsf") - set(allowed)))


def test_mxr_makes_executable_pages_readable(sv39: PageTables) -> None:
    sv39.map(VA, PA, PTE_V | AD | PTE_X)
    faults(sv39, PAGE_FAULT, only="ls")
    sv39.machine.set("mstatus", MXR)
    works(sv39, VA, PA, only="l")
    faults(sv39, PAGE_FAULT, only="s")


def test_user_pages(sv39: PageTables) -> None:
    sv39.map(VA, PA)
    faults(sv39, PAGE_FAULT, mode=Mode.U)
    sv39.map(VA, PA, READY | PTE_U)
    works(sv39, VA, PA, mode=Mode.U)
    faults(sv39, PAGE_FAULT, mode=Mode.S)
    sv39.machine.set("mstatus", SUM)
    works(sv39, VA, PA, mode=Mode.S, only="ls")
    faults(sv39, PAGE_FAULT, mode=Mode.S, only="f")


def test_mprv_is_for_data_only(sv39: PageTables) -> None:
    sv39.map(VA, PA)
    sv39.machine.use_mprv(Mode.S)
    works(sv39, VA, PA, mode=Mode.M, only="ls")
    works(sv39, VA, VA, mode=Mode.M, only="f")
    sv39.machine.use_mprv(Mode.U)
    faults(sv39, PAGE_FAULT, mode=Mode.M, only="ls")


def test_hardware_sets_a_and_d(tables: PageTables) -> None:
    address = tables.map(VA, PA, READY & ~AD)
    get = tables.machine.get
    works(tables, VA, PA, only="l")
    assert get(address) & AD == PTE_A
    works(tables, VA, PA, only="s")
    assert get(address) & AD == AD
    tables.map(VA, PA, READY & ~AD)
    works(tables, VA, PA, only="f")
    assert get(address) & AD == PTE_A


def test_no_bit_is_set_by_an_access_that_faults(sv39: PageTables) -> None:
    address = sv39.map(VA, PA, PTE_V | PTE_R)
    faults(sv39, PAGE_FAULT, only="sf")
    assert sv39.machine.get(address) & AD == 0


def test_software_sets_a_and_d_without_adue(tables: PageTables) -> None:
    tables.machine.clear("menvcfg", ADUE)
    address = tables.map(VA, PA, READY & ~AD)
    faults(tables, PAGE_FAULT)
    tables.map(VA, PA, READY & ~PTE_D)
    works(tables, VA, PA, only="lf")
    faults(tables, PAGE_FAULT, only="s")
    assert tables.machine.get(address) & AD == PTE_A


@pytest.mark.parametrize("isa, hardware", [("rv64gc", True), ("rv64gc_svade", False), ("rv64gc_svade_svadu", True)])
def test_who_sets_a_and_d_by_isa(isa: str, hardware: bool) -> None:
    """A hart with neither extension updates them, as harts did before the two had names."""
    tables = PageTables(PrivilegedMachine(isa), 8)
    tables.map(VA, PA, READY & ~AD)
    if hardware:
        works(tables, VA, PA)
    else:
        faults(tables, PAGE_FAULT)


def race(tables: PageTables, address: int, becomes: list[int]) -> None:
    """Before each of the next updates of a PTE, another hart stores one of ``becomes`` to it."""
    hart = tables.machine.hart
    update = hart.cas_pte

    def interfere(at: Value, expected: Value, new: Value) -> Value:
        if hart.live and becomes:
            tables.machine.put(address, becomes.pop(0))
        return update(at, expected, new)

    hart.cas_pte = interfere  # type: ignore[method-assign]


def test_an_update_that_loses_a_race_looks_again(sv39: PageTables) -> None:
    address = sv39.map(VA, PA, READY & ~AD)
    pte = sv39.machine.get(address)
    race(sv39, address, [pte | 1 << 8 | PTE_D])
    works(sv39, VA, PA, only="l")
    assert sv39.machine.get(address) == pte | 1 << 8 | AD


def test_an_update_never_revives_a_page(sv39: PageTables) -> None:
    address = sv39.map(VA, PA, READY & ~AD)
    race(sv39, address, [0])
    faults(sv39, PAGE_FAULT, only="s")
    assert sv39.machine.get(address) == 0


def test_an_update_outlasts_many_lost_races(sv39: PageTables) -> None:
    address = sv39.map(VA, PA, READY & ~AD)
    pte = sv39.machine.get(address)
    race(sv39, address, [pte | n << 8 for n in (1, 2, 3)] * 5)
    works(sv39, VA, PA, only="s")
    assert sv39.machine.get(address) == pte | 3 << 8 | AD


def test_page_tables_outside_of_ram_are_access_faults(tables: PageTables) -> None:
    for level in range(1, tables.levels):
        pointer = tables.entry(VA, level)
        tables.machine.put(pointer, (RAM + RAM_SIZE) >> 12 << 10 | PTE_V)
        faults(tables, ACCESS_FAULT)
        tables.machine.put(pointer, 0)


def test_pmp_covers_page_tables_and_their_updates(sv39: PageTables) -> None:
    address = sv39.map(VA, PA, READY & ~AD)
    machine = sv39.machine
    machine.write("pmpaddr0", address >> 2)
    machine.write("pmpcfg0", 0x19)  # NAPOT of one page: read only
    faults(sv39, ACCESS_FAULT)
    machine.put(address, machine.get(address) | AD)
    works(sv39, VA, PA)
    machine.write("pmpcfg0", 0x18)
    faults(sv39, ACCESS_FAULT)


def test_pmp_covers_the_page_itself(sv39: PageTables) -> None:
    sv39.map(VA, PA)
    sv39.machine.write("pmpaddr0", PA >> 2)
    sv39.machine.write("pmpcfg0", 0x19)
    works(sv39, VA, PA, only="l")
    faults(sv39, ACCESS_FAULT, only="sf")


def test_napot_pages(tables: PageTables) -> None:
    base = VA & -0x10000
    for n in range(16):
        tables.map(base + n * 4096, PA + 0x8000, READY | PTE_N)
    works(tables, base + 0x7123, PA + 0x7123)
    assert tables.machine.state["walk_shift"] == 16
    tables.map(base, PA + 0x4000, READY | PTE_N)
    faults(tables, PAGE_FAULT, base)
    tables.map(base, PA, READY | PTE_N)
    faults(tables, PAGE_FAULT, base)


def test_napot_is_reserved_in_superpages_and_without_svnapot(sv39: PageTables) -> None:
    sv39.map(3 << 21, RAM + 0x8000, READY | PTE_N, 1)
    faults(sv39, PAGE_FAULT, 3 << 21)
    plain = PageTables(PrivilegedMachine("rv64gc"), 8)
    plain.map(VA, PA + 0x8000, READY | PTE_N)
    faults(plain, PAGE_FAULT)


def test_memory_types_need_pbmte(sv39: PageTables) -> None:
    for kind in (1 << 61, 2 << 61):
        sv39.map(VA, PA, READY | kind)
        sv39.machine.clear("menvcfg", PBMTE)
        faults(sv39, PAGE_FAULT)
        sv39.machine.set("menvcfg", PBMTE)
        works(sv39, VA, PA)
    sv39.map(VA, PA, READY | PTE_PBMT)
    faults(sv39, PAGE_FAULT)
