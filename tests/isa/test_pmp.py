"""Physical memory protection: matching, priority, locking, what the CSRs read; a comparison with the manual's rules."""

from __future__ import annotations

import random

import pytest
from privileged_machine import ALL, RAM, PrivilegedMachine

from mpemu.isa.csr_table import CSR_NUMBERS
from mpemu.isa.privileged import Access, Mode

OFF, TOR, NA4, NAPOT = (n << 3 for n in range(4))
R, W, X, L = 1, 2, 4, 0x80
PAGE = 4096


@pytest.fixture
def machine() -> PrivilegedMachine:
    return PrivilegedMachine(open_memory=False)


def allowed(machine: PrivilegedMachine, pa: int, mode: int = Mode.S, size: int = 8) -> str:
    """Which accesses may be made, of "lsf"."""
    return "".join(
        letter
        for access, letter in zip(Access, "lsf", strict=True)
        if machine.call("pmp_check", pa, size, access, mode)
    )


def napot(base: int, size: int) -> int:
    return base >> 2 | (size >> 3) - 1


def test_without_entries_only_machine_mode_may_access(machine: PrivilegedMachine) -> None:
    assert [allowed(machine, RAM, mode) for mode in (Mode.U, Mode.S, Mode.M)] == ["", "", "lsf"]


@pytest.mark.parametrize(
    "config, expected", [(R, "l"), (R | W, "ls"), (X, "f"), (R | X, "lf"), (R | W | X, "lsf"), (0, "")]
)
def test_permissions_bind_lower_modes_and_locked_ones_all(
    machine: PrivilegedMachine, config: int, expected: str
) -> None:
    machine.write("pmpaddr0", napot(RAM + 0x10000, 0x10000))
    machine.write("pmpcfg0", NAPOT | config)
    for pa in (RAM + 0x10000, RAM + 0x1FFF8):
        assert [allowed(machine, pa, mode) for mode in (Mode.U, Mode.S, Mode.M)] == [expected, expected, "lsf"]
    machine.write("pmpcfg0", L | NAPOT | config)
    assert [allowed(machine, RAM + 0x10000, mode) for mode in (Mode.S, Mode.M)] == [expected, expected]
    assert allowed(machine, RAM + 0x20000) == allowed(machine, RAM + 0xFFF8) == ""


def test_all_ones_is_the_whole_address_space(machine: PrivilegedMachine) -> None:
    machine.write("pmpaddr0", ALL)
    machine.write("pmpcfg0", NAPOT | R | W | X)
    assert allowed(machine, 0) == allowed(machine, RAM) == allowed(machine, (1 << 56) - 8) == "lsf"


def test_tor_goes_from_the_address_below(machine: PrivilegedMachine) -> None:
    machine.write("pmpaddr0", RAM + 0x2000 >> 2)
    machine.write("pmpaddr1", RAM + 0x5000 >> 2)
    machine.write("pmpcfg0", (TOR | R) << 8)
    assert [allowed(machine, RAM + 0x1000 * n) for n in range(7)] == ["", "", "l", "l", "l", "", ""]
    machine.write("pmpcfg0", (TOR | R) << 8 | TOR | X)
    assert allowed(machine, 0) == allowed(machine, RAM) == "f"
    machine.write("pmpaddr1", RAM + 0x2000 >> 2)
    assert allowed(machine, RAM + 0x2000) == ""


def test_the_lowest_matching_entry_decides(machine: PrivilegedMachine) -> None:
    machine.write("pmpaddr3", napot(RAM, PAGE))
    machine.write("pmpaddr9", ALL)
    machine.write("pmpcfg0", NAPOT << 24)
    machine.write("pmpcfg2", (NAPOT | R | W | X) << 8)
    assert (allowed(machine, RAM), allowed(machine, RAM + PAGE)) == ("", "lsf")


def test_an_access_matched_in_part_fails_in_machine_mode_too(machine: PrivilegedMachine) -> None:
    machine.write("pmpaddr0", napot(RAM, PAGE))
    machine.write("pmpaddr1", ALL)
    machine.write("pmpcfg0", NAPOT | R | W | X | (NAPOT | R | W | X) << 8)
    for mode in (Mode.S, Mode.M):
        assert allowed(machine, RAM + PAGE - 8, mode) == "lsf"
        assert allowed(machine, RAM + PAGE - 4, mode) == ""
        assert allowed(machine, RAM + PAGE, mode) == "lsf"


def test_software_finds_a_granularity_of_4_kib(machine: PrivilegedMachine) -> None:
    """The procedure that the manual gives."""
    machine.write("pmpcfg0", 0)
    machine.write("pmpaddr0", ALL)
    found = machine.read("pmpaddr0")
    assert 4 * (found & -found) == PAGE
    assert found >> 54 == 0


