"""Code changes take effect at FENCE.I, wherever the code lies: within a page, across two, in many, in the boot ROM."""

from __future__ import annotations

import ctypes
import random

import pytest

from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import PAGE
from mpemu.memory import MachineMemory
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, A2, EBREAK, STOP, SV39, Lab, asm, pte
from tests.codegen.lab import A as PTE_A
from tests.codegen.lab import R as PTE_R
from tests.codegen.lab import V as PTE_V
from tests.codegen.lab import X as PTE_X
from tests.codegen.native_hart import RAM, blob

CODE = RAM + 0x1_0000
FENCE_I = asm("fence.i")
NOP = asm("addi", rd=0, rs1=0, imm=0)


def word(code: bytes) -> int:
    return int.from_bytes(code, "little")


def li(rd: int, value: int) -> bytes:
    return asm("addi", rd=rd, rs1=0, imm=value)


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_code_that_changes_itself(lab: Lab) -> None:
    """The instruction behind FENCE.I was rewritten in front of it; both were decoded together before."""
    body = [asm("sw", rs1=A1, rs2=A2, imm=0), FENCE_I, li(A0, 1)]
    lab.place(CODE, *body)
    target = CODE + 8
    for value in (2, 3, 4):
        assert lab.done(CODE, x11=target, x12=word(li(A0, value))).x[A0] == value


def test_code_on_another_page_that_was_executed_before(lab: Lab) -> None:
    function = CODE + 0x1000
    lab.place(function, li(A0, 1), asm("jalr", rd=0, rs1=1, imm=0))
    call = asm("jalr", rd=1, rs1=13, imm=0)
    lab.place(CODE, call, asm("addi", rd=14, rs1=A0, imm=0), asm("sw", rs1=A1, rs2=A2, imm=0), FENCE_I, call)
    hart = lab.done(CODE, x13=function, x11=function, x12=word(li(A0, 2)))
    assert (hart.x[14], hart.x[A0]) == (1, 2)


def test_fence_i_of_another_hart_does_not_reach_this_one_but_its_own_does() -> None:
    lab = Lab(harts=2)
    lab.place(CODE, li(A0, 1))
    lab.place(CODE + 0x1000, FENCE_I)
    assert lab.done(CODE, hart=1).x[A0] == 1
    lab.memory.write(CODE, li(A0, 2))
    lab.done(CODE + 0x1000, hart=1)
    assert lab.done(CODE, hart=1).x[A0] == 2


def test_unchanged_code_is_not_decoded_again(lab: Lab) -> None:
    """FENCE.I compares; it throws nothing away that still stands."""
    lab.place(CODE, li(A0, 1), FENCE_I, li(A0, 2))
    lab.done(CODE)
    pages = lab.hart().pages_decoded
    for _ in range(20):
        assert lab.done(CODE).x[A0] == 2
    assert lab.hart().pages_decoded == pages


# -- instructions across two pages
SPLIT = CODE + PAGE - 2
"""Where an instruction of 4 bytes lies on two pages."""


def test_an_instruction_across_two_physical_pages(lab: Lab) -> None:
    lab.place(SPLIT, li(A0, 5))
    for _ in range(3):
        assert lab.done(SPLIT).x[A0] == 5


@pytest.mark.parametrize("half", [0, 2])
def test_each_half_can_be_rewritten(lab: Lab, half: int) -> None:
    lab.place(SPLIT, li(A0, 5))
    assert lab.done(SPLIT).x[A0] == 5
    other = li(A0, 6) if half else asm("addi", rd=A1, rs1=0, imm=5)
    lab.memory.write(SPLIT + half, other[half : half + 2])
    lab.routine("flush_code")
    hart = lab.done(SPLIT, x10=0, x11=0)
    assert (hart.x[A0], hart.x[A1]) == ((6, 0) if half else (0, 5))


