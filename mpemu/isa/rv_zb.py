"""Bit manipulation: Zba (address generation), Zbb (basic), Zbc (carry-less multiplication), Zbs (single bits); Zicond.

Unprivileged ISA, chapters "B" and "Zicond".
"""

from __future__ import annotations

from mpemu.isa.registry import insn
from mpemu.isa.rv_i import R_TYPE, SHIFT
from mpemu.isa.value import Value, value_of

UNARY = "{rd}, {rs1}"

# -- Zba


@insn("0010000 rs2 rs1 010 rd 0110011", R_TYPE, ext="Zba")
def sh1add(h, rd, rs1, rs2):
    """rs2 + 2 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 1)


@insn("0010000 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zba")
def sh2add(h, rd, rs1, rs2):
    """rs2 + 4 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 2)


@insn("0010000 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zba")
def sh3add(h, rd, rs1, rs2):
    """rs2 + 8 * rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1] << 3)


@insn("0000100 rs2 rs1 000 rd 0111011", R_TYPE, ext="Zba")
def add_uw(h, rd, rs1, rs2):
    """rs2 + the low word of rs1, zero-extended."""
    h.x[rd] = h.x[rs2] + h.x[rs1].lo(32).zext()


@insn("0010000 rs2 rs1 010 rd 0111011", R_TYPE, ext="Zba")
def sh1add_uw(h, rd, rs1, rs2):
    """rs2 + 2 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 1)


@insn("0010000 rs2 rs1 100 rd 0111011", R_TYPE, ext="Zba")
def sh2add_uw(h, rd, rs1, rs2):
    """rs2 + 4 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 2)


@insn("0010000 rs2 rs1 110 rd 0111011", R_TYPE, ext="Zba")
def sh3add_uw(h, rd, rs1, rs2):
    """rs2 + 8 * the low word of rs1."""
    h.x[rd] = h.x[rs2] + (h.x[rs1].lo(32).zext() << 3)


@insn("000010 shamt[5:0] rs1 001 rd 0011011", SHIFT, ext="Zba")
def slli_uw(h, rd, rs1, shamt):
    """The low word of rs1, zero-extended, shifted left."""
    h.x[rd] = h.x[rs1].lo(32).zext() << shamt


# -- Zbb


def rotate_left(a, amount):
    """``a`` rotated by ``amount`` (same width), taken modulo the width."""
    return a << (amount & (a.width - 1)) | a >> (-amount & (a.width - 1))


def rotate_right(a, amount):
    return rotate_left(a, -amount)


@insn("0100000 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zbb")
def andn(h, rd, rs1, rs2):
    """rs1 and not rs2."""
    h.x[rd] = h.x[rs1] & ~h.x[rs2]


@insn("0100000 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zbb")
def orn(h, rd, rs1, rs2):
    """rs1 or not rs2."""
    h.x[rd] = h.x[rs1] | ~h.x[rs2]


@insn("0100000 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zbb")
def xnor(h, rd, rs1, rs2):
    """Exclusive nor."""
    h.x[rd] = ~(h.x[rs1] ^ h.x[rs2])


@insn("0110000 00000 rs1 001 rd 0010011", UNARY, ext="Zbb")
def clz(h, rd, rs1):
    """Count leading zeros; 64 for 0."""
    h.x[rd] = h.x[rs1].clz()


@insn("0110000 00001 rs1 001 rd 0010011", UNARY, ext="Zbb")
def ctz(h, rd, rs1):
    """Count trailing zeros; 64 for 0."""
    h.x[rd] = h.x[rs1].ctz()


@insn("0110000 00010 rs1 001 rd 0010011", UNARY, ext="Zbb")
def cpop(h, rd, rs1):
    """Count set bits."""
    h.x[rd] = h.x[rs1].popcount()


@insn("0110000 00000 rs1 001 rd 0011011", UNARY, ext="Zbb")
def clzw(h, rd, rs1):
    """Count leading zeros of the low word; 32 for 0."""
    h.x[rd] = h.x[rs1].lo(32).clz().zext()


@insn("0110000 00001 rs1 001 rd 0011011", UNARY, ext="Zbb")
def ctzw(h, rd, rs1):
    """Count trailing zeros of the low word; 32 for 0."""
    h.x[rd] = h.x[rs1].lo(32).ctz().zext()


@insn("0110000 00010 rs1 001 rd 0011011", UNARY, ext="Zbb")
def cpopw(h, rd, rs1):
    """Count set bits of the low word."""
    h.x[rd] = h.x[rs1].lo(32).popcount().zext()


@insn("0000101 rs2 rs1 110 rd 0110011", R_TYPE, ext="Zbb", name="max")
def max_(h, rd, rs1, rs2):
    """Maximum, signed."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.lt(b).mux(b, a)


