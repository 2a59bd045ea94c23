"""RV64I, the base integer instructions, with Zifencei, Zihintpause.

Unprivileged ISA, chapters "RV32I", "RV64I", "Zifencei", "Zihintpause". SYSTEM instructions are in the privileged files.
An operand field reaches a body as a Python int or as a 64-bit run-time value, so 32-bit operations take an immediate in
64-bit arithmetic and cut the result.
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.registry import insn
from mpemu.isa.value import Value, value_of

R_TYPE = "{rd}, {rs1}, {rs2}"
I_TYPE = "{rd}, {rs1}, {imm}"
SHIFT = "{rd}, {rs1}, {shamt}"
LOAD = "{rd}, {imm}({rs1})"
STORE = "{rs2}, {imm}({rs1})"
BRANCH = "{rs1}, {rs2}, {imm:pc}"

MISALIGNED_FETCH = 0


def check_target(h: Hart, target: Value) -> None:
    """Without compressed instructions a jump to an odd halfword traps, at the jump."""
    if not h.isa.has("C"):
        with h.when(target.bit(1)):
            h.trap(MISALIGNED_FETCH, target)


def branch(h: Hart, condition: Value, imm: Operand) -> None:
    with h.when(condition):
        target = h.pc + imm
        check_target(h, target)
        h.jump(target)


# -- constants and jumps


@insn("imm[31:12] rd 0110111", "{rd}, {imm:upper}", ext="I")
def lui(h: Hart, rd: Operand, imm: Operand) -> None:
    """Load upper immediate."""
    h.x[rd] = value_of(imm)


@insn("imm[31:12] rd 0010111", "{rd}, {imm:upper}", ext="I")
def auipc(h: Hart, rd: Operand, imm: Operand) -> None:
    """Add upper immediate to pc."""
    h.x[rd] = h.pc + imm


@insn("imm[20|10:1|11|19:12] rd 1101111", "{rd}, {imm:pc}", ext="I", ends_block=True)
def jal(h: Hart, rd: Operand, imm: Operand) -> None:
    """Jump and link."""
    target = h.pc + imm
    check_target(h, target)
    h.x[rd] = h.next_pc
    h.jump(target)


@insn("imm[11:0] rs1 000 rd 1100111", LOAD, ext="I", ends_block=True)
def jalr(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Jump and link to a register plus offset; bit 0 of the target is cleared."""
    target = (h.x[rs1] + imm) & ~1
    check_target(h, target)
    h.x[rd] = h.next_pc
    h.jump(target)