@pytest.mark.parametrize("distance", [-8, 2, 8])
def test_a_jump_across_two_pages(lab: Lab, distance: int) -> None:
    lab.place(SPLIT - 8, NOP)
    lab.place(SPLIT, asm("jal", rd=1, imm=distance), NOP)
    lab.memory.write(SPLIT + distance, (0x9002).to_bytes(2, "little"))
    lab.routine("flush_code")
    if distance == 2:  # into its own second half: whatever the bits are, nothing may break
        assert lab.run(SPLIT) in (ExitReason.QUANTUM, ExitReason.MMIO)
        return
    hart = lab.done(SPLIT)
    assert hart.mepc == SPLIT + distance and hart.x[1] == SPLIT + 4


class Split(Lab):
    """SPLIT's two pages mapped at VA and behind it, by PTEs that the tests edit."""

    VA = 0x4000_0000
    ROOT, MIDDLE, LEAF = RAM + 0x2_0000, RAM + 0x2_1000, RAM + 0x2_2000
    FIRST, SECOND, OTHER = CODE, CODE + 0x3000, CODE + 0x5000

    def __init__(self) -> None:
        super().__init__()
        self.store(self.ROOT + 8, pte(self.MIDDLE, PTE_V))
        self.store(self.MIDDLE, pte(self.LEAF, PTE_V))
        self.map(0, self.FIRST)
        self.map(1, self.SECOND)
        code = li(A0, 5)
        self.memory.write(self.FIRST + PAGE - 2, code[:2])
        self.memory.write(self.SECOND, code[2:] + EBREAK.to_bytes(4, "little"))
        self.memory.write(self.OTHER, li(A0, 6)[2:] + EBREAK.to_bytes(4, "little"))
        self.hart().satp = SV39 | self.ROOT >> 12

    def map(self, page: int, pa: int, flags: int = PTE_V | PTE_R | PTE_X | PTE_A) -> None:
        self.store(self.LEAF + 8 * page, pte(pa, flags))

    @property
    def pc(self) -> int:
        return self.VA + PAGE - 2


def test_the_second_page_is_remapped() -> None:
    lab = Split()
    assert lab.done(lab.pc, priv=Mode.S).x[A0] == 5
    lab.map(1, lab.OTHER)
    lab.routine("flush_page", lab.VA + PAGE)
    assert lab.done(lab.pc, priv=Mode.S).x[A0] == 6
    lab.map(1, lab.SECOND)
    lab.routine("flush_tlb")
    assert lab.done(lab.pc, priv=Mode.S).x[A0] == 5


@pytest.mark.parametrize(
    ("flags", "cause"), [(0, Cause.FETCH_PAGE), (PTE_V | PTE_R | PTE_A, Cause.FETCH_PAGE)], ids=["absent", "data"]
)
def test_a_fault_on_the_second_page(flags: int, cause: int) -> None:
    """xepc is the instruction, xtval the part of it that faulted (privileged spec, mtval)."""
    lab = Split()
    assert lab.done(lab.pc, priv=Mode.S).x[A0] == 5
    lab.map(1, lab.SECOND, flags)
    lab.routine("flush_page", lab.VA + PAGE)
    for _ in range(2):
        hart = lab.done(lab.pc, priv=Mode.S, cause=cause, x10=0)
        assert (hart.mepc, hart.mtval, hart.x[A0]) == (lab.pc, lab.VA + PAGE, 0)
    lab.map(1, lab.SECOND)
    assert lab.done(lab.pc, priv=Mode.S).x[A0] == 5


def test_a_second_page_that_is_no_memory() -> None:
    lab = Split()
    lab.map(1, 0x1000_0000)
    hart = lab.done(lab.pc, priv=Mode.S, cause=Cause.FETCH_ACCESS)
    assert (hart.mepc, hart.mtval) == (lab.pc, lab.VA + PAGE)


def test_a_fault_of_an_instruction_across_two_pages_shows_its_bits(lab: Lab) -> None:
    lab.place(SPLIT, (0xFFFF_FFFF).to_bytes(4, "little"))
    hart = lab.done(SPLIT, cause=Cause.ILLEGAL)
    assert (hart.mepc, hart.mtval) == (SPLIT, 0xFFFF_FFFF)


# -- where code can be
def test_execution_runs_off_the_end_of_ram(lab: Lab) -> None:
    end = RAM + lab.memory.ram_size
    lab.memory.write(end - 8, NOP + NOP)
    hart = lab.done(end - 8, cause=Cause.FETCH_ACCESS)
    assert (hart.mepc, hart.mtval) == (end, end)


