"""Cache-block operations: Zicbom (management) and Zicboz (zero), on 64-byte blocks.

Unprivileged ISA, chapter "CMO", and the envcfg registers of the privileged one. Memory is coherent, so management does
nothing once it is permitted. Zicbop's prefetches are ORI encodings with rd = x0 and need no definition.
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.privileged import CBCFE, CBIE, CBZE, Mode
from mpemu.isa.registry import insn


def require(h: Hart, field: int) -> None:
    """Illegal instruction unless the envcfg field allows it: menvcfg below M, senvcfg too in U."""
    by_machine = (h.s.priv != Mode.M) & ((h.s.menvcfg & field) == 0)
    by_supervisor = (h.s.priv == Mode.U) & ((h.s.senvcfg & field) == 0)
    with h.when(by_machine | by_supervisor):
        h.illegal()


@insn("000000000000 rs1 010 00000 0001111", "({rs1})", ext="Zicbom")
def cbo_inval(h: Hart, rs1: Operand) -> None:
    """Invalidate a cache block."""
    require(h, CBIE)
    h.check_cbo(h.x[rs1], write=False)


@insn("000000000001 rs1 010 00000 0001111", "({rs1})", ext="Zicbom")
def cbo_clean(h: Hart, rs1: Operand) -> None:
    """Write back a cache block."""
    require(h, CBCFE)
    h.check_cbo(h.x[rs1], write=False)


@insn("000000000010 rs1 010 00000 0001111", "({rs1})", ext="Zicbom")
def cbo_flush(h: Hart, rs1: Operand) -> None:
    """Write back and invalidate a cache block."""
    require(h, CBCFE)
    h.check_cbo(h.x[rs1], write=False)


@insn("000000000100 rs1 010 00000 0001111", "({rs1})", ext="Zicboz")
def cbo_zero(h: Hart, rs1: Operand) -> None:
    """Write zeros to a cache block."""
    require(h, CBZE)
    h.zero_block(h.x[rs1])
