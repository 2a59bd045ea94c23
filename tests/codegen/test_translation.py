"""Translations are dropped when the architecture says so, and never mixed up between ways to access."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mpemu.isa.privileged import MPP_SHIFT, MPRV, MXR, SUM, Cause, Mode
from tests.codegen.lab import A0, A1, RWX, SV39, Lab, asm, pte
from tests.codegen.lab import A as PTE_A
from tests.codegen.lab import R as PTE_R
from tests.codegen.lab import U as PTE_U
from tests.codegen.lab import V as PTE_V
from tests.codegen.lab import X as PTE_X
from tests.codegen.native_hart import RAM

CODE = RAM + 0x1000
LOAD, STORE, SFENCE, SFENCE_ALL, SATP = (RAM + 0x1000 + 0x40 * n for n in range(5))
ROOT, MIDDLE, LEAF = RAM + 0x1_0000, RAM + 0x1_1000, RAM + 0x1_2000
ROOT2 = RAM + 0x1_3000
ONE, TWO, THREE = RAM + 0x2_0000, RAM + 0x2_1000, RAM + 0x2_2000
SMALL = 0x4000_0000
"""Where 4 KiB pages are mapped: page n by LEAF[n]."""
HUGE = 0xC000_0000
"""A superpage of 1 GiB that covers all RAM."""
PLAIN = RWX & ~PTE_X


class Pages(Lab):
    """Supervisor code at CODE, identity-mapped; small pages from SMALL on; RAM once more at HUGE."""

    def __init__(self) -> None:
        super().__init__()
        self.place(LOAD, asm("ld", rd=A0, rs1=A1, imm=0))
        self.place(STORE, asm("sd", rs2=A0, rs1=A1, imm=0))
        self.place(SFENCE, asm("sfence.vma", rs1=A1, rs2=0))
        self.place(SFENCE_ALL, asm("sfence.vma", rs1=0, rs2=0))
        self.place(SATP, asm("csrrw", rd=0, csr=0x180, rs1=A1))
        self.store(ROOT + 8 * 2, pte(RAM, RWX))
        self.store(ROOT + 8 * 1, pte(MIDDLE, PTE_V))
        self.store(ROOT + 8 * 3, pte(RAM, RWX))
        self.store(MIDDLE, pte(LEAF, PTE_V))
        for place, value in ((ONE, 1), (TWO, 2), (THREE, 3)):
            for offset in range(0, 0x1000, 8):
                self.store(place + offset, value)
        self.hart().satp = SV39 | ROOT >> 12

    def map(self, page: int, pa: int, flags: int = PLAIN) -> None:
        self.store(LEAF + 8 * page, pte(pa, flags))

    def read(self, va: int, priv: int = Mode.S) -> int:
        value: int = self.done(LOAD, priv=priv, x11=va).x[A0]
        return value

    def write(self, va: int, value: int) -> None:
        self.done(STORE, priv=Mode.S, x11=va, x10=value)

    def sfence(self, va: int | None = None) -> None:
        self.done(SFENCE_ALL if va is None else SFENCE, priv=Mode.S, x11=va or 0)

    def faults(self, pc: int, va: int, cause: int, priv: int = Mode.S) -> None:
        assert self.done(pc, priv=priv, x11=va, cause=cause).mtval == va


@pytest.fixture
def pages() -> Iterator[Pages]:
    yield Pages()


# -- SFENCE.VMA
def test_sfence_of_the_address(pages: Pages) -> None:
    pages.map(0, ONE)
    pages.map(1, ONE)
    assert pages.read(SMALL) == 1 and pages.read(SMALL + 0x1000) == 1
    pages.map(0, TWO)
    pages.map(1, TWO)
    pages.sfence(SMALL + 0x128)
    assert pages.read(SMALL) == 2
    pages.sfence(SMALL + 0x1000)
    assert pages.read(SMALL + 0x1000) == 2


def test_sfence_of_everything(pages: Pages) -> None:
    for page in range(300):  # more than the TLB holds
        pages.map(page, ONE)
        if page % 7 == 0:
            assert pages.read(SMALL + 0x1000 * page) == 1
    for page in range(300):
        pages.map(page, THREE)
    pages.sfence()
    for page in range(0, 300, 7):
        assert pages.read(SMALL + 0x1000 * page) == 3


def test_a_page_that_was_unmapped_or_protected(pages: Pages) -> None:
    pages.map(0, ONE)
    pages.write(SMALL, 77)
    pages.map(0, ONE, PTE_V | PTE_R | PTE_A)
    pages.sfence(SMALL)
    pages.faults(STORE, SMALL, Cause.STORE_PAGE)
    assert pages.read(SMALL) == 77
    pages.map(0, ONE, 0)
    pages.sfence(SMALL)
    pages.faults(LOAD, SMALL, Cause.LOAD_PAGE)


def test_a_fault_is_not_remembered(pages: Pages) -> None:
    """A PTE that becomes valid needs no fence here: faults aren't cached."""
    pages.faults(LOAD, SMALL, Cause.LOAD_PAGE)
    pages.map(0, TWO)
    assert pages.read(SMALL) == 2


