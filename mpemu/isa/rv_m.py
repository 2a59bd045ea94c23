"""M: multiplication and division. Unprivileged ISA, chapter "M" (the table of division's special cases is in it)."""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.registry import insn
from mpemu.isa.rv_i import R_TYPE
from mpemu.isa.value import Value


def divide(a: Value, b: Value) -> Value:
    """Signed quotient of equal widths: -1 for a division by zero, the dividend when the quotient overflows."""
    zero = b == 0
    overflow = (a == 1 << (a.width - 1)) & (b == -1)
    return zero.mux(-1, a.sdiv((zero | overflow).mux(1, b)))


def remainder(a: Value, b: Value) -> Value:
    """Signed remainder: the dividend for a division by zero, 0 when the quotient overflows."""
    zero = b == 0
    overflow = (a == 1 << (a.width - 1)) & (b == -1)
    return zero.mux(a, a.srem((zero | overflow).mux(1, b)))


def divide_unsigned(a: Value, b: Value) -> Value:
    """Unsigned quotient; all ones for a division by zero."""
    zero = b == 0
    return zero.mux(-1, a.udiv(zero.mux(1, b)))


def remainder_unsigned(a: Value, b: Value) -> Value:
    """Unsigned remainder; the dividend for a division by zero."""
    zero = b == 0
    return zero.mux(a, a.urem(zero.mux(1, b)))


@insn("0000001 rs2 rs1 000 rd 0110011", R_TYPE, ext="M")
def mul(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Multiply, low half."""
    h.x[rd] = h.x[rs1] * h.x[rs2]


@insn("0000001 rs2 rs1 001 rd 0110011", R_TYPE, ext="M")
def mulh(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Multiply signed by signed, high half."""
    h.x[rd] = (h.x[rs1].sext(128) * h.x[rs2].sext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 010 rd 0110011", R_TYPE, ext="M")
def mulhsu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Multiply signed by unsigned, high half."""
    h.x[rd] = (h.x[rs1].sext(128) * h.x[rs2].zext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 011 rd 0110011", R_TYPE, ext="M")
def mulhu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Multiply unsigned by unsigned, high half."""
    h.x[rd] = (h.x[rs1].zext(128) * h.x[rs2].zext(128)).bits(127, 64)


@insn("0000001 rs2 rs1 100 rd 0110011", R_TYPE, ext="M")
def div(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Divide, signed."""
    h.x[rd] = divide(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 101 rd 0110011", R_TYPE, ext="M")
def divu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Divide, unsigned."""
    h.x[rd] = divide_unsigned(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 110 rd 0110011", R_TYPE, ext="M")
def rem(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Remainder, signed; it has the dividend's sign."""
    h.x[rd] = remainder(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 111 rd 0110011", R_TYPE, ext="M")
def remu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Remainder, unsigned."""
    h.x[rd] = remainder_unsigned(h.x[rs1], h.x[rs2])


@insn("0000001 rs2 rs1 000 rd 0111011", R_TYPE, ext="M")
def mulw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Multiply, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) * h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 100 rd 0111011", R_TYPE, ext="M")
def divw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Divide, signed, 32 bits."""
    h.x[rd] = divide(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 101 rd 0111011", R_TYPE, ext="M")
def divuw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Divide, unsigned, 32 bits."""
    h.x[rd] = divide_unsigned(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 110 rd 0111011", R_TYPE, ext="M")
def remw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Remainder, signed, 32 bits."""
    h.x[rd] = remainder(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()


@insn("0000001 rs2 rs1 111 rd 0111011", R_TYPE, ext="M")
def remuw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Remainder, unsigned, 32 bits."""
    h.x[rd] = remainder_unsigned(h.x[rs1].lo(32), h.x[rs2].lo(32)).sext()
