"""Translated code and what may change under it: its own bytes, those of a page that it calls, mappings, permissions.

The stage: a caller on one page, in a loop, calls a function on the next one. All of it runs interpreted, is translated,
and runs again; then something changes, and what the architecture says must be seen: after FENCE.I, SFENCE.VMA, a CSR
write or a change of mode, not before anything of that kind.
"""

from __future__ import annotations

from typing import Any

import pytest

from mpemu.isa.privileged import MPP_SHIFT, MPRV, MXR, SUM, Cause, Mode
from tests.codegen.lab import A0, A1, A2, A3, A4, A5, RWX, SV39, asm, pte
from tests.codegen.lab import A as PTE_A
from tests.codegen.lab import R as PTE_R
from tests.codegen.lab import U as PTE_U
from tests.codegen.lab import V as PTE_V
from tests.codegen.lab import X as PTE_X
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab, lab_fixture

RA = 1
PAGE = 4096
CALLER, CALLEE, OTHER_CALLEE = RAM + 0x2_0000, RAM + 0x2_1000, RAM + 0x2_4000
SECOND_CALLER, SECOND_CALLEE = RAM + 0x2_6000, RAM + 0x2_7000
DATA, OTHER_DATA = RAM + 0x3_0000, RAM + 0x3_1000
ROOT, MIDDLE, LEAF, ROOT2, MIDDLE2, LEAF2 = (RAM + 0x1_0000 + n * PAGE for n in range(6))
FENCE_I, SFENCE, SATP, PMP = (RAM + 0x4000 + 0x40 * n for n in range(4))
SMALL = 0x4000_0000
"""Where 4 KiB pages are mapped: page n by LEAF[n]. RAM is mapped 1:1 besides."""
RX = PTE_V | PTE_R | PTE_X | PTE_A
TURNS = 5
QUANTUM = 1000


def li(rd: int, value: int) -> bytes:
    return asm("addi", rd=rd, rs1=0, imm=value)


def adds(amount: int) -> bytes:
    """The function that is called: a0 += amount."""
    return asm("addi", rd=A0, rs1=A0, imm=amount)


RETURN = asm("jalr", rd=0, rs1=RA, imm=0)
CALL = asm("addi", rd=A5, rs1=A5, imm=1) + asm("jal", rd=RA, imm=PAGE - 4)
LOOP = CALL + asm("addi", rd=A1, rs1=A1, imm=-1) + asm("bne", rs1=A1, rs2=0, imm=-12)
"""Calls what is a page farther on, a1 times."""


class Stage(TranslatedLab):
    def __init__(self, harts: int = 1) -> None:
        super().__init__(harts)
        self.place(FENCE_I, asm("fence.i"))
        self.place(SFENCE, asm("sfence.vma", rs1=A1, rs2=A2))
        self.place(SATP, asm("csrrw", rd=0, csr=0x180, rs1=A1))
        self.place(PMP, asm("csrrw", rd=0, csr=0x3B0, rs1=A1), asm("csrrw", rd=0, csr=0x3A0, rs1=A2))
        self.place(CALLER, LOOP)
        self.place(CALLEE, adds(1), RETURN)
        self.place(OTHER_CALLEE, adds(10), RETURN)
        for root, middle, leaf in ((ROOT, MIDDLE, LEAF), (ROOT2, MIDDLE2, LEAF2)):
            self.store(root + 8 * 2, pte(RAM, RWX))
            self.store(root + 8 * 1, pte(middle, PTE_V))
            self.store(middle, pte(leaf, PTE_V))
        for index in range(harts):
            self.hart(index).satp = SV39 | ROOT >> 12

    def map(self, page: int, pa: int, flags: int = RX, leaf: int = LEAF) -> None:
        self.store(leaf + 8 * page, pte(pa, flags))

    def sfence(self, va: int | None = None) -> None:
        """Of everything, or of the page."""
        if va is None:
            self.place(SFENCE, asm("sfence.vma", rs1=0, rs2=0))
        self.done(SFENCE, priv=Mode.S, x11=va or 0, x12=0)

    def fence_i(self, hart: int = 0) -> None:
        self.done(FENCE_I, hart=hart)

    def loop(self, pc: int = CALLER, priv: int = Mode.M, hart: int = 0, cause: int = Cause.BREAKPOINT, **x: int) -> Any:
        """Run the loop from a0 = 0 on: the hart."""
        return self.done(pc, priv=priv, hart=hart, cause=cause, quantum=QUANTUM, **{"x10": 0, "x11": TURNS, **x})

    def sum(self, pc: int = CALLER, priv: int = Mode.M, hart: int = 0) -> int:
        """a0 behind the loop: TURNS times what the function adds."""
        return int(self.loop(pc, priv, hart).x[A0])

    def hot(self, pc: int = CALLER, priv: int = Mode.M, physical: int = CALLER, hart: int = 0) -> None:
        """Run the loop, translate it, run it once more."""
        before = self.sum(pc, priv, hart)
        self.translate(physical, hart=hart)
        assert self.translated([physical], hart) == {physical}
        assert self.sum(pc, priv, hart) == before