@pytest.mark.parametrize("fenced", [0, 0x2_1000, 0x3FFF_F000])
def test_sfence_within_a_superpage_drops_all_of_it(pages: Pages, fenced: int) -> None:
    """One address of the superpage is fenced: translations of every other address from the same PTE go too."""
    for place in (ONE, TWO, THREE):
        assert pages.read(HUGE + place - RAM) == (place - ONE) // 0x1000 + 1
    pages.write(HUGE + ONE - RAM, 1)
    pages.store(ROOT + 8 * 3, 0)
    pages.sfence(HUGE + fenced)
    for place in (ONE, TWO, THREE):
        pages.faults(LOAD, HUGE + place - RAM, Cause.LOAD_PAGE)
        pages.faults(STORE, HUGE + place - RAM, Cause.STORE_PAGE)


def test_sfence_drops_what_was_executed_from_a_superpage(pages: Pages) -> None:
    nop = asm("addi", rd=0, rs1=0, imm=0)
    pages.place(ONE, nop)
    assert pages.done(HUGE + ONE - RAM, priv=Mode.S).mepc == HUGE + ONE - RAM + 4
    pages.store(ROOT + 8 * 3, pte(RAM, PLAIN))
    pages.sfence(HUGE)
    pages.done(HUGE + ONE - RAM, priv=Mode.S, cause=Cause.FETCH_PAGE)


def test_napot_pages_are_dropped_as_one(pages: Pages) -> None:
    napot = 1 << 63
    for n in range(16):
        pages.store(LEAF + 8 * n, pte(ONE, PLAIN) | napot | 8 << 10)
    assert [pages.read(SMALL + 0x1000 * n) for n in range(3)] == [1, 2, 3]
    for n in range(16):
        pages.store(LEAF + 8 * n, 0)
    pages.sfence(SMALL + 0xF000)
    for n in range(3):
        pages.faults(LOAD, SMALL + 0x1000 * n, Cause.LOAD_PAGE)


def test_a_new_satp_is_a_new_address_space(pages: Pages) -> None:
    pages.map(0, ONE)
    assert pages.read(SMALL) == 1
    pages.memory.write(ROOT2, pages.memory.read(ROOT, 4096))
    pages.store(ROOT2 + 8, pte(RAM, PLAIN))
    pages.done(SATP, priv=Mode.S, x11=SV39 | 1 << 44 | ROOT2 >> 12)
    assert pages.read(SMALL + TWO - RAM) == 2
    pages.done(SATP, priv=Mode.S, x11=0)
    assert pages.read(THREE) == 3
    pages.done(SATP, priv=Mode.S, x11=SV39 | ROOT >> 12)
    assert pages.read(SMALL) == 1


# -- without a fence anything old goes, but no mixture
def test_permission_and_place_come_from_one_pte(pages: Pages) -> None:
    """Written through one PTE, read through its successor (read-only, elsewhere), all without SFENCE.VMA: a store then
    may go to the old place or fault, but not to the new place, which was never writable."""
    pages.map(0, ONE)
    pages.write(SMALL, 11)
    pages.map(0, TWO, PTE_V | PTE_R | PTE_A)
    assert pages.read(SMALL) in (11, 2)
    view_before = pages.load(TWO)
    pages.run(STORE, priv=Mode.S, x11=SMALL, x10=99)
    assert pages.load(TWO) == view_before == 2


# -- regimes: who may access what
def test_supervisor_access_to_user_pages_follows_sum(pages: Pages) -> None:
    pages.map(0, ONE, PLAIN | PTE_U)
    hart = pages.hart()
    for allowed in (1, 0, 1, 0):
        hart.mstatus = hart.mstatus | SUM if allowed else hart.mstatus & ~SUM
        if allowed:
            assert pages.read(SMALL) == 1
        else:
            pages.faults(LOAD, SMALL, Cause.LOAD_PAGE)
            pages.faults(STORE, SMALL, Cause.STORE_PAGE)


