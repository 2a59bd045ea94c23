"""A reference hart with the handles that tests of the privileged architecture want: CSRs by name, page tables."""

from __future__ import annotations

from mpemu.isa.csr_table import CSR_NUMBERS
from mpemu.isa.privileged import (
    MPP,
    MPP_SHIFT,
    MPRV,
    PTE_A,
    PTE_D,
    PTE_PPN_SHIFT,
    PTE_R,
    PTE_V,
    PTE_W,
    PTE_X,
    Access,
    Mode,
)
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import GuestTrap, PhysicalBus, ReferenceHart
from mpemu.isa.reference_core import number
from mpemu.isa.registry import INSNS

RAM, RAM_SIZE = 0x8000_0000, 1 << 20
CODE, HANDLER = RAM, RAM + 0x1000
TABLES = RAM + 0x10000
RWX = PTE_R | PTE_W | PTE_X
READY = PTE_V | RWX | PTE_A | PTE_D
ALL = (1 << 64) - 1
LEVELS = {8: 3, 9: 4, 10: 5}
"""satp.MODE -> levels"""


class PrivilegedMachine:
    """One hart. Unless told otherwise: every extension, memory open to all modes (PMP entry 8), traps go to M."""

    def __init__(self, isa: str = "max", open_memory: bool = True) -> None:
        self.now = 0
        self.hart = ReferenceHart(IsaSpec.parse(isa), PhysicalBus(bytearray(RAM_SIZE), RAM), clock=lambda: self.now)
        self.hart.reset(CODE)
        self.state = self.hart.s.values
        self.write("mtvec", HANDLER)
        if open_memory:
            self.write("pmpaddr8", ALL)
            self.write("pmpcfg2", 0x1F)

    # -- instructions
    def run(self, mnemonic: str, mode: int | None = None, **operands: int) -> int:
        """Execute one instruction at CODE in ``mode``; the pc behind it. GuestTrap if it trapped to M."""
        if mode is not None:
            self.state["priv"] = mode
        self.state["pc"] = CODE
        self.put(CODE, INSNS[mnemonic].pattern.encode(**operands), 4)
        self.hart.step()
        if self.state["pc"] == HANDLER:
            assert self.state["mepc"] == CODE
            raise GuestTrap(self.state["mcause"], self.state["mtval"])
        return self.state["pc"]

    def encoded(self) -> int:
        """The instruction that ran last: what xtval holds behind an illegal one."""
        return self.get(CODE, 4)

    def _csr(self, mnemonic: str, name: str, operand: int, mode: int) -> int:
        self.hart.x.values[6] = operand
        self.run(mnemonic, mode, csr=CSR_NUMBERS[name], rs1=6, rd=5)
        return self.hart.x.values[5]

    def read(self, name: str, mode: int = Mode.M) -> int:
        self.run("csrrs", mode, csr=CSR_NUMBERS[name], rs1=0, rd=5)
        return self.hart.x.values[5]

    def write(self, name: str, value: int, mode: int = Mode.M) -> int:
        """CSRRW; the old value, as for the next two."""
        return self._csr("csrrw", name, value, mode)

    def set(self, name: str, bits: int, mode: int = Mode.M) -> int:
        return self._csr("csrrs", name, bits, mode)

    def clear(self, name: str, bits: int, mode: int = Mode.M) -> int:
        return self._csr("csrrc", name, bits, mode)

    def written(self, name: str, value: int) -> int:
        """What reads back."""
        self.write(name, value)
        return self.read(name)

    # -- memory
    def put(self, address: int, value: int, size: int = 8) -> None:
        self.hart.bus.write(address, size, value, 0)

    def get(self, address: int, size: int = 8) -> int:
        return self.hart.bus.read(address, size)

    # -- routines
    def call(self, routine: str, *arguments: int) -> int:
        self.hart._begin()
        return number(self.hart.call(routine, *arguments))

    def translate(self, va: int, access: int = Access.LOAD, mode: int = Mode.S, size: int = 1) -> int:
        self.state["priv"] = mode
        return self.call("translate", va & ALL, access, size)

    def use_mprv(self, mode: int) -> None:
        self.state["mstatus"] = self.state["mstatus"] & ~MPP | mode << MPP_SHIFT | MPRV


class PageTables:
    """Page tables in RAM from TABLES on, and satp pointing to them."""

    def __init__(self, machine: PrivilegedMachine, mode: int) -> None:
        self.machine, self.levels = machine, LEVELS[mode]
        self.bits = 12 + 9 * self.levels
        self._next = TABLES
        self.root = self._allocate()
        machine.write("satp", mode << 60 | self.root >> 12)

    def _allocate(self) -> int:
        self._next += 4096
        return self._next - 4096

    def entry(self, va: int, level: int = 0) -> int:
        """Address of the PTE of ``va`` at ``level``; the tables above are made."""
        table = self.root
        for above in range(self.levels - 1, level, -1):
            pointer = table + (va >> 12 + 9 * above & 511) * 8
            pte = self.machine.get(pointer)
            if not pte & PTE_V:
                pte = self._allocate() >> 12 << PTE_PPN_SHIFT | PTE_V
                self.machine.put(pointer, pte)
            table = pte >> PTE_PPN_SHIFT << 12
        return table + (va >> 12 + 9 * level & 511) * 8

    def map(self, va: int, pa: int, flags: int = READY, level: int = 0) -> int:
        """Write a leaf; the address of its PTE."""
        address = self.entry(va, level)
        self.machine.put(address, pa >> 12 << PTE_PPN_SHIFT | flags)
        return address