@pytest.mark.parametrize("pc", [0, 0x1000, 0x1000_0000, RAM - 4, (1 << 64) - 4, 1 << 55])
def test_execution_where_nothing_is(lab: Lab, pc: int) -> None:
    assert lab.done(pc, cause=Cause.FETCH_ACCESS).mtval == pc


def test_execution_from_the_boot_rom() -> None:
    """The ROM is no RAM: it is found by rom_base; what is behind its end isn't."""
    memory = MachineMemory(1, 1 << 20)
    machine = memory.machine
    machine.rom_base[2], machine.rom_size[2] = 0x1000, PAGE
    machine.rom_host[2] = memory.state_address + type(machine).mrom.offset
    code = li(A0, 7) + asm("jalr", rd=0, rs1=A1, imm=0)
    ctypes.memmove(machine.rom_host[2] + 0x10, code, len(code))
    ctypes.memmove(machine.rom_host[2] + PAGE - 2, NOP, 2)
    engine = Engine(blob(), memory, 0)
    memory.write(STOP, asm("jal", rd=0, imm=0))
    engine.reset(pc=0x1010, a1=STOP)
    hart = engine.hart
    hart.mtvec, hart.quantum_end, hart.slice_end = STOP, 8, 8
    assert engine.run() is ExitReason.QUANTUM and hart.pc == STOP and hart.x[A0] == 7
    hart.pc, hart.quantum_end, hart.slice_end = 0x1000 + PAGE - 2, hart.instret + 8, hart.instret + 8
    assert engine.run() is ExitReason.QUANTUM and hart.pc == STOP
    assert (hart.mcause, hart.mtval) == (Cause.FETCH_ACCESS, 0x1000 + PAGE)


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_more_code_pages_than_the_decode_cache_holds(lab: Lab, pool: int) -> None:
    """Calls among pages in random order, some instructions across two pages; the cache begins anew all the time."""
    lab.hart().record_pages = pool
    rng = random.Random(pool)
    pages = [CODE + 2 * PAGE * n for n in range(12)]
    for n, page in enumerate(pages):
        step = asm("addi", rd=A0, rs1=A0, imm=1 << n % 6)
        lab.place(page + PAGE - 2, step, asm("jalr", rd=0, rs1=1, imm=0))
        lab.place(page, asm("jal", rd=0, imm=PAGE - 2))
    order = [rng.randrange(len(pages)) for _ in range(60)]
    calls = b"".join(asm("addi", rd=A1, rs1=A2 + n, imm=0) + asm("jalr", rd=1, rs1=A1, imm=0) for n in order)
    lab.place(RAM + 0x4_0000, calls)
    registers = {f"x{A2 + n}": page for n, page in enumerate(pages)}
    hart = lab.done(RAM + 0x4_0000, quantum=600, x10=0, **registers)
    assert hart.x[A0] == sum(1 << n % 6 for n in order)


def test_the_cache_begins_anew_under_an_illegal_instruction(lab: Lab) -> None:
    """tval needs the bits again, from a page whose records may just have been given away."""
    lab.hart().record_pages = 1
    lab.place(SPLIT, (0xFFFF_FFFF).to_bytes(4, "little"))
    for _ in range(3):
        assert lab.done(SPLIT, cause=Cause.ILLEGAL).mtval == 0xFFFF_FFFF


def test_the_jump_back_at_the_very_end_of_the_last_page_of_the_cache(lab: Lab) -> None:
    """A loop that waits, its jump in the last two bytes of a page: the decoder looks at the loop, not behind it."""
    pool = lab.hart().record_pages
    lab.hart().record_next = pool - 1
    at = CODE + PAGE - 6
    lab.place(at, asm("ld", rd=A0, rs1=A1, imm=0), (0xDD75).to_bytes(2, "little"))  # c.beqz a0, .-4
    lab.store(CODE + 0x2000, 1)
    hart = lab.done(at, x11=CODE + 0x2000)
    assert hart.x[A0] == 1 and hart.mepc == CODE + PAGE
