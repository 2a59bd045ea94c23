"""Traps: entering a handler, and which interrupt is due. Privileged spec 1.13, chapters "Machine-Level" and
"Supervisor-Level ISA"."""

from __future__ import annotations

from mpemu.isa.hart import Hart, routine
from mpemu.isa.privileged import INTERRUPT, IRQ_PRIORITY, MIE, MPIE, MPP, MPP_SHIFT, SIE, SPIE, SPP, Mode
from mpemu.isa.value import Value


def pending(h: Hart) -> Value:
    """mip: what software has written and the lines from outside."""
    return h.s.mip | h.irq_lines()


@routine
def take_trap(h: Hart, cause: Value, tval: Value, epc: Value) -> None:
    """Enter the handler: ``cause`` is what xcause will hold (bit 63: an interrupt), ``epc`` what xepc will.

    Leaves the handler's address in the pc, and returns it.
    """
    interrupt = (cause & INTERRUPT) != 0
    code = cause & 63
    priv, status = h.s.priv, h.s.mstatus
    delegation = interrupt.mux(h.s.mideleg, h.s.medeleg)
    delegated = (((delegation >> code) & 1) != 0) & (priv != Mode.M)
    handler = _vector(delegated.mux(h.s.stvec, h.s.mtvec), interrupt, code)
    with h.when(delegated):
        h.s.scause, h.s.stval, h.s.sepc = cause, tval, epc
        # SPIE = SIE, SIE = 0, SPP = priv (0 or 1)
        h.s.mstatus = (status & ~(SPIE | SIE | SPP)) | ((status & SIE) << 4) | (priv << 8)
        h.s.priv = Mode.S
    with h.otherwise():
        h.s.mcause, h.s.mtval, h.s.mepc = cause, tval, epc
        h.s.mstatus = (status & ~(MPIE | MIE | MPP)) | ((status & MIE) << 4) | (priv << MPP_SHIFT)
        h.s.priv = Mode.M
    h.s.pc = handler
    h.ret(handler)


def _vector(tvec: Value, interrupt: Value, code: Value) -> Value:
    """The handler's address: in vectored mode (1), interrupts go to base + 4 * code."""
    base = tvec & ~3
    return (interrupt & ((tvec & 1) != 0)).mux(base + (code << 2), base)


@routine
def enabled_interrupts(h: Hart) -> None:
    """The bits of mip that would be taken at once, were they pending, at the current privilege."""
    priv, status, enabled, delegated = h.s.priv, h.s.mstatus, h.s.mie, h.s.mideleg
    machine = (priv != Mode.M) | ((status & MIE) != 0)
    supervisor = (priv == Mode.U) | ((priv == Mode.S) & ((status & SIE) != 0))
    for_machine = machine.mux(enabled & ~delegated, 0)
    for_supervisor = supervisor.mux(enabled & delegated, 0)
    h.ret(for_machine | for_supervisor)


@routine
def pending_interrupt(h: Hart) -> None:
    """xcause of the interrupt to take now (bit 63 and its code), or 0. Those for M-mode go first, then by priority."""
    due = pending(h) & h.call(enabled_interrupts)
    for_machine = due & ~h.s.mideleg
    candidates = (for_machine != 0).mux(for_machine, due)
    cause = Value(0, 64)
    for irq in reversed(IRQ_PRIORITY):
        cause = candidates.bit(irq).mux(Value(INTERRUPT | irq, 64), cause)
    h.ret(cause)