@insn("0000101 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zbb")
def maxu(h, rd, rs1, rs2):
    """Maximum, unsigned."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.ltu(b).mux(b, a)


@insn("0000101 rs2 rs1 100 rd 0110011", R_TYPE, ext="Zbb", name="min")
def min_(h, rd, rs1, rs2):
    """Minimum, signed."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.lt(b).mux(a, b)


@insn("0000101 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbb")
def minu(h, rd, rs1, rs2):
    """Minimum, unsigned."""
    a, b = h.x[rs1], h.x[rs2]
    h.x[rd] = a.ltu(b).mux(a, b)


@insn("0110000 00100 rs1 001 rd 0010011", UNARY, ext="Zbb")
def sext_b(h, rd, rs1):
    """Sign-extend the low byte."""
    h.x[rd] = h.x[rs1].lo(8).sext()


@insn("0110000 00101 rs1 001 rd 0010011", UNARY, ext="Zbb")
def sext_h(h, rd, rs1):
    """Sign-extend the low halfword."""
    h.x[rd] = h.x[rs1].lo(16).sext()


@insn("0000100 00000 rs1 100 rd 0111011", UNARY, ext="Zbb")
def zext_h(h, rd, rs1):
    """Zero-extend the low halfword."""
    h.x[rd] = h.x[rs1].lo(16).zext()


@insn("0110000 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbb")
def rol(h, rd, rs1, rs2):
    """Rotate left."""
    h.x[rd] = rotate_left(h.x[rs1], h.x[rs2])


@insn("0110000 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbb")
def ror(h, rd, rs1, rs2):
    """Rotate right."""
    h.x[rd] = rotate_right(h.x[rs1], h.x[rs2])


