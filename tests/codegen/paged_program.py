"""A small program in S-mode, page by page, as tests of translated code run it."""

from __future__ import annotations

from typing import Any

from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import HEAT, HEAT_ROUND
from mpemu.unit import Unit
from tests.codegen.lab import A0, A1, RWX, SV39, asm, pte
from tests.codegen.lab import A as PTE_A
from tests.codegen.lab import R as PTE_R
from tests.codegen.lab import V as PTE_V
from tests.codegen.lab import X as PTE_X
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab

PAGE = 4096
RX = PTE_V | PTE_R | PTE_X | PTE_A
CODE = RAM + 0x2_0000
"""Physical page n of the program: here + n pages."""
ROOT, MIDDLE, LEAF = (RAM + 0x1_0000 + n * PAGE for n in range(3))
SFENCE, FENCE_I = RAM + 0x4000, RAM + 0x4040
SMALL = 0x4000_0000
RA, T0 = 1, 5
TURNS, QUANTUM = 21, 4000
RETURN = asm("jalr", rd=0, rs1=RA, imm=0)


def adds(rd: int, amount: int) -> bytes:
    return asm("addi", rd=rd, rs1=rd, imm=amount)


def call(distance: int, link: int = RA) -> bytes:
    return asm("jal", rd=link, imm=distance)


def loop(body: bytes) -> bytes:
    """Runs it a1 times."""
    return body + adds(A1, -1) + asm("bne", rs1=A1, rs2=0, imm=-len(body) - 4)


class Program(TranslatedLab):
    """Page n of a program at SMALL + n pages, in S-mode; at CODE + n pages if not said otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.place(SFENCE, asm("sfence.vma", rs1=A1, rs2=0))
        self.place(FENCE_I, asm("fence.i"))
        self.store(ROOT + 8 * 2, pte(RAM, RWX))
        self.store(ROOT + 8 * 1, pte(MIDDLE, PTE_V))
        self.store(MIDDLE, pte(LEAF, PTE_V))
        for n in range(20):
            self.map(n, CODE + n * PAGE)
        self.hart().satp = SV39 | ROOT >> 12

    def map(self, page: int, pa: int, flags: int = RX) -> None:
        self.store(LEAF + 8 * page, pte(pa, flags))

    def sfence(self, va: int) -> None:
        self.done(SFENCE, priv=Mode.S, x11=va)

    def rewrite(self, pa: int, code: bytes) -> None:
        self.memory.write(pa, code)
        self.done(FENCE_I)

    def sum(self, page: int = 0, cause: int = Cause.BREAKPOINT, **x: int) -> Any:
        """a0 of a loop that begins on a page."""
        start = {"x10": 0, "x11": TURNS, **x}
        return self.done(SMALL + page * PAGE, priv=Mode.S, cause=cause, quantum=QUANTUM, **start).x[A0]

    def made(self) -> list[Unit]:
        """Units of the program, in order."""
        pages = {self.memory.read(CODE + n * PAGE, PAGE) for n in range(20)} - {bytes(PAGE)}
        return [unit for unit in self.units if unit.head_page in pages]

    def asks_at_exits(self, yes: bool) -> None:
        """Whether the hart asks for what a region leads to, at once."""
        hart = self.hart()
        hart.heat[:] = [0] * HEAT
        hart.hotness = 1 if yes else HEAT_ROUND

    def hot(self, page: int = 0, pa: int = CODE, distances: tuple[int, ...] = (0, 1)) -> None:
        """Translate the loop, which becomes a region over pages at these distances."""
        before = self.sum(page)
        self.translate(pa)
        assert [d for d, _ in self.units[-1].pages] == list(distances)
        assert self.translated([pa]) == {pa}
        assert self.sum(page) == before
