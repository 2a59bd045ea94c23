"""CSRs: what is there, who may access it, what can be written."""

from __future__ import annotations

import pytest
from privileged_machine import ALL, RAM, PrivilegedMachine

from mpemu.isa.csr_table import CSR_NAMES, CSR_NUMBERS
from mpemu.isa.privileged import (
    ADUE,
    CBIE,
    FS,
    LCOFIP,
    MPP,
    PBMTE,
    SEIP,
    SSIP,
    STATEEN_ENVCFG,
    STATEEN_SE,
    STCE,
    STIP,
    TM,
    TVM,
    Mode,
)
from mpemu.isa.reference import GuestTrap

ILLEGAL = 2


@pytest.fixture
def machine() -> PrivilegedMachine:
    return PrivilegedMachine()


def is_illegal(machine: PrivilegedMachine, name: str, mode: int = Mode.M, write: bool = False) -> bool:
    try:
        if write:
            machine.write(name, 0, mode)
        else:
            machine.read(name, mode)
    except GuestTrap as trap:
        assert (trap.cause, trap.tval) == (ILLEGAL, machine.encoded())
        return True
    return False


# -- access


def enable_everything(machine: PrivilegedMachine) -> None:
    machine.set("mstatus", FS)
    for n in range(4):
        machine.write(f"mstateen{n}", ALL)
    machine.write("menvcfg", ALL & ~CBIE)
    for name in ("mcounteren", "scounteren"):
        machine.write(name, ALL)


def test_privilege_is_in_the_number(machine: PrivilegedMachine) -> None:
    enable_everything(machine)
    for mode in Mode:
        for number, name in CSR_NAMES.items():
            assert is_illegal(machine, name, mode) == (mode < number >> 8 & 3), name


def test_read_only_numbers_refuse_writes_but_not_reads(machine: PrivilegedMachine) -> None:
    for name in ("mhartid", "cycle", "scountovf"):
        assert not is_illegal(machine, name)
        assert is_illegal(machine, name, write=True)
        with pytest.raises(GuestTrap):
            machine.set(name, 0)  # rs1 is not x0: a write, though of no bit
    before = machine.state["minstret_base"]
    with pytest.raises(GuestTrap):
        machine.write("instret", 5)
    assert machine.state["minstret_base"] == before


@pytest.mark.parametrize("number", [0x004, 0x102, 0x3A1, 0x3A3, 0x310, 0x747, 0x7B0, 0x600, 0x200, 0xFFF, 0xC80])
def test_numbers_that_name_nothing_are_illegal(machine: PrivilegedMachine, number: int) -> None:
    assert number not in CSR_NAMES
    with pytest.raises(GuestTrap, match="cause 2"):
        machine.run("csrrs", Mode.M, csr=number, rs1=0, rd=5)


@pytest.mark.parametrize(
    "isa, missing",
    [
        ("rv64imac", ("fflags", "frm", "fcsr", "hpmcounter", "stimecmp", "scountovf", "mstateen", "sstateen")),
        ("rv64imafdc_sstc_smstateen", ("hpmcounter", "scountovf")),
    ],
)
def test_extensions_bring_their_registers(isa: str, missing: tuple[str, ...]) -> None:
    machine = PrivilegedMachine(isa)
    machine.set("mstatus", FS)
    for name in CSR_NAMES.values():
        assert is_illegal(machine, name) == name.startswith(missing), name


def test_floating_point_registers_need_fs(machine: PrivilegedMachine) -> None:
    machine.clear("mstatus", FS)
    assert all(is_illegal(machine, name) for name in ("fflags", "frm", "fcsr"))
    machine.set("mstatus", 1 << 13)
    assert not any(is_illegal(machine, name) for name in ("fflags", "frm", "fcsr"))
    assert machine.read("mstatus") & FS == 1 << 13