stage = lab_fixture(Stage, by_tier=True)


# -- code that changes
def test_the_function_is_rewritten(stage: Stage) -> None:
    stage.hot()
    for amount in (2, 3, 4):
        stage.memory.write(CALLEE, adds(amount))
        stage.fence_i()
        assert stage.sum() == amount * TURNS
        stage.translate(CALLER, CALLEE)
        assert stage.sum() == amount * TURNS


def test_the_loop_is_rewritten(stage: Stage) -> None:
    stage.hot()
    stage.memory.write(CALLER, adds(7))  # and 1 in the function
    stage.fence_i()
    assert stage.sum() == 8 * TURNS
    stage.memory.write(CALLER, LOOP)
    stage.fence_i()
    assert stage.sum() == TURNS


def test_code_that_was_there_before_comes_back(stage: Stage) -> None:
    """Regions of both versions exist; the right one runs, always."""
    versions = [adds(n) for n in (1, 2)]
    for n in range(8):
        stage.memory.write(CALLEE, versions[n % 2])
        stage.fence_i()
        assert stage.sum() == TURNS * (n % 2 + 1)
        stage.translate(CALLER, CALLEE)


def test_the_function_rewrites_itself(stage: Stage) -> None:
    """In the middle of the loop, FENCE.I included: at once."""
    rewrite = asm("sw", rs1=A2, rs2=A3, imm=0) + asm("fence.i")
    stage.place(CALLEE, rewrite, adds(1), RETURN)
    target = {"x12": CALLEE + len(rewrite)}
    for amount in (1, 2, 3):
        for _ in range(2):
            hart = stage.loop(**target, x13=int.from_bytes(adds(amount), "little"))
            assert hart.x[A0] == amount * TURNS
            stage.translate(CALLER, CALLEE, CALLEE + len(rewrite))


def test_the_function_rewrites_its_caller(stage: Stage) -> None:
    """What it returns to is another instruction than at the call."""
    stage.place(CALLER, CALL, adds(0), asm("addi", rd=A1, rs1=A1, imm=-1), asm("bne", rs1=A1, rs2=0, imm=-16))
    stage.place(CALLEE, asm("sw", rs1=A2, rs2=A3, imm=0), asm("fence.i"), RETURN)
    for amount in (0, 5, 6):
        for _ in range(2):
            hart = stage.loop(x12=CALLER + 8, x13=int.from_bytes(adds(amount), "little"))
            assert hart.x[A0] == amount * TURNS
            stage.translate(CALLER, CALLEE)


def test_an_access_that_regions_leave_alone_is_rewritten(stage: Stage) -> None:
    """Across two pages: the interpreter does it by a handler that the hart remembers, as the record has a region's."""
    across = DATA + PAGE - 4
    load, store = asm("ld", rd=A2, rs1=A3, imm=0), asm("sd", rs1=A3, rs2=A2, imm=0)
    for n in range(6):
        stage.memory.write(CALLEE, (load, store)[n % 2] + adds(1) + RETURN)
        stage.fence_i()
        for _ in range(2):
            stage.store(across, 5)
            hart = stage.loop(x12=7, x13=across)
            assert (hart.x[A0], hart.x[A2], stage.load(across)) == (TURNS, *((5, 5), (7, 7))[n % 2])
            stage.translate(CALLER, CALLEE)
            assert CALLEE in stage.translated([CALLEE])


