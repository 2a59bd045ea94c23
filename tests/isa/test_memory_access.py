"""Loads, stores, atomics, reservations, cache blocks: values, alignment, faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from small_machine import DATA, RAM, SIZE, cause, execute, machine

from mpemu.isa.reference import MmioRange, ReferenceHart

END = RAM + SIZE
LOAD_MISALIGNED, LOAD_FAULT, STORE_MISALIGNED, STORE_FAULT = 4, 5, 6, 7
PATTERN = 0x8899_AABB_CCDD_EEFF
SIZES = {"b": 1, "h": 2, "w": 4, "d": 8}


def signed(value: int, width: int) -> int:
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def peek(hart: ReferenceHart, address: int, size: int = 8) -> int:
    return hart.bus.read(address, size)


def poke(hart: ReferenceHart, address: int, *values: int, size: int = 8) -> None:
    """Write values of ``size`` bytes one behind the other."""
    for n, value in enumerate(values):
        hart.bus.write(address + n * size, size, value & (1 << 8 * size) - 1, 99)


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("name", ["lb", "lh", "lw", "ld", "lbu", "lhu", "lwu"])
def test_load_at_any_alignment(name: str, offset: int) -> None:
    (hart,) = machine()
    poke(hart, DATA, PATTERN, ~PATTERN)
    size = SIZES[name[1]]
    raw = int.from_bytes(hart.bus.ram[DATA - RAM + offset :][:size], "little")
    hart.x.values[6] = DATA + offset + 100
    execute(hart, name, rd=5, rs1=6, imm=-100)
    expected = raw if name.endswith("u") else signed(raw, 8 * size)
    assert hart.x.values[5] == expected & (1 << 64) - 1


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("name", ["sb", "sh", "sw", "sd"])
def test_store_at_any_alignment_touches_nothing_else(name: str, offset: int) -> None:
    (hart,) = machine()
    hart.bus.ram[DATA - RAM : DATA - RAM + 16] = bytes(range(16))
    before = bytearray(hart.bus.ram)
    hart.x.values[6:8] = DATA + offset, PATTERN
    execute(hart, name, rs1=6, rs2=7, imm=0)
    size, at = SIZES[name[1]], DATA - RAM + offset
    before[at : at + size] = (PATTERN & (1 << 8 * size) - 1).to_bytes(size, "little")
    assert hart.bus.ram[4:] == before[4:]


@pytest.mark.parametrize(("name", "expected"), [("ld", LOAD_FAULT), ("sd", STORE_FAULT)])
@pytest.mark.parametrize(("address", "reported"), [(END - 4, END), (END, END), (0, 0), (RAM - 8, RAM - 8)])
def test_an_access_beyond_ram_faults_and_changes_nothing(name: str, expected: int, address: int, reported: int) -> None:
    """mtval has the part of a misaligned access that is not there (privileged spec, 3.1.16)."""
    (hart,) = machine()
    before = bytes(hart.bus.ram)
    hart.x.values[5:7] = 77, address
    execute(hart, name, **({"rd": 5} if name == "ld" else {"rs2": 5}), rs1=6, imm=0)
    assert cause(hart) == (expected, reported)
    assert hart.x.values[5] == 77
    assert hart.bus.ram[4:] == before[4:]


def test_a_fetch_beyond_ram_faults_with_the_halfword_that_is_not_there() -> None:
    (hart,) = machine()
    poke(hart, END - 2, 0x0013, size=2)
    hart.s.values["pc"] = END - 2
    hart.step()
    assert cause(hart) == (1, END)


OPERATIONS: dict[str, Callable[[int, int, int], int]] = {
    "swap": lambda a, b, w: b,
    "add": lambda a, b, w: a + b,
    "xor": lambda a, b, w: a ^ b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "min": lambda a, b, w: min(signed(a, w), signed(b, w)),
    "max": lambda a, b, w: max(signed(a, w), signed(b, w)),
    "minu": lambda a, b, w: min(a % (1 << w), b % (1 << w)),
    "maxu": lambda a, b, w: max(a % (1 << w), b % (1 << w)),
}
OPERANDS = (0, 1, 0x7F, 0x80, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, PATTERN, (1 << 64) - 1)


@pytest.mark.parametrize("suffix", "bhwd")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_amo(operation: str, suffix: str) -> None:
    (hart,) = machine()
    size = SIZES[suffix]
    mask = (1 << 8 * size) - 1
    for a, b in itertools.product(OPERANDS, OPERANDS):
        poke(hart, DATA, a)
        poke(hart, DATA + size, PATTERN)
        hart.x.values[6:8] = DATA, b
        execute(hart, f"amo{operation}.{suffix}", rd=7, rs1=6, rs2=7, aq=1, rl=0)
        assert hart.x.values[7] == signed(a, 8 * size) & (1 << 64) - 1
        assert peek(hart, DATA, size) == OPERATIONS[operation](a, b, 8 * size) & mask
        assert peek(hart, DATA + size) == PATTERN


@pytest.mark.parametrize("suffix", "bhwd")
def test_compare_and_swap(suffix: str) -> None:
    (hart,) = machine()
    size = SIZES[suffix]
    mask = (1 << 8 * size) - 1
    for old, expected in itertools.product(OPERANDS, OPERANDS):
        poke(hart, DATA, old)
        hart.x.values[5:8] = expected, DATA, 0x1234_5678_9ABC_DEF1
        execute(hart, f"amocas.{suffix}", rd=5, rs1=6, rs2=7)
        same = old & mask == expected & mask
        assert peek(hart, DATA, size) == (0x1234_5678_9ABC_DEF1 if same else old) & mask
        assert hart.x.values[5] == signed(old, 8 * size) & (1 << 64) - 1


def test_compare_and_swap_of_a_quadword() -> None:
    (hart,) = machine()
    poke(hart, DATA, 1, 2)
    hart.x.values[6] = DATA
    hart.x.values[8:12] = 1, 3, 10, 20
    execute(hart, "amocas.q", rd=8, rs1=6, rs2=10)
    assert hart.x.values[8:10] == [1, 2], "the high half differs: nothing stored, the old value returned"
    assert (peek(hart, DATA), peek(hart, DATA + 8)) == (1, 2)
    execute(hart, "amocas.q", rd=8, rs1=6, rs2=10)
    assert (peek(hart, DATA), peek(hart, DATA + 8)) == (10, 20)


def test_the_pair_of_x0_is_zero_and_ignores_writes() -> None:
    (hart,) = machine()
    hart.x.values[1] = 99
    hart.x.values[6] = DATA
    hart.x.values[10:12] = 5, 6
    execute(hart, "amocas.q", rd=0, rs1=6, rs2=10)
    assert (peek(hart, DATA), peek(hart, DATA + 8)) == (5, 6), "memory was the expected zero"
    assert hart.x.values[1] == 99
    hart.x.values[10:12] = 5, 6
    execute(hart, "amocas.q", rd=10, rs1=6, rs2=0)
    assert (peek(hart, DATA), peek(hart, DATA + 8)) == (0, 0)


@pytest.mark.parametrize(
    ("name", "offset", "expected"),
    [
        ("lr.w", 2, LOAD_MISALIGNED),
        ("lr.d", 4, LOAD_MISALIGNED),
        ("sc.w", 2, STORE_MISALIGNED),
        ("amoadd.h", 1, STORE_MISALIGNED),
        ("amoadd.d", 4, STORE_MISALIGNED),
        ("amocas.q", 8, STORE_MISALIGNED),
    ],
)
def test_atomics_must_be_aligned(name: str, offset: int, expected: int) -> None:
    (hart,) = machine()
    hart.x.values[6] = DATA + offset
    execute(hart, name, rd=8, rs1=6, **({} if name[:2] == "lr" else {"rs2": 10}))
    assert cause(hart) == (expected, DATA + offset)


# -- reservations


def reserve(hart: ReferenceHart, address: int = DATA) -> None:
    hart.x.values[6] = address
    execute(hart, "lr.d", rd=5, rs1=6)


def conditional(hart: ReferenceHart, value: int, address: int = DATA) -> bool:
    """Whether the store succeeded."""
    hart.x.values[6:8] = address, value
    execute(hart, "sc.d", rd=5, rs1=6, rs2=7)
    return hart.x.values[5] == 0


def test_store_conditional_succeeds_once() -> None:
    (hart,) = machine()
    reserve(hart)
    assert conditional(hart, 1)
    assert not conditional(hart, 2)
    assert peek(hart, DATA) == 1


def test_store_conditional_fails_elsewhere_and_gives_up_the_reservation() -> None:
    (hart,) = machine()
    reserve(hart)
    assert not conditional(hart, 1, DATA + 64)
    assert not conditional(hart, 1)


def test_another_harts_store_ends_the_reservation_even_if_it_stores_the_same() -> None:
    one, other = machine(harts=2)
    reserve(one)
    other.x.values[6:8] = DATA + 56, 0
    execute(other, "sd", rs1=6, rs2=7, imm=0)
    assert not conditional(one, 1)
    reserve(one)
    other.x.values[6] = DATA + 64
    execute(other, "sd", rs1=6, rs2=7, imm=0)
    assert conditional(one, 1), "a store to another granule does not matter"


# -- devices


def with_device(hart: ReferenceHart) -> list[tuple[int, int, int]]:
    """A device at 0x1000 that reads as offset * 16 + size; the writes that it gets."""
    writes: list[tuple[int, int, int]] = []
    device = MmioRange(0x1000, 0x100, lambda at, n: at * 16 + n, lambda at, n, value: writes.append((at, n, value)))
    hart.bus.devices.append(device)
    return writes


def test_device_registers() -> None:
    (hart,) = machine()
    writes = with_device(hart)
    hart.x.values[6:8] = 0x1004, PATTERN
    execute(hart, "lw", rd=5, rs1=6, imm=0)
    assert hart.x.values[5] == 0x44
    execute(hart, "sh", rs1=6, rs2=7, imm=2)
    assert writes == [(6, 2, 0xEEFF)]


@pytest.mark.parametrize(
    ("name", "offset", "expected"),
    [
        ("lw", 2, LOAD_FAULT),
        ("sd", 4, STORE_FAULT),
        ("lr.w", 0, LOAD_FAULT),
        ("sc.w", 0, STORE_FAULT),
        ("amoadd.w", 0, STORE_FAULT),
        ("cbo.zero", 0, STORE_FAULT),
        ("cbo.flush", 0, STORE_FAULT),
    ],
)
def test_devices_take_plain_aligned_accesses_only(name: str, offset: int, expected: int) -> None:
    (hart,) = machine()
    writes = with_device(hart)
    hart.x.values[6] = 0x1000 + offset
    execute(hart, name, rs1=6)
    assert cause(hart) == (expected, 0x1000 + offset)
    assert not writes


# -- cache blocks


def test_zero_block() -> None:
    (hart,) = machine()
    hart.bus.ram[DATA - RAM - 64 : DATA - RAM + 128] = b"\xff" * 192
    hart.x.values[6] = DATA + 13
    execute(hart, "cbo.zero", rs1=6)
    assert hart.bus.ram[DATA - RAM - 64 : DATA - RAM + 128] == b"\xff" * 64 + bytes(64) + b"\xff" * 64


@pytest.mark.parametrize(("name", "bit"), [("cbo.inval", 4), ("cbo.clean", 6), ("cbo.flush", 6), ("cbo.zero", 7)])
@pytest.mark.parametrize(("mode", "machine_bit", "supervisor_bit", "legal"), [
    (3, 0, 0, True),
    (1, 0, 1, False),
    (1, 1, 0, True),
    (0, 1, 0, False),
    (0, 0, 1, False),
    (0, 1, 1, True),
])  # fmt: skip
def test_cache_block_permission(
    name: str, bit: int, mode: int, machine_bit: int, supervisor_bit: int, legal: bool
) -> None:
    (hart,) = machine()
    hart.s.values.update(priv=mode, menvcfg=machine_bit << bit, senvcfg=supervisor_bit << bit)
    hart.s.values.update({"pmpcfg_0": 0x1F, "pmpaddr_0": (1 << 54) - 1, "pmp_first_0": 0, "pmp_end_0": 1 << 52})
    hart.s.values["pmp_count"] = 1
    hart.x.values[6] = DATA
    execute(hart, name, rs1=6)
    if legal:
        assert hart.s.values["pc"] == RAM + 4
    else:
        assert cause(hart)[0] == 2