def test_counters_need_their_enable_bits(machine: PrivilegedMachine) -> None:
    for bit, name in ((0, "cycle"), (1, "time"), (2, "instret"), (3, "hpmcounter3"), (31, "hpmcounter31")):
        for machine_bit in (0, 1):
            for supervisor_bit in (0, 1):
                machine.write("mcounteren", machine_bit << bit)
                machine.write("scounteren", supervisor_bit << bit)
                assert not is_illegal(machine, name, Mode.M)
                assert is_illegal(machine, name, Mode.S) == (not machine_bit)
                assert is_illegal(machine, name, Mode.U) == (not machine_bit or not supervisor_bit)


def test_stimecmp_needs_stce_and_tm(machine: PrivilegedMachine) -> None:
    for envcfg, counteren, denied in ((0, TM, True), (STCE, 0, True), (STCE, TM, False)):
        machine.write("menvcfg", envcfg)
        machine.write("mcounteren", counteren)
        assert is_illegal(machine, "stimecmp", Mode.S) is denied
        assert is_illegal(machine, "stimecmp", Mode.S, write=True) is denied
        assert not is_illegal(machine, "stimecmp", Mode.M)


def test_tvm_keeps_supervisors_from_satp(machine: PrivilegedMachine) -> None:
    assert not is_illegal(machine, "satp", Mode.S)
    machine.set("mstatus", TVM)
    assert is_illegal(machine, "satp", Mode.S)
    assert is_illegal(machine, "satp", Mode.S, write=True)
    assert not is_illegal(machine, "satp", Mode.M)


def test_mstateen_guards_senvcfg_and_sstateen(machine: PrivilegedMachine) -> None:
    assert is_illegal(machine, "senvcfg", Mode.S)
    assert all(is_illegal(machine, f"sstateen{n}", Mode.S) for n in range(4))
    machine.write("mstateen0", STATEEN_ENVCFG)
    assert not is_illegal(machine, "senvcfg", Mode.S)
    for n in range(4):
        machine.write(f"mstateen{n}", STATEEN_SE)
        assert not is_illegal(machine, f"sstateen{n}", Mode.S)
    assert not is_illegal(PrivilegedMachine("rv64gc"), "senvcfg", Mode.S)


# -- what can be written

ALL_ONES = {
    "mstatus": 0x8000_000A_007E_79AA,
    "sstatus": 0x8000_0002_000C_6122,
    "misa": 0x8000_0000_0014_112F,
    "medeleg": 0xB3FF,
    "mideleg": 0x2222,
    "mie": 0x2AAA,
    "mip": 0x2222,
    "mepc": ALL - 1,
    "sepc": ALL - 1,
    "mcause": ALL,
    "scause": ALL,
    "mtval": ALL,
    "stval": ALL,
    "mscratch": ALL,
    "sscratch": ALL,
    "mcounteren": 0xFFFF_FFFF,
    "scounteren": 0xFFFF_FFFF,
    "mcountinhibit": 5,
    "menvcfg": 0xE000_0000_0000_00F1,
    "senvcfg": 0xF1,
    "mstateen0": 3 << 62,
    "mstateen1": 1 << 63,
    "sstateen0": 0,
    "fcsr": 0xFF,
    "frm": 7,
    "fflags": 0x1F,
    "mhpmcounter3": 0,
    "mhpmevent31": 0,
    "tselect": 0,
    "tdata1": 0,
    "satp": 0,
    "stimecmp": ALL,
}


@pytest.mark.parametrize("name", ALL_ONES)
def test_writing_all_ones(name: str) -> None:
    machine = PrivilegedMachine()
    machine.state["menvcfg"] = 0
    machine.set("mstatus", FS)
    assert machine.written(name, ALL) == ALL_ONES[name]


def test_envcfg_has_the_fields_of_the_extensions() -> None:
    assert PrivilegedMachine("rv64gc").written("menvcfg", ALL) == 1
    assert PrivilegedMachine("rv64gc_zicboz_svadu").written("menvcfg", ALL) == 0x81 | ADUE
    assert PrivilegedMachine("rv64gc_svpbmt").written("menvcfg", ALL) == 1 | PBMTE


def test_reserved_field_values_leave_the_field(machine: PrivilegedMachine) -> None:
    machine.write("menvcfg", 1 << 4)
    assert machine.written("menvcfg", 1 | 2 << 4) == 1 | 1 << 4
    machine.write("mstatus", 1 << 11)
    assert machine.written("mstatus", 1 << 3 | 2 << 11) & (MPP | 1 << 3) == 1 << 3 | 1 << 11