def test_data_beside_code(stage: Stage) -> None:
    """The function counts in its own page: no instruction changes, with and without FENCE.I."""
    count = asm("ld", rd=A4, rs1=A3, imm=0) + asm("addi", rd=A4, rs1=A4, imm=1) + asm("sd", rs1=A3, rs2=A4, imm=0)
    stage.place(CALLEE, count, adds(1), RETURN)
    for n in range(1, 7):
        assert stage.loop(x13=CALLEE + 0x800).x[A0] == TURNS
        assert stage.load(CALLEE + 0x800) == n * TURNS
        if n % 2:
            stage.fence_i()
        stage.translate(CALLER, CALLEE)


def test_another_hart_rewrites_the_function() -> None:
    """This hart sees it at its own FENCE.I at the latest."""
    stage = Stage(harts=2)
    try:
        stage.hot()
        stage.hot(hart=1)
        write = RAM + 0x5000
        stage.place(write, asm("sw", rs1=A2, rs2=A3, imm=0), asm("fence.i"))
        for amount in (4, 5, 6):
            stage.done(write, x12=CALLEE, x13=int.from_bytes(adds(amount), "little"))
            assert stage.sum() == amount * TURNS
            assert stage.sum(hart=1) % TURNS == 0  # old or new
            stage.fence_i(hart=1)
            assert stage.sum(hart=1) == amount * TURNS
            stage.translate(CALLER, CALLEE, hart=1)
            assert stage.sum(hart=1) == stage.sum() == amount * TURNS
    finally:
        stage.close()


def test_pages_alike_with_different_neighbours(stage: Stage) -> None:
    """Two callers of the same bytes, behind each another function."""
    stage.place(SECOND_CALLER, LOOP)
    stage.place(SECOND_CALLEE, adds(100), RETURN)
    stage.hot()
    assert stage.sum(SECOND_CALLER) == 100 * TURNS
    stage.translate(SECOND_CALLER)
    assert stage.sum(SECOND_CALLER) == 100 * TURNS
    assert stage.sum() == TURNS
    stage.memory.write(SECOND_CALLEE, adds(1))
    stage.memory.write(CALLEE, adds(100))
    stage.fence_i()
    assert stage.sum(SECOND_CALLER) == TURNS
    assert stage.sum() == 100 * TURNS


# -- mappings of code
@pytest.fixture
def mapped(stage: Stage) -> Stage:
    """The caller at SMALL, the function behind it, translated by way of that mapping."""
    stage.map(0, CALLER)
    stage.map(1, CALLEE)
    stage.hot(SMALL, Mode.S)
    return stage


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all", "page"])
def test_the_function_is_mapped_elsewhere(mapped: Stage, all_of_it: bool) -> None:
    for pa, amount in ((OTHER_CALLEE, 10), (CALLEE, 1)) * 2:
        mapped.map(1, pa)
        mapped.sfence(None if all_of_it else SMALL + PAGE)
        assert mapped.sum(SMALL, Mode.S) == amount * TURNS
        mapped.translate(CALLER)
        assert mapped.sum(SMALL, Mode.S) == amount * TURNS


@pytest.mark.parametrize(
    ("flags", "pa", "cause"),
    [
        (0, CALLEE, Cause.FETCH_PAGE),
        (PTE_V | PTE_R | PTE_A, CALLEE, Cause.FETCH_PAGE),
        (RX | PTE_U, CALLEE, Cause.FETCH_PAGE),
        (RX, 0x1000_0000, Cause.FETCH_ACCESS),
    ],
    ids=["unmapped", "no-X", "user", "no-memory"],
)
@pytest.mark.parametrize("all_of_it", [True, False], ids=["all", "page"])
def test_the_function_may_not_be_executed_any_more(
    mapped: Stage, flags: int, pa: int, cause: int, all_of_it: bool
) -> None:
    mapped.map(1, pa, flags)
    mapped.sfence(None if all_of_it else SMALL + PAGE)
    for _ in range(2):
        hart = mapped.loop(SMALL, Mode.S, cause=cause)
        assert (hart.mepc, hart.mtval, hart.x[A0], hart.x[A1]) == (SMALL + PAGE, SMALL + PAGE, 0, TURNS)
        assert hart.x[RA] == SMALL + 8
    mapped.map(1, CALLEE)
    mapped.sfence(SMALL + PAGE)
    assert mapped.sum(SMALL, Mode.S) == TURNS


