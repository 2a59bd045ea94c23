"""Bit manipulation: Zba (address generation), Zbb (basic), Zbc (carry-less multiplication), Zbs (single bits); Zicond.

Unprivileged ISA, chapters "B" and "Zicond".
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.registry import insn
from mpemu.isa.rv_i import R_TYPE, SHIFT
from mpemu.isa.value import Value, value_of

UNARY = "{rd}, {rs1}"

# -- Zba


@insn("0010000 rs2 rs1 010 rd 0110011", R_TYPE, ext="Zba")
def sh1add(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 2 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 1)


@insn("0010000 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zba")
def sh2add(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 4 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 2)


@insn("0010000 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zba")
def sh3add(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 8 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 3)


@insn("0000100 rs2 rs1 000 rd 0111011", R_TYPE, ext="Zba")
def add_uw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + the low word of rs1, zero-extended."""
    h.x[rd] = h.x[rs2] + h.x[rs1].lo(32).zext()


@insn("0010000 rs2 rs1 010 rd 0111011", R_TYPE, ext="Zba")
def sh1add_uw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 2 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 1)


@insn("0010000 rs2 rs1 100 rd 0111011", R_TYPE, ext="Zba")
def sh2add_uw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 4 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 2)


@insn("0010000 rs2 rs1 110 rd 0111011", R_TYPE, ext="Zba")
def sh3add_uw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs2 + 8 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 3)


