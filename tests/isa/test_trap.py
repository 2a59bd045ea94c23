"""Traps: delegation, the status stack, vectors; interrupts by priority; the privileged instructions."""

from __future__ import annotations

import pytest
from privileged_machine import CODE, HANDLER, RAM, READY, PageTables, PrivilegedMachine

from mpemu.isa.csr_table import CSR_NUMBERS
from mpemu.isa.privileged import (
    INTERRUPT,
    IRQ_PRIORITY,
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
    Irq,
    Mode,
)
from mpemu.isa.reference import GuestTrap
from mpemu.isa.registry import INSNS

S_HANDLER = RAM + 0x2000
M_ONLY = (Irq.MEI, Irq.MSI, Irq.MTI)
ILLEGAL = 2


@pytest.fixture
def machine() -> PrivilegedMachine:
    machine = PrivilegedMachine()
    machine.write("stvec", S_HANDLER)
    return machine


def enter(machine: PrivilegedMachine, cause: int, mode: int, status: int = 0, tval: int = 0) -> int:
    """Take a trap in ``mode``; the handler's address."""
    machine.state.update(priv=mode, mstatus=status)
    machine.call("take_trap", cause, tval, CODE + 8)
    return machine.state["pc"]


# -- entry


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("delegated", [False, True])
@pytest.mark.parametrize("cause", [13, INTERRUPT | Irq.SEI])
def test_delegation(machine: PrivilegedMachine, mode: Mode, delegated: bool, cause: int) -> None:
    """To S if the bit says so and the trap does not come from M."""
    register = "mideleg" if cause & INTERRUPT else "medeleg"
    machine.state[register] = 1 << (cause & 63) if delegated else 0
    to_supervisor = delegated and mode != Mode.M
    x, handler = ("s", S_HANDLER) if to_supervisor else ("m", HANDLER)
    assert enter(machine, cause, mode, tval=0x123) == handler
    assert machine.state["priv"] == (Mode.S if to_supervisor else Mode.M)
    assert [machine.state[f"{x}{field}"] for field in ("cause", "tval", "epc")] == [cause, 0x123, CODE + 8]


def test_an_interrupt_bit_does_not_delegate_the_exception(machine: PrivilegedMachine) -> None:
    machine.state.update(mideleg=1 << 9, medeleg=0)
    assert enter(machine, 9, Mode.S) == HANDLER


@pytest.mark.parametrize("enabled", [0, SIE | MIE])
@pytest.mark.parametrize("mode", Mode)
def test_the_status_stack(machine: PrivilegedMachine, mode: Mode, enabled: int) -> None:
    other = MPRV | 3 << 13
    enter(machine, 13, mode, other | enabled)
    pushed = (MPIE if enabled else 0) | mode << MPP_SHIFT
    assert machine.state["mstatus"] == other | pushed | enabled & SIE
    if mode != Mode.M:
        machine.state["medeleg"] = 1 << 13
        enter(machine, 13, mode, other | enabled | MPP)
        pushed = (SPIE if enabled else 0) | (SPP if mode == Mode.S else 0)
        assert machine.state["mstatus"] == other | MPP | pushed | enabled & MIE


def test_vectored_mode_is_for_interrupts(machine: PrivilegedMachine) -> None:
    machine.write("mtvec", HANDLER | 1)
    machine.write("stvec", S_HANDLER | 1)
    assert enter(machine, 13, Mode.S) == HANDLER
    assert enter(machine, INTERRUPT | 7, Mode.S) == HANDLER + 28
    machine.state["mideleg"] = 0x2222
    assert enter(machine, INTERRUPT | 9, Mode.S) == S_HANDLER + 36


# -- which interrupt


def raise_lines(machine: PrivilegedMachine, *irqs: Irq) -> None:
    machine.hart.lines = sum(1 << irq for irq in irqs if irq not in (Irq.STI, Irq.LCOFI))
    machine.state["mip"] = sum(1 << irq for irq in irqs if irq in (Irq.STI, Irq.LCOFI))


def due(machine: PrivilegedMachine, mode: Mode, status: int = 0) -> Irq | None:
    machine.state.update(priv=mode, mstatus=status)
    cause = machine.call("pending_interrupt")
    assert not cause or cause & INTERRUPT
    return Irq(cause & 63) if cause else None