def test_the_caller_is_unmapped_while_its_function_runs(mapped: Stage) -> None:
    """It returns to where nothing is."""
    unmap = asm("sd", rs1=A2, rs2=0, imm=0) + asm("sfence.vma", rs1=0, rs2=0)
    mapped.place(CALLEE, unmap, adds(1), RETURN)
    mapped.map(2, LEAF, RWX)
    entry = mapped.load(LEAF)
    for _ in range(3):
        mapped.store(LEAF, entry)
        mapped.sfence()
        hart = mapped.loop(SMALL, Mode.S, cause=Cause.FETCH_PAGE, x12=SMALL + 2 * PAGE)
        assert (hart.mepc, hart.mtval, hart.x[A0]) == (SMALL + 8, SMALL + 8, 1)
        mapped.store(LEAF, entry)
        mapped.sfence()
        mapped.translate(CALLER, CALLEE, CALLEE + len(unmap))


def test_address_spaces_with_other_code_at_the_same_place(mapped: Stage) -> None:
    """The same caller in both, another function; by SATP, with an ASID each and no fence."""
    mapped.map(0, CALLER, leaf=LEAF2)
    mapped.map(1, OTHER_CALLEE, leaf=LEAF2)
    for n in range(6):
        root, amount = ((ROOT2, 10), (ROOT, 1))[n % 2]
        mapped.done(SATP, priv=Mode.S, x11=SV39 | (n % 2 + 1) << 44 | root >> 12)
        assert mapped.sum(SMALL, Mode.S) == amount * TURNS
        mapped.translate(CALLER)
    mapped.done(SATP, priv=Mode.S, x11=SV39 | 1 << 44 | ROOT2 >> 12)
    assert mapped.sum(SMALL, Mode.S) == 10 * TURNS


def test_the_same_pages_at_two_addresses(mapped: Stage) -> None:
    """In the other order at the second one: what is behind the caller there is not its function."""
    mapped.map(16, CALLER)
    mapped.map(17, OTHER_CALLEE)
    assert mapped.sum(SMALL + 16 * PAGE, Mode.S) == 10 * TURNS
    mapped.translate(CALLER)
    for _ in range(2):
        assert mapped.sum(SMALL, Mode.S) == TURNS
        assert mapped.sum(SMALL + 16 * PAGE, Mode.S) == 10 * TURNS


def test_user_and_supervisor_pages(stage: Stage) -> None:
    """The same regions by two mappings; each mode may execute only its own, also if just the function's is wrong."""
    for page, flags in ((0, RX), (4, RX | PTE_U)):
        stage.map(page, CALLER, flags)
        stage.map(page + 1, CALLEE, flags)
    for page, first, second in ((8, RX, RX | PTE_U), (12, RX | PTE_U, RX)):
        stage.map(page, CALLER, first)
        stage.map(page + 1, CALLEE, second)
    stage.hot(SMALL, Mode.S)
    user = SMALL + 4 * PAGE
    for _ in range(2):
        assert stage.sum(user, Mode.U) == TURNS
        assert stage.loop(user, Mode.S, cause=Cause.FETCH_PAGE).mepc == user
        assert stage.sum(SMALL, Mode.S) == TURNS
        assert stage.loop(SMALL, Mode.U, cause=Cause.FETCH_PAGE).mepc == SMALL
        for page, priv in ((8, Mode.S), (12, Mode.U)):
            at = SMALL + page * PAGE
            hart = stage.loop(at, priv, cause=Cause.FETCH_PAGE)
            assert (hart.mepc, hart.mtval, hart.x[A0]) == (at + PAGE, at + PAGE, 0)
        assert stage.sum() == TURNS  # M-mode, by the physical address
        stage.translate(CALLER, CALLEE)