def test_addresses_read_as_the_mode_shows_them_and_keep_their_bits(machine: PrivilegedMachine) -> None:
    machine.write("pmpaddr0", 0x12345600)
    for mode, low in ((OFF, 0x12345400), (TOR, 0x12345400), (NAPOT, 0x123457FF)):
        machine.write("pmpcfg0", mode)
        assert machine.read("pmpaddr0") == low
    machine.write("pmpcfg0", 0)
    assert machine.state["pmpaddr_0"] == 0x12345600


def test_config_bytes_are_warl(machine: PrivilegedMachine) -> None:
    assert machine.written("pmpcfg0", 0x60 | R) == R
    assert machine.written("pmpcfg0", W | X) == X, "W without R is reserved"
    assert machine.written("pmpcfg0", NA4 | R) == NAPOT | R, "NA4 is finer than the granularity"
    assert machine.written("pmpcfg2", 0x0102030405060708) == 0x0100030405040708


def test_set_and_clear_touch_the_named_bytes_only(machine: PrivilegedMachine) -> None:
    machine.write("pmpcfg0", 0x0707)
    machine.clear("pmpcfg0", 0x0400)
    assert machine.read("pmpcfg0") == 0x0307
    machine.set("pmpcfg0", 0x18)
    assert machine.read("pmpcfg0") == 0x031F


def test_setting_bits_rewrites_those_that_the_granularity_hides(machine: PrivilegedMachine) -> None:
    machine.write("pmpcfg0", NAPOT)
    machine.write("pmpaddr0", 1 << 9)
    machine.write("pmpcfg0", OFF)
    machine.clear("pmpaddr0", 1 << 20)
    machine.write("pmpcfg0", NAPOT)
    assert machine.read("pmpaddr0") & 1 << 9 == 0, "it read as zero when the other bit was cleared"


def test_locked_entries_ignore_writes(machine: PrivilegedMachine) -> None:
    low, high = RAM + 0x40000 >> 2, RAM + 0x50000 >> 2
    machine.write("pmpaddr0", low)
    machine.write("pmpaddr1", high)
    machine.write("pmpcfg0", (L | TOR | R) << 8)
    assert machine.written("pmpcfg0", R | W) == (L | TOR | R) << 8 | R | W
    assert machine.written("pmpaddr1", 0) == high
    assert machine.written("pmpaddr0", 0) == low, "the lower bound of a locked TOR entry"
    machine.write("pmpcfg0", L << 24)
    assert machine.written("pmpaddr2", low) == low, "the entry above is locked, but not TOR"
    assert machine.written("pmpaddr3", low) == 0


def test_sixteen_entries_exist_and_the_rest_read_zero(machine: PrivilegedMachine) -> None:
    for n in range(64):
        assert bool(machine.written(f"pmpaddr{n}", ALL)) == (n < 16)
    for n in range(0, 16, 2):
        assert bool(machine.written(f"pmpcfg{n}", R)) == (n < 4)


def manual(configs: list[int], addresses: list[int], pa: int, size: int, access: int, mode: int) -> bool:
    """The matching rules byte by byte, as the manual states them."""
    for n, (config, address) in enumerate(zip(configs, addresses, strict=True)):
        if config & NAPOT == OFF:
            continue
        if config & NAPOT == TOR:
            below = addresses[n - 1] if n else 0
            low, high = (below >> 10) * PAGE, (address >> 10) * PAGE
        else:
            ones = (~(address | 0x1FF) & -~(address | 0x1FF)).bit_length() - 1
            span = 8 << ones
            low = (address * 4) // span * span
            high = low + span
        inside = [low <= byte < high for byte in (pa, pa + size - 1)]
        if any(inside):
            return all(inside) and (bool(config >> access & 1) or (mode == Mode.M and not config & L))
    return bool(mode == Mode.M)


def test_random_configurations_follow_the_manual(machine: PrivilegedMachine) -> None:
    rng = random.Random(1)
    for _ in range(12):
        configs, addresses = [0] * 16, [0] * 16
        machine.hart.reset(RAM)
        for n in rng.sample(range(16), 6):
            addresses[n] = RAM + rng.randrange(0, 0x10000) >> 2 | (1 << rng.randrange(14)) - 1
            configs[n] = rng.choice((TOR, NAPOT)) | rng.choice((0, R, R | W, X, R | X, R | W | X)) | rng.choice((0, L))
            machine.call("csr_write", CSR_NUMBERS[f"pmpaddr{n}"], addresses[n], ALL)
        for half in (0, 1):
            packed = sum(configs[8 * half + k] << 8 * k for k in range(8))
            machine.call("csr_write", CSR_NUMBERS[f"pmpcfg{2 * half}"], packed, ALL)
        for _ in range(40):
            pa, size = RAM + rng.randrange(0, 0x11000), rng.choice((1, 8, 64))
            access, mode = rng.choice(list(Access)), rng.choice(list(Mode))
            expected = manual(configs, addresses, pa, size, access, mode)
            assert machine.call("pmp_check", pa, size, access, mode) == expected
