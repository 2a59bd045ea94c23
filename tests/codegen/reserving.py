"""Harts for tests of LR/SC that is not tight: its instructions one by one, and the mark of the page."""

from __future__ import annotations

import ctypes

from mpemu.layout import PAGE
from tests.codegen.lab import A0, A1, A2, A3, Lab, asm
from tests.codegen.native_hart import RAM

CODE = RAM + 0x1000
LR, SC, STORE = CODE, CODE + 0x20, CODE + 0x40
WORD = RAM + 0x4_0000
ANOTHER_PAGE = RAM + 0x5_0000
FAILED, SUCCEEDED = 1, 0


class Harts(Lab):
    def __init__(self, harts: int = 2) -> None:
        super().__init__(harts)
        self.place(LR, asm("lr.d", rd=A0, rs1=A1, aq=0, rl=0))
        self.place(SC, asm("sc.d", rd=A0, rs2=A2, rs1=A1, aq=0, rl=0))
        self.place(STORE, asm("sd", rs2=A2, rs1=A1, imm=0))

    def lr(self, hart: int = 0, address: int = WORD) -> int:
        value: int = self.done(LR, hart=hart, x11=address).x[A0]
        return value

    def sc(self, hart: int = 0, value: int = 1, address: int = WORD) -> int:
        result: int = self.done(SC, hart=hart, x11=address, x12=value).x[A0]
        return result

    def sd(self, value: int, hart: int = 1, address: int = WORD) -> None:
        self.done(STORE, hart=hart, x11=address, x12=value)

    def mark(self, address: int = WORD) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_address(self.memory.machine.page_marks + 4 * ((address - RAM) // PAGE))


WRITERS: dict[str, tuple[bytes, ...]] = {
    "sb": (asm("sb", rs2=A2, rs1=A1, imm=7),),
    "sh": (asm("sh", rs2=A2, rs1=A1, imm=2),),
    "misaligned": (asm("sw", rs2=A2, rs1=A1, imm=-2),),
    "elsewhere in the granule": (asm("sd", rs2=A2, rs1=A1, imm=56),),
    "amo": (asm("amoadd.w", rd=A3, rs2=0, rs1=A1, aq=0, rl=0),),
    "amocas": (asm("amocas.d", rd=0, rs2=0, rs1=A1, aq=0, rl=0),),
    "cbo.zero": (asm("cbo.zero", rs1=A1),),
    "lr/sc": (asm("lr.d", rd=A3, rs1=A1, aq=0, rl=0), asm("sc.d", rd=0, rs2=A3, rs1=A1, aq=0, rl=0)),
    "fsd": (asm("fsd", fs2=0, rs1=A1, imm=8),),
}
"""What changes the granule of the word at a1."""