def test_pmp_takes_the_function_away(stage: Stage) -> None:
    """And gives it back; S-mode only, and M-mode where the entry is locked."""
    stage.map(0, CALLER)
    stage.map(1, CALLEE)
    stage.hot(SMALL, Mode.S)
    hart = stage.hart()
    hart.pmpaddr_1 = (1 << 54) - 1
    napot, no_execute = CALLEE >> 2 | 0x1FF, 0x1B
    for _ in range(2):
        stage.done(PMP, x11=napot, x12=no_execute | 0x1F << 8)
        assert stage.sum() == TURNS
        found = stage.loop(SMALL, Mode.S, cause=Cause.FETCH_ACCESS)
        assert (found.mepc, found.mtval) == (SMALL + PAGE, SMALL + PAGE)
        stage.done(PMP, x11=napot, x12=0x1F | 0x1F << 8)
        assert stage.sum(SMALL, Mode.S) == TURNS


# -- jumps to odd places
def test_jumps_to_odd_addresses(stage: Stage) -> None:
    """Bit 0 of a jalr's target is dropped; bit 1 leads into the middle of an instruction, which is other code."""
    middle = CALLEE + 0x100
    # lui a5, 0x45050: its second half is 0x4505, c.li a0, 1; then c.nop
    stage.place(middle, (0x4505_07B7).to_bytes(4, "little"), asm("jalr", rd=0, rs1=RA, imm=0))
    stage.place(CALLER, LOOP[:4], asm("jalr", rd=RA, rs1=A2, imm=0), LOOP[8:])
    for _ in range(3):
        hart = stage.loop(x12=middle | 1)
        assert (hart.x[A0], hart.x[A5]) == (0, 0x4505_0000)
        hart = stage.loop(x12=middle + 2)
        assert hart.x[A0] == 1
        hart = stage.loop(x12=middle + 3)
        assert hart.x[A0] == 1
        stage.translate(CALLER, middle, middle + 2)


# -- data under hot loops
STRIDE_LOOP = b"".join((
    asm("ld", rd=A4, rs1=A2, imm=0),
    asm("add", rd=A0, rs1=A0, rs2=A4),
    asm("sd", rs1=A2, rs2=A0, imm=8),
    asm("add", rd=A2, rs1=A2, rs2=A3),
    asm("addi", rd=A1, rs1=A1, imm=-1),
    asm("bne", rs1=A1, rs2=0, imm=-20),
))  # fmt: skip
"""a1 times: a0 += (a2), (a2 + 8) = a0, a2 += a3."""
RW = RWX & ~PTE_X


@pytest.fixture
def stride(stage: Stage) -> Stage:
    """STRIDE_LOOP at SMALL, translated; pages 8 and 9 are DATA and OTHER_DATA."""
    stage.place(CALLER, STRIDE_LOOP)
    stage.map(0, CALLER)
    stage.map(8, DATA, RW)
    stage.map(9, OTHER_DATA, RW)
    for offset in range(0, PAGE, 8):
        stage.store(DATA + offset, 1)
        stage.store(OTHER_DATA + offset, 100)
    run_stride(stage)
    stage.translate(CALLER)
    run_stride(stage)
    return stage


FIRST = SMALL + 8 * PAGE


def run_stride(stage: Stage, priv: int = Mode.S, cause: int = Cause.BREAKPOINT, va: int = FIRST, step: int = 0) -> Any:
    return stage.loop(SMALL if priv != Mode.M else CALLER, priv, cause=cause, x12=va, x13=step)


def test_data_is_mapped_elsewhere(stride: Stage) -> None:
    for pa, value in ((OTHER_DATA, 100), (DATA, 1)) * 2:
        stride.store(pa, value)
        stride.map(8, pa, RW)
        stride.sfence(FIRST)
        assert run_stride(stride).x[A0] == value * TURNS
        assert stride.load(pa + 8) == value * TURNS


def test_data_becomes_read_only_and_goes(stride: Stage) -> None:
    stride.map(8, DATA, PTE_V | PTE_R | PTE_A)
    stride.sfence(FIRST)
    for _ in range(2):
        hart = run_stride(stride, cause=Cause.STORE_PAGE)
        assert (hart.mepc, hart.mtval, hart.x[A0], hart.x[A1]) == (SMALL + 8, FIRST + 8, 1, TURNS)
    stride.map(8, DATA, 0)
    stride.sfence(FIRST)
    hart = run_stride(stride, cause=Cause.LOAD_PAGE)
    assert (hart.mepc, hart.mtval, hart.x[A0], hart.x[A1]) == (SMALL, FIRST, 0, TURNS)


