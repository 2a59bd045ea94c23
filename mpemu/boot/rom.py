"""The boot ROM: the instructions at the reset vector, the values they load, and OpenSBI's fw_dynamic information.

As on QEMU's virt: a0 = hart, a1 = device tree, a2 = fw_dynamic information, then a jump to the firmware or kernel. The
structure is OpenSBI's include/sbi/fw_dynamic.h, version 2.
"""

from __future__ import annotations

import struct

from mpemu.addresses import BOOT_ROM
from mpemu.isa import rv_i, system  # noqa: F401  (the instructions used here)
from mpemu.isa.registry import INSNS

ROM_SIZE = 0x1000
INFO_OFFSET = 0x28
"""Where the information is in the ROM."""
ANY_HART = (1 << 64) - 1

_T0, _A0, _A1, _A2, _MHARTID = 5, 10, 11, 12, 0xF14
_MAGIC, _VERSION, _MODE_S = 0x4942534F, 2, 1


def _encode(mnemonic: str, **operands: int) -> bytes:
    return INSNS[mnemonic].pattern.encode(**operands).to_bytes(4, "little")


def boot_rom(entry: int, dtb: int, next_address: int) -> bytes:
    """The ROM: harts continue at ``entry``, firmware in S-mode at ``next_address`` (0: there is nothing)."""
    code = (
        _encode("auipc", rd=_T0, imm=0)
        + _encode("addi", rd=_A2, rs1=_T0, imm=INFO_OFFSET)
        + _encode("csrrs", rd=_A0, rs1=0, csr=_MHARTID)
        + _encode("ld", rd=_A1, rs1=_T0, imm=INFO_OFFSET - 8)
        + _encode("ld", rd=_T0, rs1=_T0, imm=INFO_OFFSET - 16)
        + _encode("jalr", rd=0, rs1=_T0, imm=0)
    )
    info = struct.pack("<6Q", _MAGIC, _VERSION, next_address, _MODE_S, 0, ANY_HART)
    rom = code + struct.pack("<QQ", entry, dtb) + info
    return rom.ljust(ROM_SIZE, b"\0")


INFO_ADDRESS = BOOT_ROM + INFO_OFFSET