def test_execute_only_pages_are_readable_with_mxr(pages: Pages) -> None:
    pages.map(0, ONE, PTE_V | PTE_X | PTE_A)
    hart = pages.hart()
    for readable in (1, 0, 1, 0):
        hart.mstatus = hart.mstatus | MXR if readable else hart.mstatus & ~MXR
        if readable:
            assert pages.read(SMALL) == 1
        else:
            pages.faults(LOAD, SMALL, Cause.LOAD_PAGE)


def test_user_and_supervisor_see_their_own_pages(pages: Pages) -> None:
    user_code = PTE_V | PTE_R | PTE_X | PTE_U | PTE_A
    pages.map(8, CODE, user_code)
    at = SMALL + 0x8000 + LOAD - CODE
    pages.map(0, ONE, PLAIN | PTE_U)
    pages.map(1, TWO)
    for _ in range(2):
        assert pages.done(at, priv=Mode.U, x11=SMALL).x[A0] == 1
        pages.faults(at, SMALL + 0x1000, Cause.LOAD_PAGE, priv=Mode.U)
        assert pages.read(SMALL + 0x1000) == 2
        pages.faults(LOAD, SMALL, Cause.LOAD_PAGE)
    pages.done(at, priv=Mode.S, cause=Cause.FETCH_PAGE)  # supervisors don't execute user pages


def test_machine_mode_goes_by_mpp_with_mprv(pages: Pages) -> None:
    """One TLB serves all that MPP, SUM and MXR can say; it may not remember the one before."""
    pages.map(0, ONE, PLAIN | PTE_U)
    pages.map(1, TWO)
    hart = pages.hart()

    def expect(mstatus: int, va: int, value: int | None) -> None:
        hart.mstatus = mstatus
        if value is None:
            pages.faults(LOAD, va, Cause.LOAD_PAGE, priv=Mode.M)
        else:
            assert pages.read(va, priv=Mode.M) == value

    user, supervisor = MPRV | Mode.U << MPP_SHIFT, MPRV | Mode.S << MPP_SHIFT
    for _ in range(2):
        expect(user, SMALL, 1)
        expect(user, SMALL + 0x1000, None)
        expect(supervisor, SMALL, None)
        expect(supervisor | SUM, SMALL, 1)
        expect(supervisor, SMALL + 0x1000, 2)
        expect(MPRV | Mode.M << MPP_SHIFT, TWO, 2)
        expect(0, THREE, 3)


def test_mprv_within_one_run(pages: Pages) -> None:
    """MPP changes between two loads of the same snippet."""
    pages.map(0, ONE, PLAIN | PTE_U)
    mpp = 3 << MPP_SHIFT
    code = CODE + 0x400
    pages.place(
        code,
        asm("ld", rd=A0, rs1=A1, imm=0),
        asm("csrrc", rd=0, csr=0x300, rs1=12),
        asm("csrrs", rd=0, csr=0x300, rs1=13),
        asm("ld", rd=A0, rs1=A1, imm=0),
    )
    hart = pages.hart()
    hart.mstatus = MPRV | Mode.U << MPP_SHIFT
    view = pages.done(code, priv=Mode.M, cause=Cause.LOAD_PAGE, x11=SMALL, x12=mpp, x13=Mode.S << MPP_SHIFT)
    assert view.x[A0] == 1 and view.mepc == code + 12


def test_pmp_changes_take_effect_at_once(pages: Pages) -> None:
    """A locked rule appears over a page that is in the TLB, and moves away again."""
    code = CODE + 0x400
    pages.place(
        code,
        asm("ld", rd=A0, rs1=A1, imm=0),
        asm("csrrw", rd=0, csr=0x3B0, rs1=12),
        asm("csrrw", rd=0, csr=0x3A0, rs1=13),
        asm("ld", rd=A0, rs1=A1, imm=0),
    )
    view = pages.done(code, priv=Mode.M, cause=Cause.LOAD_ACCESS, x11=TWO, x12=(TWO >> 2) | 0x1FF, x13=0x98)
    assert view.x[A0] == 2 and view.mtval == TWO and view.mepc == code + 12
