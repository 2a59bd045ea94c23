"""Disassembly as users read it. That it agrees with other tools is tested with the encodings."""

from __future__ import annotations

import pytest

from mpemu.isa.disasm import disassemble
from mpemu.isa.profiles import IsaSpec


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x0000_0013, "nop"),
        (0x00C5_8533, "add a0, a1, a2"),
        (0x0000_8067, "ret"),
        (0xFE05_18E3, "bnez a0, 0x80000000"),
        (0xFF1F_F0EF, "jal 0x80000000"),
        (0x0330_000F, "fence rw, rw"),
        (0x0100_000F, "pause"),
        (0x04B5_252F, "amoadd.w.aq a0, a1, (a0)"),
        (0x3055_1073, "csrw mtvec, a0"),
        (0x02C5_F553, "fadd.d fa0, fa1, fa2"),
        (0x02C5_9553, "fadd.d fa0, fa1, fa2, rtz"),
        (0x4505, "c.li a0, 1"),
        (0x0000, None),
        (0xFFFF_FFFF, None),
    ],
)
def test_text(word: int, text: str | None) -> None:
    assert disassemble(word, pc=0x8000_0010) == text


def test_targets_are_offsets_without_a_pc_and_wrap_with_one() -> None:
    assert disassemble(0xFE05_18E3) == "bnez a0, -0x10"
    assert disassemble(0xFE05_18E3, pc=0) == "bnez a0, 0xfffffffffffffff0"


def test_only_what_the_hart_has() -> None:
    assert disassemble(0x02C5_8533, exts=IsaSpec.parse("rv64i").extensions) is None