def test_a_loop_runs_off_its_pages(stride: Stage) -> None:
    """Legal for some turns; then the registers are those of that turn."""
    before = stride.hart().instret
    hart = run_stride(stride, cause=Cause.LOAD_PAGE, step=PAGE)
    assert (hart.mepc, hart.mtval, hart.x[A1], hart.x[A2]) == (SMALL, FIRST + 2 * PAGE, TURNS - 2, FIRST + 2 * PAGE)
    assert hart.x[A0] == 101 and stride.load(OTHER_DATA + 8) == 101
    assert hart.instret - before >= 12
    hart = run_stride(stride, cause=Cause.STORE_PAGE, va=FIRST + 2 * PAGE - 16, step=8)
    assert (hart.mepc, hart.mtval, hart.x[A1]) == (SMALL + 8, FIRST + 2 * PAGE, TURNS - 1)


def test_a_store_across_the_end_of_what_is_mapped(stride: Stage) -> None:
    """No byte of it is stored; the fault is the second page's."""
    last = FIRST + 2 * PAGE - 12
    before = stride.memory.read(OTHER_DATA + PAGE - 16, 16)
    hart = run_stride(stride, cause=Cause.STORE_PAGE, va=last)
    assert (hart.mepc, hart.mtval) == (SMALL + 8, FIRST + 2 * PAGE)
    assert stride.memory.read(OTHER_DATA + PAGE - 16, 16) == before


def test_sum_and_mxr(stride: Stage) -> None:
    stride.map(8, DATA, RW | PTE_U)
    stride.sfence()
    hart = stride.hart()
    for _ in range(2):
        for bits in (SUM, 0):
            hart.mstatus = hart.mstatus & ~(SUM | MXR) | bits
            stride.store(DATA, 1)
            if bits:
                assert run_stride(stride).x[A0] == TURNS
            else:
                assert run_stride(stride, cause=Cause.LOAD_PAGE).mtval == FIRST
    hart.mstatus &= ~SUM
    stride.map(8, DATA, PTE_V | PTE_X | PTE_A)
    stride.sfence()
    for bits in (MXR, 0, MXR):
        hart.mstatus = hart.mstatus & ~MXR | bits
        if bits:  # it may be read then, but never written
            assert run_stride(stride, cause=Cause.STORE_PAGE).x[A0] == 1
        else:
            assert run_stride(stride, cause=Cause.LOAD_PAGE).x[A0] == 0


def test_mprv(stride: Stage) -> None:
    """M-mode's loop accesses what the mode in MPP may."""
    hart = stride.hart()
    stride.map(9, OTHER_DATA, RW | PTE_U)
    stride.sfence()
    second = FIRST + PAGE
    stride.store(DATA, 1)
    stride.store(OTHER_DATA, 100)
    for _ in range(2):
        for mode, fine, wrong in ((Mode.S, FIRST, second), (Mode.U, second, FIRST)):
            hart.mstatus = MPRV | mode << MPP_SHIFT
            found = run_stride(stride, Mode.M, va=fine)
            assert found.x[A0] == TURNS * (100 if fine == second else 1)
            hart.mstatus = MPRV | mode << MPP_SHIFT
            assert run_stride(stride, Mode.M, cause=Cause.LOAD_PAGE, va=wrong).mtval == wrong
        hart.mstatus = 0
        assert run_stride(stride, Mode.M, va=DATA).x[A0] == TURNS
        assert run_stride(stride, Mode.M, cause=Cause.LOAD_ACCESS, va=FIRST).mtval == FIRST


def test_pmp_takes_data_away(stride: Stage) -> None:
    hart = stride.hart()
    hart.pmpaddr_1 = (1 << 54) - 1
    napot = DATA >> 2 | 0x1FF
    for config, cause in ((0x18, Cause.LOAD_ACCESS), (0x19, Cause.STORE_ACCESS), (0x1B, Cause.BREAKPOINT)) * 2:
        stride.store(DATA, 1)
        stride.done(PMP, x11=napot, x12=config | 0x1F << 8)
        run_stride(stride, cause=cause)
        run_stride(stride, Mode.M, va=DATA)  # not locked: M-mode may
    stride.done(PMP, x11=napot, x12=0x98 | 0x1F << 8)
    run_stride(stride, Mode.M, cause=Cause.LOAD_ACCESS, va=DATA)


