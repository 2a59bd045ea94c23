"""Constants of the privileged architecture, by the names of the manual: modes, causes, interrupts, fields of CSRs.

RISC-V Privileged Architecture 1.13. Fields of CSRs are masks, in place.
"""

from __future__ import annotations

from enum import IntEnum

ALL = (1 << 64) - 1


class Mode(IntEnum):
    """Privilege modes as ``s.priv``, xPP and CSR numbers encode them."""

    U = 0
    S = 1
    M = 3


class Access(IntEnum):
    """Kinds of memory access, as ``translate`` and ``pmp_check`` take them. AMOs are stores."""

    LOAD = 0
    STORE = 1
    FETCH = 2


class Cause(IntEnum):
    """Exception codes of xcause."""

    FETCH_MISALIGNED = 0
    FETCH_ACCESS = 1
    ILLEGAL = 2
    BREAKPOINT = 3
    LOAD_MISALIGNED = 4
    LOAD_ACCESS = 5
    STORE_MISALIGNED = 6
    STORE_ACCESS = 7
    ECALL_U = 8
    ECALL_S = 9
    ECALL_M = 11
    FETCH_PAGE = 12
    LOAD_PAGE = 13
    STORE_PAGE = 15


INTERRUPT = 1 << 63
"""The bit of xcause that tells interrupts from exceptions."""


class Irq(IntEnum):
    """Interrupt codes: bit numbers in mip, mie and mideleg."""

    SSI = 1
    MSI = 3
    STI = 5
    MTI = 7
    SEI = 9
    MEI = 11
    LCOFI = 13


IRQ_PRIORITY = (Irq.MEI, Irq.MSI, Irq.MTI, Irq.SEI, Irq.SSI, Irq.STI, Irq.LCOFI)
"""Highest first (section "Machine Interrupt Registers"); applies among interrupts for the same mode."""

SSIP, STIP, SEIP, LCOFIP = 1 << Irq.SSI, 1 << Irq.STI, 1 << Irq.SEI, 1 << Irq.LCOFI
MSIP, MTIP, MEIP = 1 << Irq.MSI, 1 << Irq.MTI, 1 << Irq.MEI

# mstatus
SIE, MIE = 1 << 1, 1 << 3
SPIE, MPIE = 1 << 5, 1 << 7
SPP, MPP = 1 << 8, 3 << 11
MPP_SHIFT = 11
FS, FS_SHIFT = 3 << 13, 13
MPRV, SUM, MXR = 1 << 17, 1 << 18, 1 << 19
TVM, TW, TSR = 1 << 20, 1 << 21, 1 << 22
UXL_64, SXL_64 = 2 << 32, 2 << 34
SD_SHIFT = 63

# menvcfg, senvcfg
FIOM = 1 << 0
CBIE, CBIE_RESERVED = 3 << 4, 2 << 4
CBCFE, CBZE = 1 << 6, 1 << 7
ADUE, PBMTE, STCE = 1 << 61, 1 << 62, 1 << 63
STCE_SHIFT = 63

# mcounteren, scounteren, mcountinhibit
CY, TM, IR = 1 << 0, 1 << 1, 1 << 2

# mstateen
STATEEN_SE, STATEEN_ENVCFG = 1 << 63, 1 << 62

# satp
SATP_PPN = (1 << 44) - 1
SATP_MODE_SHIFT = 60
SATP_BARE, SATP_SV39, SATP_SV48, SATP_SV57 = 0, 8, 9, 10

# page-table entries
PTE_V, PTE_R, PTE_W, PTE_X, PTE_U, PTE_G, PTE_A, PTE_D = (1 << n for n in range(8))
PTE_RESERVED = 0x7F << 54
PTE_PBMT = 3 << 61
PTE_N = 1 << 63
PTE_PPN_SHIFT = 10

# pmpcfg bytes: R, W, X stand at the bit of their Access
PMP_R, PMP_W, PMP_X = (1 << a for a in Access)
PMP_A_SHIFT = 3
PMP_OFF, PMP_TOR, PMP_NA4, PMP_NAPOT = range(4)
PMP_L = 1 << 7
