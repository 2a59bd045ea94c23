"""Nothing keeps a hart from looking at its lines and its quantum."""

from __future__ import annotations

from mpemu.isa.privileged import Mode
from mpemu.layout import PAGE
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, RWX, SV39, Lab, asm, pte
from tests.codegen.lab import V as PTE_V
from tests.codegen.native_hart import RAM

CODE = RAM + 0x1_0000
NOP = asm("addi", rd=0, rs1=0, imm=0)


def test_jumping_forward_for_ever_is_noticed() -> None:
    """All of the address space is one page of NOPs: no jump back, and yet STOP must get through."""
    lab = Lab()
    root, middle, leaf, page = (RAM + 0x2_0000 + PAGE * n for n in range(4))
    for n in range(512):
        lab.store(root + 8 * n, pte(middle, PTE_V))
        lab.store(middle + 8 * n, pte(leaf, PTE_V))
        lab.store(leaf + 8 * n, pte(page, RWX))
    lab.memory.write(page, NOP * (PAGE // 4))
    hart = lab.hart()
    hart.satp = SV39 | root >> 12
    assert lab.run(0, priv=Mode.S, quantum=100_000) is ExitReason.QUANTUM
    assert hart.pc < 1 << 30


def test_returning_for_ever_is_noticed() -> None:
    """A loop closed by MRET instead of a jump."""
    lab = Lab()
    lab.place(CODE, asm("csrrs", rd=0, csr=0x300, rs1=A0), asm("csrrw", rd=0, csr=0x341, rs1=A1), asm("mret"))
    assert lab.run(CODE, quantum=10_000, x10=3 << 11, x11=CODE) is ExitReason.QUANTUM