def test_page_tables_under_a_hot_loop_of_another_mode(stride: Stage) -> None:
    """From S-mode with paging to M-mode, to S-mode without paging, and back: each has its own view of one address."""
    stride.map(8, DATA, RW)
    gigapage = RAM & -(1 << 30)
    for _ in range(2):
        stride.store(ROOT + 8 * 2, pte(RAM, RWX))
        stride.sfence()
        stride.store(DATA, 1)
        assert run_stride(stride).x[A0] == TURNS
        assert run_stride(stride, Mode.M, va=DATA).x[A0] == TURNS
        stride.done(SATP, priv=Mode.M, x11=0)
        assert stride.loop(CALLER, Mode.S, x12=DATA, x13=0).x[A0] == TURNS
        assert stride.loop(CALLER, Mode.S, cause=Cause.LOAD_ACCESS, x12=FIRST, x13=0).mtval == FIRST
        stride.done(SATP, priv=Mode.M, x11=SV39 | ROOT >> 12)
        assert stride.loop(CALLER, Mode.S, x12=DATA, x13=0).x[A0] == TURNS
        stride.store(ROOT + 8 * 2, pte(gigapage, RWX & ~PTE_R & ~(1 << 2)))  # X only
        stride.sfence()
        assert stride.loop(CALLER, Mode.S, cause=Cause.LOAD_PAGE, x12=DATA, x13=0).mtval == DATA


def test_an_amo_and_fp_in_a_hot_loop_fault_exactly(stage: Stage) -> None:
    loop = b"".join((
        asm("amoadd.d", rd=A4, rs1=A2, rs2=A1),
        asm("fld", fd=1, rs1=A2, imm=8),
        asm("fadd.d", fd=2, fs1=2, fs2=1, rm=7),
        asm("fsd", fs2=2, rs1=A2, imm=16),
        asm("add", rd=A2, rs1=A2, rs2=A3),
        asm("addi", rd=A1, rs1=A1, imm=-1),
        asm("bne", rs1=A1, rs2=0, imm=-24),
    ))  # fmt: skip
    stage.place(CALLER, loop)
    stage.map(0, CALLER)
    stage.map(8, DATA, RW)
    hart = stage.hart()
    hart.mstatus = 1 << 13
    for _ in range(3):
        found = stage.loop(SMALL, Mode.S, cause=Cause.STORE_PAGE, x12=FIRST, x13=PAGE)
        assert (found.mepc, found.mtval, found.x[A1]) == (SMALL, FIRST + PAGE, TURNS - 1)
        found = stage.loop(SMALL, Mode.S, cause=Cause.LOAD_PAGE, x12=FIRST + PAGE - 8, x13=0)
        assert (found.mepc, found.mtval) == (SMALL + 4, FIRST + PAGE)
        found = stage.loop(SMALL, Mode.S, cause=Cause.STORE_PAGE, x12=FIRST + PAGE - 16, x13=0)
        assert (found.mepc, found.mtval) == (SMALL + 12, FIRST + PAGE)
        found = stage.loop(SMALL, Mode.S, cause=Cause.STORE_MISALIGNED, x12=FIRST + 4, x13=0)
        assert (found.mepc, found.mtval) == (SMALL, FIRST + 4)
        stage.translate(CALLER)


def test_fp_is_switched_off_under_a_hot_loop(stage: Stage) -> None:
    loop = asm("fadd.d", fd=2, fs1=2, fs2=1, rm=7) + asm("addi", rd=A1, rs1=A1, imm=-1)
    stage.place(CALLER, loop, asm("bne", rs1=A1, rs2=0, imm=-8))
    hart = stage.hart()
    for _ in range(3):
        hart.mstatus = 1 << 13
        found = stage.loop()
        assert found.mstatus >> 13 & 3 == 3, "dirty"
        hart.mstatus = 0
        found = stage.loop(cause=Cause.ILLEGAL)
        assert (found.mepc, found.x[A1]) == (CALLER, TURNS)
        stage.translate(CALLER)