@insn("011000 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="Zbb")
def rori(h, rd, rs1, shamt):
    """Rotate right by immediate."""
    h.x[rd] = rotate_right(h.x[rs1], value_of(shamt))


@insn("0110000 rs2 rs1 001 rd 0111011", R_TYPE, ext="Zbb")
def rolw(h, rd, rs1, rs2):
    """Rotate the low word left."""
    h.x[rd] = rotate_left(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0110000 rs2 rs1 101 rd 0111011", R_TYPE, ext="Zbb")
def rorw(h, rd, rs1, rs2):
    """Rotate the low word right."""
    h.x[rd] = rotate_right(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0110000 shamt[4:0] rs1 101 rd 0011011", SHIFT, ext="Zbb")
def roriw(h, rd, rs1, shamt):
    """Rotate the low word right by immediate."""
    h.x[rd] = rotate_right(h.x[rs1].lo(32), value_of(shamt).lo(32)).sext()


@insn("001010000111 rs1 101 rd 0010011", UNARY, ext="Zbb")
def orc_b(h, rd, rs1):
    """Each byte that has a set bit becomes 0xff."""
    a = h.x[rs1]
    # Gather each byte's bits in its bit 0; what a shift drags in from the byte above lands higher and is masked away.
    a = a | (a >> 4) & 0x0F0F0F0F_0F0F0F0F
    a = a | (a >> 2) & 0x03030303_03030303
    a = a | (a >> 1) & 0x01010101_01010101
    h.x[rd] = (a & 0x01010101_01010101) * 0xFF


@insn("011010111000 rs1 101 rd 0010011", UNARY, ext="Zbb")
def rev8(h, rd, rs1):
    """Reverse the bytes."""
    h.x[rd] = h.x[rs1].bswap()


# -- Zbc


def carryless(a, b):
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


def carryless_reversed(a, b):
    """Bits 126..63 of the carry-less product: a product of mirrored operands is the mirrored product."""
    return carryless(a.bitreverse(), b.bitreverse()).bitreverse()


@insn("0000101 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbc")
def clmul(h, rd, rs1, rs2):
    """Carry-less multiply, low half."""
    h.x[rd] = carryless(h.x[rs1], h.x[rs2])


@insn("0000101 rs2 rs1 011 rd 0110011", R_TYPE, ext="Zbc")
def clmulh(h, rd, rs1, rs2):
    """Carry-less multiply, high half."""
    h.x[rd] = carryless_reversed(h.x[rs1], h.x[rs2]) >> 1


@insn("0000101 rs2 rs1 010 rd 0110011", R_TYPE, ext="Zbc")
def clmulr(h, rd, rs1, rs2):
    """Carry-less multiply, bits 126 to 63."""
    h.x[rd] = carryless_reversed(h.x[rs1], h.x[rs2])


# -- Zbs


def one_bit(amount):
    """A 64-bit value with only the bit ``amount`` (an operand, taken modulo 64) set."""
    return Value(1, 64) << (amount & 63)


@insn("0100100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def bclr(h, rd, rs1, rs2):
    """Clear a bit."""
    h.x[rd] = h.x[rs1] & ~one_bit(h.x[rs2])


@insn("010010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def bclri(h, rd, rs1, shamt):
    """Clear a bit named by an immediate."""
    h.x[rd] = h.x[rs1] & ~one_bit(shamt)


@insn("0100100 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zbs")
def bext(h, rd, rs1, rs2):
    """Extract a bit."""
    h.x[rd] = h.x[rs1] >> (h.x[rs2] & 63) & 1


@insn("010010 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="Zbs")
def bexti(h, rd, rs1, shamt):
    """Extract a bit named by an immediate."""
    h.x[rd] = h.x[rs1] >> shamt & 1


@insn("0110100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def binv(h, rd, rs1, rs2):
    """Invert a bit."""
    h.x[rd] = h.x[rs1] ^ one_bit(h.x[rs2])


@insn("011010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def binvi(h, rd, rs1, shamt):
    """Invert a bit named by an immediate."""
    h.x[rd] = h.x[rs1] ^ one_bit(shamt)


@insn("0010100 rs2 rs1 001 rd 0110011", R_TYPE, ext="Zbs")
def bset(h, rd, rs1, rs2):
    """Set a bit."""
    h.x[rd] = h.x[rs1] | one_bit(h.x[rs2])


@insn("001010 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="Zbs")
def bseti(h, rd, rs1, shamt):
    """Set a bit named by an immediate."""
    h.x[rd] = h.x[rs1] | one_bit(shamt)


# -- Zicond


@insn("0000111 rs2 rs1 101 rd 0110011", R_TYPE, ext="Zicond")
def czero_eqz(h, rd, rs1, rs2):
    """Zero if rs2 is zero, else rs1."""
    h.x[rd] = (h.x[rs2] == 0).mux(0, h.x[rs1])


@insn("0000111 rs2 rs1 111 rd 0110011", R_TYPE, ext="Zicond")
def czero_nez(h, rd, rs1, rs2):
    """Zero if rs2 is not zero, else rs1."""
    h.x[rd] = (h.x[rs2] == 0).mux(h.x[rs1], 0)
