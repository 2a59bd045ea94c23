"""Integer instructions on edge operands, against formulas in Python's unbounded integers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from small_machine import RAM, execute, machine

XLEN = 64
ALL = (1 << 64) - 1
MIN = 1 << 63

_RNG = random.Random(64)
EDGES = (
    *(0, 1, 63, 0x80, 0x8000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000, 0xFFFF_FFFF_8000_0000),
    *(MIN - 1, MIN, ALL, 0x0102_0004_0500_0708, _RNG.getrandbits(64), _RNG.getrandbits(64)),
)
PAIRS = list(itertools.product(EDGES, EDGES))


def s(value: int, width: int = 64) -> int:
    """Signed reading of the low bits."""
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def u32(value: int) -> int:
    return value & 0xFFFF_FFFF


def truncated(a: int, b: int) -> int:
    """Quotient towards zero, without floats."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def div(a: int, b: int) -> int:
    return truncated(a, b) if b else -1


def rem(a: int, b: int) -> int:
    return a - b * truncated(a, b) if b else a


def clmul(a: int, b: int) -> int:
    product = 0
    for bit in range(64):
        if b >> bit & 1:
            product ^= a << bit
    return product


def rotated_left(a: int, n: int, width: int) -> int:
    n %= width
    digits = format(a % (1 << width), f"0{width}b")
    return int(digits[n:] + digits[:n], 2)


REGISTERS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "sll": lambda a, b: a << b % 64,
    "slt": lambda a, b: s(a) < s(b),
    "sltu": lambda a, b: a < b,
    "xor": lambda a, b: a ^ b,
    "srl": lambda a, b: a >> b % 64,
    "sra": lambda a, b: s(a) >> b % 64,
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "addw": lambda a, b: s(a + b, 32),
    "subw": lambda a, b: s(a - b, 32),
    "sllw": lambda a, b: s(a << b % 32, 32),
    "srlw": lambda a, b: s(u32(a) >> b % 32, 32),
    "sraw": lambda a, b: s(a, 32) >> b % 32,
    "mul": lambda a, b: a * b,
    "mulh": lambda a, b: s(a) * s(b) >> 64,
    "mulhsu": lambda a, b: s(a) * b >> 64,
    "mulhu": lambda a, b: a * b >> 64,
    "div": lambda a, b: div(s(a), s(b)),
    "divu": lambda a, b: a // b if b else -1,
    "rem": lambda a, b: rem(s(a), s(b)),
    "remu": lambda a, b: a % b if b else a,
    "mulw": lambda a, b: s(a * b, 32),
    "divw": lambda a, b: s(div(s(a, 32), s(b, 32)), 32),
    "divuw": lambda a, b: s(u32(a) // u32(b), 32) if u32(b) else -1,
    "remw": lambda a, b: s(rem(s(a, 32), s(b, 32)), 32),
    "remuw": lambda a, b: s(u32(a) % u32(b), 32) if u32(b) else s(a, 32),
    "sh1add": lambda a, b: 2 * a + b,
    "sh2add": lambda a, b: 4 * a + b,
    "sh3add": lambda a, b: 8 * a + b,
    "add.uw": lambda a, b: u32(a) + b,
    "sh1add.uw": lambda a, b: 2 * u32(a) + b,
    "sh2add.uw": lambda a, b: 4 * u32(a) + b,
    "sh3add.uw": lambda a, b: 8 * u32(a) + b,
    "andn": lambda a, b: a & ~b,
    "orn": lambda a, b: a | ~b,
    "xnor": lambda a, b: ~(a ^ b),
    "max": lambda a, b: max(s(a), s(b)),
    "maxu": lambda a, b: max(a, b),
    "min": lambda a, b: min(s(a), s(b)),
    "minu": lambda a, b: min(a, b),
    "rol": lambda a, b: rotated_left(a, b, 64),
    "ror": lambda a, b: rotated_left(a, -b, 64),
    "rolw": lambda a, b: s(rotated_left(a, b, 32), 32),
    "rorw": lambda a, b: s(rotated_left(a, -b, 32), 32),
    "clmul": clmul,
    "clmulh": lambda a, b: clmul(a, b) >> 64,
    "clmulr": lambda a, b: clmul(a, b) >> 63,
    "bclr": lambda a, b: a & ~(1 << b % 64),
    "bext": lambda a, b: a >> b % 64 & 1,
    "binv": lambda a, b: a ^ 1 << b % 64,
    "bset": lambda a, b: a | 1 << b % 64,
    "czero.eqz": lambda a, b: a if b else 0,
    "czero.nez": lambda a, b: 0 if b else a,
}

UNARY: dict[str, Callable[[int], int]] = {
    "clz": lambda a: 64 - len(format(a, "b").lstrip("0")),
    "ctz": lambda a: next((n for n in range(64) if a >> n & 1), 64),
    "cpop": lambda a: format(a, "b").count("1"),
    "clzw": lambda a: 32 - len(format(u32(a), "b").lstrip("0")),
    "ctzw": lambda a: next((n for n in range(32) if a >> n & 1), 32),
    "cpopw": lambda a: format(u32(a), "b").count("1"),
    "sext.b": lambda a: s(a, 8),
    "sext.h": lambda a: s(a, 16),
    "zext.h": lambda a: a % 65536,
    "orc.b": lambda a: int.from_bytes(bytes(0xFF if byte else 0 for byte in a.to_bytes(8, "little")), "little"),
    "rev8": lambda a: int.from_bytes(a.to_bytes(8, "little"), "big"),
}

