"""M: multiplication and division. Unprivileged ISA, chapter "M" (the table of division's special cases is in it)."""

from __future__ import annotations

from mpemu.isa.registry import insn
from mpemu.isa.rv_i import R_TYPE


def divide(a, b):
    """Signed quotient of equal widths: -1 for a division by zero, the dividend when the quotient overflows."""
    zero = b == 0
    overflow = (a == 1 << (a.width - 1)) & (b == -1)
    return zero.mux(-1, a.sdiv((zero | overflow).mux(1, b)))


def remainder(a, b):
    """Signed remainder: the dividend for a division by zero, 0 when the quotient overflows."""
    zero = b == 0
    overflow = (a == 1 << (a.width - 1)) & (b == -1)
    return zero.mux(a, a.srem((zero | overflow).mux(1, b)))


def divide_unsigned(a, b):
    """Unsigned quotient; all ones for a division by zero."""
    zero = b == 0
    return zero.mux(-1, a.udiv(zero.mux(1, b)))


def remainder_unsigned(a, b):
    """Unsigned remainder; the dividend for a division by zero."""
    zero = b == 0
    return zero.mux(a, a.urem(zero.mux(1, b)))


@insn("0000001 rs2 rs1 000 rd 0110011", R_TYPE, ext="M")
def mul(h, rd, rs1, rs2):
    """Multiply, low half."""
    h.x[rd] = h.x[rs1] * h.x[rs2]


@insn("0000001 rs2 rs1 001 rd 0110011", R_TYPE, ext="M")
def mulh(h, rd, rs1, rs2):
    """Multiply signed by signed, high half."""
    h.x[rd] = (h.x[rs1].sext(128) * h.x[rs2].sext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 010 rd 0110011", R_TYPE, ext="M")
def mulhsu(h, rd, rs1, rs2):
    """Multiply signed by unsigned, high half."""
    h.x[rd] = (h.x[rs1].sext(128) * h.x[rs2].zext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 011 rd 0110011", R_TYPE, ext="M")
def mulhu(h, rd, rs1, rs2):
    """Multiply unsigned by unsigned, high half."""
    h.x[rd] = (h.x[rs1].zext(128) * h.x[rs2].zext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 100 rd 0110011", R_TYPE, ext="M")
def div(h, rd, rs1, rs2):
    """Divide, signed."""
    h.x[rd] = divide(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 101 rd 0110011", R_TYPE, ext="M")
def divu(h, rd, rs1, rs2):
    """Divide, unsigned."""
    h.x[rd] = divide_unsigned(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 110 rd 0110011", R_TYPE, ext="M")
def rem(h, rd, rs1, rs2):
    """Remainder, signed; it has the dividend's sign."""
    h.x[rd] = remainder(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 111 rd 0110011", R_TYPE, ext="M")
def remu(h, rd, rs1, rs2):
    """Remainder, unsigned."""
    h.x[rd] = remainder_unsigned(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 000 rd 0111011", R_TYPE, ext="M")
def mulw(h, rd, rs1, rs2):
    """Multiply, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) * h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 100 rd 0111011", R_TYPE, ext="M")
def divw(h, rd, rs1, rs2):
    """Divide, signed, 32 bits."""
    h.x[rd] = divide(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 101 rd 0111011", R_TYPE, ext="M")
def divuw(h, rd, rs1, rs2):
    """Divide, unsigned, 32 bits."""
    h.x[rd] = divide_unsigned(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 110 rd 0111011", R_TYPE, ext="M")
def remw(h, rd, rs1, rs2):
    """Remainder, signed, 32 bits."""
    h.x[rd] = remainder(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 111 rd 0111011", R_TYPE, ext="M")
def remuw(h, rd, rs1, rs2):
    """Remainder, unsigned, 32 bits."""
    h.x[rd] = remainder_unsigned(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()
