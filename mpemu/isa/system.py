"""Zicsr and the privileged instructions: ECALL, EBREAK, xRET, WFI, SFENCE.VMA, Svinval.

Unprivileged spec, chapter "Zicsr"; privileged spec 1.13, "Machine-Mode Privileged Instructions" and "Supervisor
Instructions".
"""

from __future__ import annotations

from mpemu.isa.csr import csr_read, csr_write
from mpemu.isa.hart import Hart, Operand
from mpemu.isa.privileged import (
    ALL,
    MIE,
    MPIE,
    MPP,
    MPP_SHIFT,
    MPRV,
    SIE,
    SPIE,
    SPP,
    TSR,
    TVM,
    TW,
    Cause,
    Mode,
)
from mpemu.isa.registry import insn
from mpemu.isa.value import Value


def _number(field: Operand) -> Value:
    """An operand field, whichever way it is bound, as a 64-bit value."""
    return field.zext() if isinstance(field, Value) else Value(field, 64)


# -- Zicsr


def _swap(h: Hart, csr: Operand, rd: Operand, value: Value) -> None:
    number = _number(csr)
    old = h.call(csr_read, number)
    h.call(csr_write, number, value, ALL)
    h.x[rd] = old
    h.context_changed()


def _change(h: Hart, csr: Operand, rd: Operand, named: Operand, to: int, mask: Value) -> None:
    """Set the bits of ``mask`` to those of ``to``; where the field ``named`` is 0, only read."""
    number, writes = _number(csr), _number(named) != 0
    old = h.call(csr_read, number)
    with h.when(writes):
        h.call(csr_write, number, to, mask)
    h.x[rd] = old
    with h.when(writes):
        h.context_changed()


@insn("csr rs1 001 rd 1110011", "{rd}, {csr}, {rs1}", ext="Zicsr", ends_block=True)
def csrrw(h: Hart, csr: Operand, rs1: Operand, rd: Operand) -> None:
    """Swap. No CSR has a read that does anything, so it is read for rd = x0 too."""
    _swap(h, csr, rd, h.x[rs1])


@insn("csr rs1 010 rd 1110011", "{rd}, {csr}, {rs1}", ext="Zicsr", ends_block=True)
def csrrs(h: Hart, csr: Operand, rs1: Operand, rd: Operand) -> None:
    """Read, and set the bits that are set in rs1."""
    _change(h, csr, rd, rs1, ALL, h.x[rs1])


@insn("csr rs1 011 rd 1110011", "{rd}, {csr}, {rs1}", ext="Zicsr", ends_block=True)
def csrrc(h: Hart, csr: Operand, rs1: Operand, rd: Operand) -> None:
    """Read, and clear the bits that are set in rs1."""
    _change(h, csr, rd, rs1, 0, h.x[rs1])


@insn("csr uimm[4:0] 101 rd 1110011", "{rd}, {csr}, {uimm}", ext="Zicsr", ends_block=True)
def csrrwi(h: Hart, csr: Operand, uimm: Operand, rd: Operand) -> None:
    """Swap with an immediate."""
    _swap(h, csr, rd, _number(uimm))


@insn("csr uimm[4:0] 110 rd 1110011", "{rd}, {csr}, {uimm}", ext="Zicsr", ends_block=True)
def csrrsi(h: Hart, csr: Operand, uimm: Operand, rd: Operand) -> None:
    """Read, and set the bits that are set in an immediate."""
    _change(h, csr, rd, uimm, ALL, _number(uimm))


@insn("csr uimm[4:0] 111 rd 1110011", "{rd}, {csr}, {uimm}", ext="Zicsr", ends_block=True)
def csrrci(h: Hart, csr: Operand, uimm: Operand, rd: Operand) -> None:
    """Read, and clear the bits that are set in an immediate."""
    _change(h, csr, rd, uimm, 0, _number(uimm))


# -- traps and returns