def test_priorities(machine: PrivilegedMachine) -> None:
    machine.write("mie", -1 & 0xFFFF)
    waiting = list(IRQ_PRIORITY)
    assert waiting == [Irq.MEI, Irq.MSI, Irq.MTI, Irq.SEI, Irq.SSI, Irq.STI, Irq.LCOFI]
    for delegation in (0, 0x2222):
        machine.write("mideleg", delegation)
        for n in range(7):
            raise_lines(machine, *waiting[n:])
            assert due(machine, Mode.U) == waiting[n]
    raise_lines(machine)
    assert due(machine, Mode.U) is None


def test_interrupts_for_machine_mode_go_first(machine: PrivilegedMachine) -> None:
    machine.write("mie", 0xFFFF)
    machine.write("mideleg", 1 << Irq.SEI)
    raise_lines(machine, Irq.SEI, Irq.STI)
    assert due(machine, Mode.S, SIE) == Irq.STI, "lower in the list, but for M"


@pytest.mark.parametrize(
    "irq, delegated",
    [(irq, delegated) for irq in Irq for delegated in (False, True) if not delegated or irq not in M_ONLY],
)
def test_enables_by_mode(machine: PrivilegedMachine, irq: Irq, delegated: bool) -> None:
    machine.write("mie", 1 << irq)
    machine.write("mideleg", 1 << irq if delegated else 0)
    raise_lines(machine, irq)
    for mode in Mode:
        for status in (0, SIE, MIE):
            to_supervisor = mode == Mode.U or (mode == Mode.S and status == SIE)
            to_machine = mode != Mode.M or status == MIE
            taken = to_supervisor if delegated else to_machine
            assert due(machine, mode, status) == (irq if taken else None)
            assert machine.call("enabled_interrupts") == (1 << irq if taken else 0)
    machine.state["mie"] = 0
    assert due(machine, Mode.U) is None


def test_an_interrupt_is_taken_before_the_next_instruction(machine: PrivilegedMachine) -> None:
    machine.write("mie", 1 << Irq.MSI)
    raise_lines(machine, Irq.MSI)
    machine.run("csrrsi", Mode.M, csr=CSR_NUMBERS["mstatus"], uimm=MIE, rd=0)
    for address, value in ((CODE + 4, 1), (HANDLER, 2)):
        machine.put(address, INSNS["csrrwi"].pattern.encode(csr=CSR_NUMBERS["mscratch"], uimm=value, rd=5), 4)
    machine.hart.step()
    assert (machine.state["mcause"], machine.state["mepc"]) == (INTERRUPT | Irq.MSI, CODE + 4)
    assert (machine.state["mscratch"], machine.hart.x.values[5]) == (2, 0)


# -- instructions


@pytest.mark.parametrize("mode, cause", [(Mode.U, 8), (Mode.S, 9), (Mode.M, 11)])
def test_ecall(machine: PrivilegedMachine, mode: Mode, cause: int) -> None:
    with pytest.raises(GuestTrap) as trap:
        machine.run("ecall", mode)
    assert (trap.value.cause, trap.value.tval) == (cause, 0)


def test_ebreak(machine: PrivilegedMachine) -> None:
    with pytest.raises(GuestTrap) as trap:
        machine.run("ebreak", Mode.U)
    assert (trap.value.cause, trap.value.tval) == (3, CODE)


@pytest.mark.parametrize("previous", Mode)
@pytest.mark.parametrize("enabled", [0, MPIE])
def test_mret(machine: PrivilegedMachine, previous: Mode, enabled: int) -> None:
    machine.write("mepc", RAM + 0x3002)
    machine.state["mstatus"] = MPRV | SIE | enabled | previous << MPP_SHIFT
    assert machine.run("mret", Mode.M) == RAM + 0x3002
    assert machine.state["priv"] == previous
    kept = MPRV if previous == Mode.M else 0
    assert machine.state["mstatus"] == kept | SIE | MPIE | (MIE if enabled else 0)


@pytest.mark.parametrize("mode", [Mode.S, Mode.M])
@pytest.mark.parametrize("previous", [Mode.U, Mode.S])
@pytest.mark.parametrize("enabled", [0, SPIE])
def test_sret(machine: PrivilegedMachine, mode: Mode, previous: Mode, enabled: int) -> None:
    machine.write("sepc", RAM + 0x3002)
    machine.state["mstatus"] = MPRV | MIE | enabled | previous << 8
    assert machine.run("sret", mode) == RAM + 0x3002
    assert machine.state["priv"] == previous
    assert machine.state["mstatus"] == MIE | SPIE | (SIE if enabled else 0)