def test_sstatus_is_a_view_of_mstatus(machine: PrivilegedMachine) -> None:
    machine.write("mstatus", ALL)
    machine.write("sstatus", 0, Mode.S)
    assert machine.read("mstatus") == ALL_ONES["mstatus"] & ~(ALL_ONES["sstatus"] & ~(3 << 32))
    machine.write("sstatus", FS, Mode.S)
    assert machine.read("mstatus") >> 63 == machine.read("sstatus") >> 63 == 1


def test_interrupt_views_show_what_is_delegated(machine: PrivilegedMachine) -> None:
    machine.write("mideleg", SSIP | SEIP)
    machine.write("mie", ALL)
    assert machine.read("sie") == SSIP | SEIP
    machine.write("sie", 0, Mode.S)
    assert machine.read("mie") == 0x2AAA & ~(SSIP | SEIP)
    machine.write("mie", 0)
    machine.write("mip", ALL)
    assert machine.read("sip") == SSIP | SEIP
    machine.write("sip", 0, Mode.S)
    assert machine.read("mip") == STIP | SEIP | LCOFIP, "of these two, S may write SSIP"
    machine.write("mideleg", 0)
    machine.write("sip", SSIP, Mode.S)
    assert machine.read("mip") & SSIP == 0


def test_lines_are_seen_in_mip_and_not_written_by_it(machine: PrivilegedMachine) -> None:
    machine.hart.lines = SEIP | 1 << 11 | 1 << 7 | 1 << 3
    machine.write("mip", 0)
    assert machine.read("mip") == SEIP | 1 << 11 | 1 << 7 | 1 << 3
    machine.set("mip", SEIP)
    machine.hart.lines = 0
    assert machine.read("mip") == SEIP, "software's SEIP is a bit of its own"


def test_only_the_named_bits_of_mip_are_written(machine: PrivilegedMachine) -> None:
    """SSIP may be raised by another hart between the read and the write of one instruction."""
    machine.set("mip", SSIP | STIP)
    assert machine.hart.lines == SSIP
    machine.clear("mip", STIP)
    assert (machine.hart.lines, machine.state["mip"]) == (SSIP, 0)
    machine.hart.lines = SEIP
    machine.set("mip", STIP)
    assert machine.state["mip"] == STIP, "SEIP of the line did not become software's"


def test_stip_belongs_to_stimecmp_under_stce(machine: PrivilegedMachine) -> None:
    machine.set("mip", STIP)
    machine.set("menvcfg", STCE)
    assert machine.read("mip") & STIP == 0
    machine.set("mip", STIP)
    assert machine.read("mip") & STIP == 0
    machine.now = 100
    machine.write("stimecmp", 100)
    assert machine.read("mip") & STIP
    machine.write("stimecmp", 101)
    assert machine.read("mip") & STIP == 0
    machine.write("stimecmp", 0)
    machine.clear("menvcfg", STCE)
    assert machine.read("mip") & STIP == 0


@pytest.mark.parametrize("name", ["mtvec", "stvec"])
def test_trap_vectors_have_two_modes(machine: PrivilegedMachine, name: str) -> None:
    assert machine.written(name, RAM + 0x1000) == RAM + 0x1000
    assert machine.written(name, RAM + 0x1001) == RAM + 0x1001
    assert machine.written(name, RAM + 0x2002) == RAM + 0x1001
    assert machine.written(name, RAM + 0x2003) == RAM + 0x1001


def test_epc_is_aligned_to_instructions() -> None:
    machine = PrivilegedMachine("rv64imafd")
    assert machine.written("mepc", 0x1007) == machine.written("sepc", 0x1007) == 0x1004


def test_satp_takes_supported_modes_as_a_whole() -> None:
    for isa, modes in (("rv64gc_sv39", {8}), ("rv64gc_sv48", {8, 9}), ("rv64gc_sv57", {8, 9, 10})):
        machine = PrivilegedMachine(isa)
        for mode in range(16):
            machine.write("satp", 0)
            value = mode << 60 | 0xABCD << 44 | (1 << 44) - 1
            assert machine.written("satp", value) == (value if mode in modes | {0} else 0)