@insn("000000000000 00000 000 00000 1110011", ext="I", ends_block=True)
def ecall(h: Hart) -> None:
    """The causes of the modes are 8, 9 and 11."""
    h.trap(h.s.priv + Cause.ECALL_U)


@insn("000000000001 00000 000 00000 1110011", ext="I", ends_block=True)
def ebreak(h: Hart) -> None:
    """xtval may be 0 or the pc; debuggers like the pc."""
    h.trap(Cause.BREAKPOINT, h.pc)


@insn("0011000 00010 00000 000 00000 1110011", ext="S", ends_block=True)
def mret(h: Hart) -> None:
    """Return from a trap into M."""
    with h.when(h.s.priv != Mode.M):
        h.illegal()
    status = h.s.mstatus
    mode = (status >> MPP_SHIFT) & 3
    kept = (mode == Mode.M).mux(status, status & ~MPRV)
    h.s.mstatus = (kept & ~(MIE | MPP)) | ((status & MPIE) >> 4) | MPIE
    h.s.priv = mode
    h.context_changed(h.s.mepc & _epc_mask(h))


@insn("0001000 00010 00000 000 00000 1110011", ext="S", ends_block=True)
def sret(h: Hart) -> None:
    """Return from a trap into S."""
    priv, status = h.s.priv, h.s.mstatus
    with h.when((priv == Mode.U) | ((priv == Mode.S) & ((status & TSR) != 0))):
        h.illegal()
    h.s.mstatus = (status & ~(MPRV | SIE | SPP)) | ((status & SPIE) >> 4) | SPIE
    h.s.priv = (status & SPP) >> 8
    h.context_changed(h.s.sepc & _epc_mask(h))


def _epc_mask(h: Hart) -> int:
    return -1 if h.isa.has("C") else -4


@insn("0001000 00101 00000 000 00000 1110011", ext="S", ends_block=True)
def wfi(h: Hart) -> None:
    """In U it is always illegal, in S with TW: the time limit that the manual leaves open is none."""
    priv = h.s.priv
    with h.when((priv == Mode.U) | ((priv == Mode.S) & ((h.s.mstatus & TW) != 0))):
        h.illegal()
    h.wait_for_interrupt()


# -- address translation


def _require_vm_permission(h: Hart) -> None:
    """Illegal in U, and in S with TVM."""
    priv = h.s.priv
    with h.when((priv == Mode.U) | ((priv == Mode.S) & ((h.s.mstatus & TVM) != 0))):
        h.illegal()


def _drop_translations(h: Hart, rs1: Operand) -> None:
    """Of the page in rs1, or all. There are no ASIDs in the TLB, so those of every address space go."""
    _require_vm_permission(h)
    everything = _number(rs1) == 0
    with h.when(everything):
        h.sfence_vma(None, None)
    with h.otherwise():
        h.sfence_vma(h.x[rs1], None)
    h.context_changed()


@insn("0001001 rs2 rs1 000 00000 1110011", "{rs1}, {rs2}", ext="S", ends_block=True)
def sfence_vma(h: Hart, rs1: Operand) -> None:
    """Drop translations: of the page in rs1, or all."""
    _drop_translations(h, rs1)


@insn("0001011 rs2 rs1 000 00000 1110011", "{rs1}, {rs2}", ext="Svinval", ends_block=True)
def sinval_vma(h: Hart, rs1: Operand) -> None:
    """The same, ordered by the two fences below."""
    _drop_translations(h, rs1)


@insn("0001100 00000 00000 000 00000 1110011", ext="Svinval")
def sfence_w_inval(h: Hart) -> None:
    """Orders stores before SINVAL.VMA: those of this hart are in memory order already when it executes."""
    _require_supervisor(h)


@insn("0001100 00001 00000 000 00000 1110011", ext="Svinval")
def sfence_inval_ir(h: Hart) -> None:
    """Orders SINVAL.VMA before implicit references: it has taken effect when it ends."""
    _require_supervisor(h)


def _require_supervisor(h: Hart) -> None:
    with h.when(h.s.priv == Mode.U):
        h.illegal()
