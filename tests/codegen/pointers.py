"""Bodies of loops that move pointers about: a2, and a3; sp and a5 are theirs to use, a0 sums up what they load.

:data:`CALLED` lies at + :data:`FUNCTION` from where such a loop begins.
"""

from __future__ import annotations

from random import Random

from tests.codegen.lab import A0, A1, A2, A3, A4, asm
from tests.codegen.paged_program import RA, RETURN, adds, call

SP, T1, A5, T2 = 2, 6, 15, 28
FUNCTION = 0x100


def load(imm: int, name: str = "ld", base: int = A2) -> bytes:
    return asm(name, rd=A4, rs1=base, imm=imm) + asm("add", rd=A0, rs1=A0, rs2=A4)


def store(imm: int, name: str = "sd", base: int = A2) -> bytes:
    return asm(name, rs1=base, rs2=A0, imm=imm)


def unless_zero(register: int, body: bytes) -> bytes:
    return asm("beq", rs1=register, rs2=0, imm=len(body) + 4) + body


FRAME = adds(SP, -32) + store(24, base=SP) + store(0, base=SP) + load(24, base=SP) + adds(SP, 32)
INNER = adds(A5, 3) + load(0) + adds(A5, -1) + asm("bne", rs1=A5, rs2=0, imm=-12)
WIDE = load(-2048) + load(2040) + adds(A2, 2040) + load(2040) + adds(A2, -2040)
INTO_LUI = (0x6218 << 16 | T1 << 7 | 0x37).to_bytes(4, "little")
"""lui t1, 0x62180, whose second half is c.ld a4, 0(a2)."""


def perhaps_into(register: int) -> bytes:
    """Behind this, :data:`INTO_LUI` is executed from its middle on if the register is 0."""
    return asm("beq", rs1=register, rs2=0, imm=6)


LOOPS = (asm("addi", rd=A5, rs1=0, imm=20) + asm("addi", rd=T2, rs1=0, imm=5), unless_zero(A2, adds(A2, 8)), load(0))
BODIES = {
    "up": load(0) + adds(A2, 8),
    "up by bytes": load(0, "lbu") + store(1, "sb") + adds(A2, 1),
    "up, far": load(0) + store(2040) + adds(A2, 2047),
    "down": load(-8) + adds(A2, -8),
    "down by bytes": adds(A2, -1) + load(0, "lb"),
    "up and down": load(0) + adds(A2, 16) + store(0) + adds(A2, -24),
    "by a register": load(0) + store(8) + asm("add", rd=A2, rs1=A2, rs2=A3),
    "two by turns": load(0) + load(0, base=A3) + adds(A2, 8) + adds(A3, -8),
    "a copy": asm("add", rd=A5, rs1=A2, rs2=0) + load(0) + load(8, base=A5) + store(-8, base=A5) + adds(A2, 8),
    "a frame": load(0) + asm("add", rd=SP, rs1=A2, rs2=0) + FRAME + adds(A2, 8),
    "in one of two ways": asm("andi", rd=A5, rs1=A1, imm=2) + unless_zero(A5, load(0)) + load(-16) + adds(A2, 8),
    "before and behind": store(0) + asm("andi", rd=A5, rs1=A1, imm=1) + unless_zero(A5, adds(A2, 64)) + load(0),
    "far apart": asm("andi", rd=A5, rs1=A1, imm=0)
    + asm("add", rd=A5, rs1=A5, rs2=A2)
    + asm("beq", rs1=A1, rs2=A0, imm=16)
    + load(2000, base=A5)
    + asm("jal", rd=0, imm=12)
    + load(-2000, base=A5)
    + load(-100, base=A5)
    + adds(A2, 8),
    "far and wide": WIDE
    + adds(A5, 3)
    + asm("beq", rs1=A5, rs2=0, imm=len(WIDE) + 12)
    + WIDE
    + adds(A5, -1)
    + asm("jal", rd=0, imm=-len(WIDE) - 8)
    + adds(A2, 8),
    "far away": adds(A2, 2040) * 3 + load(2040) + adds(A2, -2040) * 3 + adds(A2, 8),
    "a loop in it": INNER + store(8) + adds(A2, 8),
    "a call": call(FUNCTION, RA) + adds(A2, 8),
    "into an instruction": asm("andi", rd=A5, rs1=A1, imm=2)
    + asm("bne", rs1=A5, rs2=0, imm=24)
    + asm("andi", rd=A5, rs1=A1, imm=1)
    + perhaps_into(A5)
    + INTO_LUI
    + load(0),
    "a loop behind a loop": LOOPS[0]
    + LOOPS[1]
    + adds(A5, -1)
    + asm("bne", rs1=A5, rs2=0, imm=-len(LOOPS[1]) - 4)
    + LOOPS[2]
    + adds(T2, -1)
    + asm("bne", rs1=T2, rs2=0, imm=-len(LOOPS[2]) - 4),
    "what it loads": store(0) + asm("sd", rs1=A2, rs2=A2, imm=0) + asm("ld", rd=A2, rs1=A2, imm=0) + adds(A2, 8),
    "by x0": unless_zero(A1, load(0)) + asm("ld", rd=A4, rs1=0, imm=-8) + adds(A2, 8),
}
CALLED = adds(SP, -16) + asm("sd", rs1=SP, rs2=A0, imm=8) + load(0) + load(8, base=SP) + adds(SP, 16) + RETURN


def random_body(random: Random) -> bytes:
    """Some of everything: pointers that move, are copied and lost, in loops and in one of two ways."""
    offsets = (-2048, -100, -64, -9, -8, 0, 1, 4, 8, 16, 40, 60, 64, 100, 2040)
    pointers = (A2, A3, A5, SP)

    def access() -> bytes:
        base, offset = random.choice(pointers), random.choice(offsets)
        if random.random() < 0.4:
            return store(offset, random.choice(("sb", "sh", "sw", "sd")), base)
        return load(offset, random.choice(("lbu", "lh", "lw", "ld")), base)

    def move() -> bytes:
        to, of = random.choice(pointers), random.choice(pointers)
        match random.randrange(5):
            case 0:
                return asm("add", rd=to, rs1=of, rs2=0)
            case 1:
                return asm("addi", rd=to, rs1=of, imm=random.choice(offsets))
            case 2:
                return asm("andi", rd=A4, rs1=A0, imm=24) + asm("add", rd=to, rs1=of, rs2=A4)
            case _:
                return adds(to, random.choice((-2040, -16, -8, -1, 1, 4, 8, 32, 2040)))

    def some(depth: int) -> bytes:
        parts = b""
        for _ in range(random.randrange(1, 5)):
            what = random.random()
            if what < 0.05:
                parts += asm("andi", rd=A4, rs1=A0, imm=random.choice((1, 2, 4))) + perhaps_into(A4) + INTO_LUI
            elif depth and what < 0.2:
                parts += asm("andi", rd=A4, rs1=A0, imm=random.choice((1, 2, 4))) + unless_zero(A4, some(depth - 1))
            elif depth and what < 0.4:
                counter = T2 + depth
                inner = some(depth - 1) + adds(counter, -1)
                parts += asm("addi", rd=counter, rs1=0, imm=random.choice((1, 2, 5, 11, 24)))
                parts += inner + asm("bne", rs1=counter, rs2=0, imm=-len(inner))
            else:
                parts += access() if what < 0.8 else move()
        return parts

    return some(2)