@insn("000010 shamt[5:0] rs1 001 rd 0011011", SHIFT, ext="Zba")
def slli_uw(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """The low word of rs1, zero-extended, shifted left."""
    h.x[rd] = h.x[rs1].lo(32).zext() << shamt


# -- Zbb


def rotate_left(a: Value, amount: Value) -> Value:
    """``a`` rotated by ``amount`` (same width), taken modulo the width."""
    return a << (amount & (a.width - 1)) | a >> (-amount & (a.width - 1))


def rotate_right(a: Value, amount: Value) -> Value:
    return rotate_left(a, -amount)


@insn("0100000 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zbb")
def andn(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs1 and not rs2."""
    h.x[rd] = h.x[rs1] & ~h.x[rs2]


@insn("0100000 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zbb")
def orn(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """rs1 or not rs2."""
    h.x[rd] = h.x[rs1] | ~h.x[rs2]


@insn("0100000 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zbb")
def xnor(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Exclusive nor."""
    h.x[rd] = ~(h.x[rs1] ^ h.x[rs2])


@insn("0110000 00000 rs1 001 rd 0010011", UNARY, ext="Zbb")
def clz(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count leading zeros; 64 for 0."""
    h.x[rd] = h.x[rs1].clz()


@insn("0110000 00001 rs1 001 rd 0010011", UNARY, ext="Zbb")
def ctz(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count trailing zeros; 64 for 0."""
    h.x[rd] = h.x[rs1].ctz()


@insn("0110000 00010 rs1 001 rd 0010011", UNARY, ext="Zbb")
def cpop(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count set bits."""
    h.x[rd] = h.x[rs1].popcount()


@insn("0110000 00000 rs1 001 rd 0011011", UNARY, ext="Zbb")
def clzw(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count leading zeros of the low word; 32 for 0."""
    h.x[rd] = h.x[rs1].lo(32).clz().zext()


@insn("0110000 00001 rs1 001 rd 0011011", UNARY, ext="Zbb")
def ctzw(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count trailing zeros of the low word; 32 for 0."""
    h.x[rd] = h.x[rs1].lo(32).ctz().zext()


@insn("0110000 00010 rs1 001 rd 0011011", UNARY, ext="Zbb")
def cpopw(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Count set bits of the low word."""
    h.x[rd] = h.x[rs1].lo(32).popcount().zext()


@insn("0000101 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zbb", name="max")
def max_(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Maximum, signed."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.lt(b).mux(b, a)


@insn("0000101 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zbb")
def maxu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Maximum, unsigned."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.ltu(b).mux(b, a)


@insn("0000101 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zbb", name="min")
def min_(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Minimum, signed."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.lt(b).mux(a, b)


@insn("0000101 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbb")
def minu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Minimum, unsigned."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.ltu(b).mux(a, b)


@insn("0110000 00100 rs1 001 rd 0010011", UNARY, ext="Zbb")
def sext_b(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Sign-extend the low byte."""
    h.x[rd] = h.x[rs1].lo(8).sext()


@insn("0110000 00101 rs1 001 rd 0010011", UNARY, ext="Zbb")
def sext_h(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Sign-extend the low halfword."""
    h.x[rd] = h.x[rs1].lo(16).sext()


@insn("0000100 00000 rs1 100 rd 0111011", UNARY, ext="Zbb")
def zext_h(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Zero-extend the low halfword."""
    h.x[rd] = h.x[rs1].lo(16).zext()


@insn("0110000 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbb")
def rol(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Rotate left."""
    h.x[rd] = rotate_left(h.x[rs1], h.x[rs2])


@insn("0110000 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbb")
def ror(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Rotate right."""
    h.x[rd] = rotate_right(h.x[rs1], h.x[rs2])


@insn("011000 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="Zbb")
def rori(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Rotate right by immediate."""
    h.x[rd] = rotate_right(h.x[rs1], value_of(shamt))


@insn("0110000 rs2 rs1 001 rd 0111011", R_TYPE, ext="Zbb")
def rolw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Rotate the low word left."""
    h.x[rd] = rotate_left(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0110000 rs2 rs1 101 rd 0111011", R_TYPE, ext="Zbb")
def rorw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Rotate the low word right."""
    h.x[rd] = rotate_right(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0110000 shamt[4:0] rs1 101 rd 0011011", SHIFT, ext="Zbb")
def roriw(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Rotate the low word right by immediate."""
    h.x[rd] = rotate_right(h.x[rs1].lo(32), value_of(shamt).lo(32)).sext()


@insn("001010000111 rs1 101 rd 0010011", UNARY, ext="Zbb")
def orc_b(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Each byte that has a set bit becomes 0xff."""
    a = h.x[rs1]
    # Gather each byte's bits in its bit 0; what a shift drags in from the byte above lands higher and is masked away.
    a = a | (a >> 4) & 0x0F0F0F0F_0F0F0F0F
    a = a | (a >> 2) & 0x03030303_03030303
    a = a | (a >> 1) & 0x01010101_01010101
    h.x[rd] = (a & 0x01010101_01010101) * 0xFF


@insn("011010111000 rs1 101 rd 0010011", UNARY, ext="Zbb")
def rev8(h: Hart, rd: Operand, rs1: Operand) -> None:
    """Reverse the bytes."""
    h.x[rd] = h.x[rs1].bswap()


# -- Zbc


def carryless(a: Value, b: Value) -> Value:
    """The low 64 bits of the carry-less product.

    Each operand is split into four parts that keep every fourth bit. A column of an integer product of two parts sums
    at most 16 ones, and 16 only from bit 60 up, so its carries stay in the three bits between columns or leave at the
    top; the column's own bit is the parity, which is what a product without carries has there.
    """
    masks = [0x11111111_11111111 << i for i in range(4)]
    result = Value(0, 64)
    for column, mask in enumerate(masks):
        total = Value(0, 64)
        for i in range(4):
            total = total ^ (a & masks[i]) * (b & masks[(column - i) % 4])
        result = result | total & mask
    return result


def carryless_reversed(a: Value, b: Value) -> Value:
    """Bits 126..63 of the carry-less product: a product of mirrored operands is the mirrored product."""
    return carryless(a.bitreverse(), b.bitreverse()).bitreverse()


@insn("0000101 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbc")
def clmul(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Carry-less multiply, low half."""
    h.x[rd] = carryless(h.x[rs1], h.x[rs2])


@insn("0000101 rs2 rs1 011 rd 0110011", R_TYPE, ext="Zbc")
def clmulh(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Carry-less multiply, high half."""
    h.x[rd] = carryless_reversed(h.x[rs1], h.x[rs2]) >> 1


@insn("0000101 rs2 rs1 010 rd 0110011", R_TYPE, ext="Zbc")
def clmulr(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Carry-less multiply, bits 126 to 63."""
    h.x[rd] = carryless_reversed(h.x[rs1], h.x[rs2])


# -- Zbs


def one_bit(amount: Operand) -> Value:
    """A 64-bit value with only the bit ``amount`` (an operand, taken modulo 64) set."""
    return Value(1, 64) << (amount & 63)


@insn("0100100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def bclr(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Clear a bit."""
    h.x[rd] = h.x[rs1] & ~one_bit(h.x[rs2])


@insn("010010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def bclri(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Clear a bit named by an immediate."""
    h.x[rd] = h.x[rs1] & ~one_bit(shamt)


@insn("0100100 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbs")
def bext(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Extract a bit."""
    h.x[rd] = h.x[rs1] >> (h.x[rs2] & 63) & 1


@insn("010010 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="Zbs")
def bexti(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Extract a bit named by an immediate."""
    h.x[rd] = h.x[rs1] >> shamt & 1


@insn("0110100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def binv(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Invert a bit."""
    h.x[rd] = h.x[rs1] ^ one_bit(h.x[rs2])


@insn("011010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def binvi(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Invert a bit named by an immediate."""
    h.x[rd] = h.x[rs1] ^ one_bit(shamt)


@insn("0010100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def bset(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Set a bit."""
    h.x[rd] = h.x[rs1] | one_bit(h.x[rs2])


@insn("001010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def bseti(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Set a bit named by an immediate."""
    h.x[rd] = h.x[rs1] | one_bit(shamt)


# -- Zicond


@insn("0000111 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zicond")
def czero_eqz(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Zero if rs2 is zero, else rs1."""
    h.x[rd] = (h.x[rs2] == 0).mux(0, h.x[rs1])


@insn("0000111 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zicond")
def czero_nez(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Zero if rs2 is not zero, else rs1."""
    h.x[rd] = (h.x[rs2] == 0).mux(h.x[rs1], 0)