@insn("imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def beq(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if equal."""
    branch(h, h.x[rs1] == h.x[rs2], imm)


@insn("imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def bne(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if not equal."""
    branch(h, h.x[rs1] != h.x[rs2], imm)


@insn("imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def blt(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if less than, signed."""
    branch(h, h.x[rs1].lt(h.x[rs2]), imm)


@insn("imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def bge(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if greater than or equal, signed."""
    branch(h, h.x[rs1].ge(h.x[rs2]), imm)


@insn("imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def bltu(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if less than, unsigned."""
    branch(h, h.x[rs1].ltu(h.x[rs2]), imm)


@insn("imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011", BRANCH, ext="I", ends_block=True)
def bgeu(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Branch if greater than or equal, unsigned."""
    branch(h, h.x[rs1].geu(h.x[rs2]), imm)


# -- loads and stores


@insn("imm[11:0] rs1 000 rd 0000011", LOAD, ext="I")
def lb(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load byte, sign-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 8).sext()


@insn("imm[11:0] rs1 001 rd 0000011", LOAD, ext="I")
def lh(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load halfword, sign-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 16).sext()


@insn("imm[11:0] rs1 010 rd 0000011", LOAD, ext="I")
def lw(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load word, sign-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 32).sext()


@insn("imm[11:0] rs1 011 rd 0000011", LOAD, ext="I")
def ld(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load doubleword."""
    h.x[rd] = h.load(h.x[rs1] + imm, 64)


@insn("imm[11:0] rs1 100 rd 0000011", LOAD, ext="I")
def lbu(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load byte, zero-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 8).zext()


@insn("imm[11:0] rs1 101 rd 0000011", LOAD, ext="I")
def lhu(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load halfword, zero-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 16).zext()


@insn("imm[11:0] rs1 110 rd 0000011", LOAD, ext="I")
def lwu(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Load word, zero-extended."""
    h.x[rd] = h.load(h.x[rs1] + imm, 32).zext()


@insn("imm[11:5] rs2 rs1 000 imm[4:0] 0100011", STORE, ext="I")
def sb(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Store byte."""
    h.store(h.x[rs1] + imm, h.x[rs2].lo(8))


@insn("imm[11:5] rs2 rs1 001 imm[4:0] 0100011", STORE, ext="I")
def sh(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Store halfword."""
    h.store(h.x[rs1] + imm, h.x[rs2].lo(16))


@insn("imm[11:5] rs2 rs1 010 imm[4:0] 0100011", STORE, ext="I")
def sw(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Store word."""
    h.store(h.x[rs1] + imm, h.x[rs2].lo(32))


@insn("imm[11:5] rs2 rs1 011 imm[4:0] 0100011", STORE, ext="I")
def sd(h: Hart, rs1: Operand, rs2: Operand, imm: Operand) -> None:
    """Store doubleword."""
    h.store(h.x[rs1] + imm, h.x[rs2])


# -- 64-bit arithmetic with an immediate


@insn("imm[11:0] rs1 000 rd 0010011", I_TYPE, ext="I")
def addi(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Add immediate."""
    h.x[rd] = h.x[rs1] + imm


@insn("imm[11:0] rs1 010 rd 0010011", I_TYPE, ext="I")
def slti(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Set if less than immediate, signed."""
    h.x[rd] = h.x[rs1].lt(imm).zext()


@insn("imm[11:0] rs1 011 rd 0010011", I_TYPE, ext="I")
def sltiu(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Set if less than the sign-extended immediate, unsigned."""
    h.x[rd] = h.x[rs1].ltu(imm).zext()


@insn("imm[11:0] rs1 100 rd 0010011", I_TYPE, ext="I")
def xori(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Exclusive or with immediate."""
    h.x[rd] = h.x[rs1] ^ imm


@insn("imm[11:0] rs1 110 rd 0010011", I_TYPE, ext="I")
def ori(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Or with immediate. With rd = x0 the encodings of the prefetch hints (Zicbop)."""
    h.x[rd] = h.x[rs1] | imm


@insn("imm[11:0] rs1 111 rd 0010011", I_TYPE, ext="I")
def andi(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """And with immediate."""
    h.x[rd] = h.x[rs1] & imm


@insn("000000 shamt[5:0] rs1 001 rd 0010011", SHIFT, ext="I")
def slli(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Shift left by immediate."""
    h.x[rd] = h.x[rs1] << shamt


@insn("000000 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="I")
def srli(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Logical shift right by immediate."""
    h.x[rd] = h.x[rs1] >> shamt


@insn("010000 shamt[5:0] rs1 101 rd 0010011", SHIFT, ext="I")
def srai(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Arithmetic shift right by immediate."""
    h.x[rd] = h.x[rs1].sra(shamt)


# -- 64-bit arithmetic between registers


@insn("0000000 rs2 rs1 000 rd 0110011", R_TYPE, ext="I")
def add(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Add."""
    h.x[rd] = h.x[rs1] + h.x[rs2]


@insn("0100000 rs2 rs1 000 rd 0110011", R_TYPE, ext="I")
def sub(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Subtract."""
    h.x[rd] = h.x[rs1] - h.x[rs2]


@insn("0000000 rs2 rs1 001 rd 0110011", R_TYPE, ext="I")
def sll(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Shift left by the low 6 bits of rs2."""
    h.x[rd] = h.x[rs1] << (h.x[rs2] & 63)


@insn("0000000 rs2 rs1 010 rd 0110011", R_TYPE, ext="I")
def slt(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Set if less than, signed."""
    h.x[rd] = h.x[rs1].lt(h.x[rs2]).zext()


@insn("0000000 rs2 rs1 011 rd 0110011", R_TYPE, ext="I")
def sltu(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Set if less than, unsigned."""
    h.x[rd] = h.x[rs1].ltu(h.x[rs2]).zext()


@insn("0000000 rs2 rs1 100 rd 0110011", R_TYPE, ext="I")
def xor(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Exclusive or."""
    h.x[rd] = h.x[rs1] ^ h.x[rs2]


@insn("0000000 rs2 rs1 101 rd 0110011", R_TYPE, ext="I")
def srl(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Logical shift right by the low 6 bits of rs2."""
    h.x[rd] = h.x[rs1] >> (h.x[rs2] & 63)


@insn("0100000 rs2 rs1 101 rd 0110011", R_TYPE, ext="I")
def sra(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Arithmetic shift right by the low 6 bits of rs2."""
    h.x[rd] = h.x[rs1].sra(h.x[rs2] & 63)


@insn("0000000 rs2 rs1 110 rd 0110011", R_TYPE, ext="I")
def or_(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Or."""
    h.x[rd] = h.x[rs1] | h.x[rs2]


@insn("0000000 rs2 rs1 111 rd 0110011", R_TYPE, ext="I")
def and_(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """And."""
    h.x[rd] = h.x[rs1] & h.x[rs2]


# -- 32-bit arithmetic: the low words are combined, the result is sign-extended


@insn("imm[11:0] rs1 000 rd 0011011", I_TYPE, ext="I")
def addiw(h: Hart, rd: Operand, rs1: Operand, imm: Operand) -> None:
    """Add immediate, 32 bits."""
    h.x[rd] = (h.x[rs1] + imm).lo(32).sext()


@insn("0000000 shamt[4:0] rs1 001 rd 0011011", SHIFT, ext="I")
def slliw(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Shift left by immediate, 32 bits."""
    h.x[rd] = (h.x[rs1] << shamt).lo(32).sext()


@insn("0000000 shamt[4:0] rs1 101 rd 0011011", SHIFT, ext="I")
def srliw(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Logical shift right by immediate, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32).zext() >> shamt).lo(32).sext()


@insn("0100000 shamt[4:0] rs1 101 rd 0011011", SHIFT, ext="I")
def sraiw(h: Hart, rd: Operand, rs1: Operand, shamt: Operand) -> None:
    """Arithmetic shift right by immediate, 32 bits."""
    h.x[rd] = h.x[rs1].lo(32).sext().sra(shamt)


@insn("0000000 rs2 rs1 000 rd 0111011", R_TYPE, ext="I")
def addw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Add, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) + h.x[rs2].lo(32)).sext()


@insn("0100000 rs2 rs1 000 rd 0111011", R_TYPE, ext="I")
def subw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Subtract, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) - h.x[rs2].lo(32)).sext()


@insn("0000000 rs2 rs1 001 rd 0111011", R_TYPE, ext="I")
def sllw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Shift left by the low 5 bits of rs2, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) << (h.x[rs2].lo(32) & 31)).sext()


@insn("0000000 rs2 rs1 101 rd 0111011", R_TYPE, ext="I")
def srlw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Logical shift right by the low 5 bits of rs2, 32 bits."""
    h.x[rd] = (h.x[rs1].lo(32) >> (h.x[rs2].lo(32) & 31)).sext()


@insn("0100000 rs2 rs1 101 rd 0111011", R_TYPE, ext="I")
def sraw(h: Hart, rd: Operand, rs1: Operand, rs2: Operand) -> None:
    """Arithmetic shift right by the low 5 bits of rs2, 32 bits."""
    h.x[rd] = h.x[rs1].lo(32).sra(h.x[rs2].lo(32) & 31).sext()


# -- memory ordering. rs1 and rd are reserved fields that implementations ignore.


@insn("fm[3:0] pred[3:0] succ[3:0] rs1 000 rd 0001111", "{pred:iorw}, {succ:iorw}", ext="I")
def fence(h: Hart, pred: Operand, succ: Operand, fm: Operand) -> None:
    """Order memory accesses: predecessors before successors."""
    h.fence(pred, succ, fm)


@insn("1000 0011 0011 00000 000 00000 0001111", ext="I")
def fence_tso(h: Hart) -> None:
    """Order all but stores before loads."""
    h.fence(0b0011, 0b0011, 0b1000)


@insn("0000 0001 0000 00000 000 00000 0001111", ext="Zihintpause")
def pause(h: Hart) -> None:
    """Hint in a spin loop: give other harts room."""
    h.pause()


@insn("imm[11:0] rs1 001 rd 0001111", ext="Zifencei", ends_block=True)
def fence_i(h: Hart) -> None:
    """Make this hart's own stores visible to its instruction fetches."""
    h.fence_i()