def test_satp_flushes_on_a_change_only(machine: PrivilegedMachine) -> None:
    flushes = []
    machine.hart.flush_tlb = lambda: flushes.append(machine.hart.live)  # type: ignore[method-assign]
    for value in (8 << 60 | 5, 8 << 60 | 5, 8 << 60 | 6, 7 << 60):
        machine.write("satp", value)
    assert flushes.count(True) == 2


# -- counters


def test_instret_reads_what_was_written(machine: PrivilegedMachine) -> None:
    machine.write("minstret", 1000)
    assert machine.read("minstret") == 1000
    assert machine.read("minstret") == 1001
    assert machine.read("instret") == 1002
    machine.set("mcycle", 1 << 40)
    assert machine.read("mcycle") >> 40 == 1


def test_inhibited_counters_stand_still(machine: PrivilegedMachine) -> None:
    machine.write("minstret", 500)
    machine.write("mcountinhibit", 4)
    assert machine.read("minstret") == machine.read("minstret") == 501
    machine.write("minstret", 7)
    assert machine.read("minstret") == 7
    cycle = machine.read("mcycle")
    assert machine.read("mcycle") == cycle + 1
    machine.write("mcountinhibit", 4)
    assert machine.read("minstret") == 7
    machine.write("mcountinhibit", 0)
    assert (machine.read("minstret"), machine.read("minstret")) == (7, 8)


def test_time_is_mtime(machine: PrivilegedMachine) -> None:
    machine.now = 0x1234_5678_9ABC
    assert machine.read("time") == machine.now


# -- floating point


def test_fcsr_is_frm_and_fflags(machine: PrivilegedMachine) -> None:
    machine.set("mstatus", 1 << 13)
    machine.write("fcsr", 0x1B5)
    assert (machine.read("frm"), machine.read("fflags"), machine.read("fcsr")) == (5, 0x15, 0xB5)
    machine.write("frm", 2)
    machine.clear("fflags", 4)
    assert machine.read("fcsr") == 0x51
    assert machine.read("mstatus") & FS == FS, "written: dirty"


# -- the instructions


def test_swap_set_and_clear(machine: PrivilegedMachine) -> None:
    assert machine.write("mscratch", 0xF0F0) == 0
    assert machine.set("mscratch", 0x0F00) == 0xF0F0
    assert machine.clear("mscratch", 0x00F0) == 0xFFF0
    assert machine.read("mscratch") == 0xFF00


def test_immediate_forms(machine: PrivilegedMachine) -> None:
    number = CSR_NUMBERS["mscratch"]
    values = []
    for mnemonic, uimm in (("csrrwi", 21), ("csrrsi", 10), ("csrrci", 3), ("csrrsi", 0), ("csrrwi", 0), ("csrrci", 0)):
        machine.run(mnemonic, Mode.M, csr=number, uimm=uimm, rd=7)
        values.append(machine.hart.x.values[7])
    assert values == [0, 21, 31, 28, 28, 0]


def test_reads_of_read_only_registers_by_every_form(machine: PrivilegedMachine) -> None:
    number = CSR_NUMBERS["mhartid"]
    machine.run("csrrs", csr=number, rs1=0, rd=5)
    machine.run("csrrc", csr=number, rs1=0, rd=5)
    machine.run("csrrsi", csr=number, uimm=0, rd=5)
    machine.run("csrrci", csr=number, uimm=0, rd=5)
    for mnemonic in ("csrrwi", "csrrsi", "csrrci"):
        with pytest.raises(GuestTrap):
            machine.run(mnemonic, csr=number, uimm=0 if mnemonic == "csrrwi" else 1, rd=5)


def test_names_and_numbers_are_unique() -> None:
    assert len(CSR_NAMES) == len(CSR_NUMBERS)
    assert (CSR_NUMBERS["pmpcfg14"], CSR_NUMBERS["pmpaddr63"], CSR_NUMBERS["hpmcounter31"]) == (0x3AE, 0x3EF, 0xC1F)