LEGAL = {
    # instruction: (modes, the mstatus bit that takes S out)
    "mret": ({Mode.M}, 0),
    "sret": ({Mode.S, Mode.M}, TSR),
    "wfi": ({Mode.S, Mode.M}, TW),
    "sfence.vma": ({Mode.S, Mode.M}, TVM),
    "sinval.vma": ({Mode.S, Mode.M}, TVM),
    "sfence.w.inval": ({Mode.S, Mode.M}, 0),
    "sfence.inval.ir": ({Mode.S, Mode.M}, 0),
}


@pytest.mark.parametrize("mnemonic", LEGAL)
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("trapping", [0, TSR | TW | TVM])
def test_who_may_execute_what(machine: PrivilegedMachine, mnemonic: str, mode: Mode, trapping: int) -> None:
    machine.state.update(mstatus=MPP | trapping, mepc=RAM + 0x3000, sepc=RAM + 0x3000)
    modes, bit = LEGAL[mnemonic]
    if mode not in modes or (mode == Mode.S and bit & trapping):
        with pytest.raises(GuestTrap) as trap:
            machine.run(mnemonic, mode)
        assert (trap.value.cause, trap.value.tval) == (ILLEGAL, machine.encoded())
        assert machine.state["mstatus"] & MPP == mode << MPP_SHIFT
    else:
        machine.run(mnemonic, mode)


def test_sfence_vma_names_an_address_or_all(machine: PrivilegedMachine) -> None:
    dropped = []

    def record(address: object, asid: object) -> None:
        if machine.hart.live:
            dropped.append(None if address is None else address.raw)  # type: ignore[attr-defined]

    machine.hart.sfence_vma = record  # type: ignore[method-assign]
    machine.hart.x.values[7] = 0x5000
    machine.run("sfence.vma", Mode.S, rs1=0, rs2=0)
    machine.run("sfence.vma", Mode.S, rs1=7, rs2=0)
    machine.run("sinval.vma", Mode.S, rs1=7, rs2=8)
    assert dropped == [None, 0x5000, 0x5000]


def test_wfi_waits_for_an_interrupt_that_is_enabled_in_mie_only(machine: PrivilegedMachine) -> None:
    machine.write("mie", 1 << Irq.MTI)
    machine.run("wfi", Mode.M)
    machine.put(CODE + 4, INSNS["csrrwi"].pattern.encode(csr=CSR_NUMBERS["mscratch"], uimm=1, rd=0), 4)
    assert not machine.hart.step()
    raise_lines(machine, Irq.MSI)
    assert not machine.hart.step()
    raise_lines(machine, Irq.MTI)
    assert machine.hart.step()
    assert (machine.state["pc"], machine.state["mscratch"]) == (CODE + 8, 1), "MIE is 0: it goes on, no trap"


# -- together


def test_a_page_fault_of_a_user_goes_to_the_supervisor_and_back(machine: PrivilegedMachine) -> None:
    """A load from U faults, S maps the page in the meantime, SRET repeats the load."""
    tables = PageTables(machine, 8)
    machine.write("medeleg", 1 << 13)
    tables.map(0x4000, CODE, READY | 1 << 4)
    machine.put(CODE, INSNS["ld"].pattern.encode(rd=5, rs1=6, imm=16), 4)
    machine.put(S_HANDLER, INSNS["sret"].pattern.encode(), 4)
    machine.put(RAM + 0x6010, 0xCAFE)
    machine.hart.x.values[6] = 0x7000
    machine.state.update(pc=0x4000, priv=Mode.U, stvec=0x5000)
    machine.hart.step()
    assert [machine.state[n] for n in ("pc", "priv", "scause", "stval", "sepc")] == [0x5000, Mode.S, 13, 0x7010, 0x4000]
    tables.map(0x5000, S_HANDLER)
    tables.map(0x7000, RAM + 0x6000, READY | 1 << 4)
    machine.hart.step()
    assert (machine.state["pc"], machine.state["priv"]) == (0x4000, Mode.U)
    machine.hart.step()
    assert machine.hart.x.values[5] == 0xCAFE