SHIFTS: dict[str, Callable[[int, int], int]] = {
    "slli": lambda a, n: a << n,
    "srli": lambda a, n: a >> n,
    "srai": lambda a, n: s(a) >> n,
    "slliw": lambda a, n: s(a << n, 32),
    "srliw": lambda a, n: s(u32(a) >> n, 32),
    "sraiw": lambda a, n: s(a, 32) >> n,
    "slli.uw": lambda a, n: u32(a) << n,
    "rori": lambda a, n: rotated_left(a, -n, 64),
    "roriw": lambda a, n: s(rotated_left(a, -n, 32), 32),
    "bclri": lambda a, n: a & ~(1 << n),
    "bexti": lambda a, n: a >> n & 1,
    "binvi": lambda a, n: a ^ 1 << n,
    "bseti": lambda a, n: a | 1 << n,
}

IMMEDIATES: dict[str, Callable[[int, int], int]] = {
    "addi": lambda a, i: a + i,
    "slti": lambda a, i: s(a) < i,
    "sltiu": lambda a, i: a < i & ALL,
    "xori": lambda a, i: a ^ i,
    "ori": lambda a, i: a | i,
    "andi": lambda a, i: a & i,
    "addiw": lambda a, i: s(a + i, 32),
}

BRANCHES: dict[str, Callable[[int, int], bool]] = {
    "beq": lambda a, b: a == b,
    "bne": lambda a, b: a != b,
    "blt": lambda a, b: s(a) < s(b),
    "bge": lambda a, b: s(a) >= s(b),
    "bltu": lambda a, b: a < b,
    "bgeu": lambda a, b: a >= b,
}


@pytest.mark.parametrize("name", REGISTERS)
def test_two_registers(name: str) -> None:
    (hart,) = machine()
    for a, b in PAIRS:
        hart.x.values[6:8] = a, b
        execute(hart, name, rd=5, rs1=6, rs2=7)
        assert hart.x.values[5] == REGISTERS[name](a, b) & ALL, (hex(a), hex(b))


@pytest.mark.parametrize("name", UNARY)
def test_one_register(name: str) -> None:
    (hart,) = machine()
    for a in EDGES:
        hart.x.values[6] = a
        execute(hart, name, rd=5, rs1=6)
        assert hart.x.values[5] == UNARY[name](a) & ALL, hex(a)


@pytest.mark.parametrize("name", SHIFTS)
def test_shift_by_immediate(name: str) -> None:
    (hart,) = machine()
    for a, n in itertools.product(EDGES, (0, 1, 7, 31, *(() if name.endswith("iw") else (32, 33, 63)))):
        hart.x.values[6] = a
        execute(hart, name, rd=5, rs1=6, shamt=n)
        assert hart.x.values[5] == SHIFTS[name](a, n) & ALL, (hex(a), n)


@pytest.mark.parametrize("name", IMMEDIATES)
def test_immediate(name: str) -> None:
    (hart,) = machine()
    for a, i in itertools.product(EDGES, (0, 1, -1, 2047, -2048, 0x555)):
        hart.x.values[6] = a
        execute(hart, name, rd=5, rs1=6, imm=i)
        assert hart.x.values[5] == IMMEDIATES[name](a, i) & ALL, (hex(a), i)


@pytest.mark.parametrize("name", BRANCHES)
def test_branch(name: str) -> None:
    (hart,) = machine()
    for (a, b), imm in itertools.product(PAIRS[::7], (-4096, 4094, 8)):
        hart.x.values[6:8] = a, b
        execute(hart, name, rs1=6, rs2=7, imm=imm)
        assert hart.s.values["pc"] == RAM + (imm if BRANCHES[name](a, b) else 4), (hex(a), hex(b), imm)


def test_upper_immediates() -> None:
    (hart,) = machine()
    for imm in (0, 1 << 12, 0x7FFFF << 12, -1 << 12, -(1 << 31)):
        execute(hart, "lui", rd=5, imm=imm)
        assert hart.x.values[5] == imm & ALL
        execute(hart, "auipc", rd=5, imm=imm)
        assert hart.x.values[5] == (RAM + imm) & ALL


def test_jumps_link_and_may_use_their_own_register() -> None:
    (hart,) = machine()
    execute(hart, "jal", rd=1, imm=-2)
    assert (hart.s.values["pc"], hart.x.values[1]) == (RAM - 2, RAM + 4)
    hart.x.values[1] = RAM + 0x101
    execute(hart, "jalr", rd=1, rs1=1, imm=0x10)
    assert (hart.s.values["pc"], hart.x.values[1]) == (RAM + 0x110, RAM + 4)


def test_x0_stays_zero() -> None:
    (hart,) = machine()
    execute(hart, "addi", rd=0, rs1=0, imm=5)
    assert hart.x.values[0] == 0


def test_a_jump_to_an_odd_halfword_traps_at_the_jump_without_compressed_instructions() -> None:
    (hart,) = machine("rv64ima")
    execute(hart, "jal", rd=1, imm=6)
    assert (hart.s.values["mcause"], hart.s.values["mtval"], hart.s.values["mepc"]) == (0, RAM + 6, RAM)
    assert hart.x.values[1] == 0
    hart.x.values[6] = 1
    execute(hart, "beq", rs1=6, rs2=0, imm=6)
    assert hart.s.values["pc"] == RAM + 4, "a branch that is not taken does not trap"
