"""Regions put together from stencils. (That they compute the same: test_translated_programs.py and its neighbours.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

from mpemu.codegen.host import native
from mpemu.codegen.records import Variant
from mpemu.codegen.stencils import Exit, Glue, Hole, Leave, forms, glue_symbol, leave_symbol
from mpemu.codegen.stitching import ALIGNMENT, Stitcher
from mpemu.codegen.surroundings import Surroundings
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import INSNS
from mpemu.layout import PAGE
from mpemu.unit import QUICK, Kind, Unit
from tests.codegen.lab import asm
from tests.codegen.native_hart import blob

ISA = IsaSpec.parse("max")
KIND = Kind(QUICK)
A0, A1 = 10, 11
LEFT_TO_THE_INTERPRETER = {
    *("pause", "amocas.q"),
    *("fcvt.h.d", "fcvt.h.l", "fcvt.h.lu", "fcvt.h.w", "fcvt.h.wu", "fmadd.h", "fmsub.h", "fnmadd.h", "fnmsub.h"),
}
"""They have fast handlers, but no stencils: what waits must be seen to wait, register pairs have no holes, and the host
can't round to halves in one step."""


def stitch(code: bytes, head: int = 0) -> Unit:
    page = (bytes(head) + code).ljust(PAGE, b"\0")
    return Stitcher(ISA, blob().stencils).unit(Surroundings.of({0: page}), head, KIND)


def test_what_has_a_fast_handler_has_a_stencil() -> None:
    stencils, symbols = blob().stencils, blob().symbols
    fast = {
        insn.name
        for insn in INSNS.values()
        for way in ("", "fwd")
        if insn.ext in ISA.extensions and f"f_{Variant(insn, 4, way).symbol}" in symbols
    }
    stitched = {insn.name for insn in INSNS.values() for form in forms(insn) if form.symbol in stencils}
    assert len(stitched) > 200
    assert fast - stitched == LEFT_TO_THE_INTERPRETER
    assert {glue_symbol(glue) for glue in Glue} <= stencils.keys()
    assert {leave_symbol(kind, far) for kind in Leave for far in (False, True)} <= stencils.keys()


def test_what_was_written_last_is_taken_from_its_register() -> None:
    step = asm("add", rd=A0, rs1=A0, rs2=A1)
    names = {
        step_last: Stitcher(ISA, blob().stencils).with_last("t_add_4", {"rd": A0, "rs1": A0, "rs2": A1}, step_last)
        for step_last in (A0, A1, 12)
    }
    assert names == {A0: "t_add_4.rs1", A1: "t_add_4.rs2", 12: "t_add_4"}
    assert len(stitch(step * 3).code) < len(stitch((step + asm("addi", rd=12, rs1=0, imm=0)) * 3).code)


def test_holes_are_constants_and_exits_are_not() -> None:
    for name, stencil in blob().stencils.items():
        for patch in stencil.patches:
            relative = native().is_relative(patch.kind)
            assert relative == (patch.symbol in set(Exit) or patch.symbol.startswith("=")), (name, patch)
            assert 0 <= patch.place < len(stencil.code)


@pytest.mark.parametrize("head", [0, 2, 0x800])
def test_each_entry_has_code_of_its_own(head: int) -> None:
    """In front of which stands the rank."""
    unit = stitch(asm("addi", rd=A0, rs1=A0, imm=1) * 2 + asm("bne", rs1=A0, rs2=A1, imm=-4), head)
    assert unit.entries == (head, head + 4)
    assert len(set(unit.starts)) == 2 and unit.entry == unit.starts[0]
    for start in unit.starts:
        assert start % ALIGNMENT == 0 and unit.code[start - 4 : start] == KIND.rank.to_bytes(4, "little")
    assert unit.instructions == 3 and unit.alignment % ALIGNMENT == 0
    assert unit.contains == (0b10101 << (head // 2),)


def test_other_pages_are_not_part_of_it() -> None:
    page = asm("addi", rd=A0, rs1=A0, imm=1) * (PAGE // 4 - 1) + asm("jal", rd=0, imm=4)
    around = Surroundings.of({0: page, 1: page})
    unit = Stitcher(ISA, blob().stencils).unit(around, PAGE - 8, KIND)
    assert [distance for distance, _ in unit.pages] == [0] and unit.instructions == 2


def test_what_is_not_worth_while() -> None:
    assert not stitch(asm("ecall")).code
    assert not stitch(b"\0\0\0\0").code
    assert stitch(asm("addi", rd=A0, rs1=A0, imm=1) + asm("ecall")).code


def test_immediates_at_their_limits_fit_their_holes() -> None:
    for name, fields in (("addi", {"rs1": A0}), ("lui", {}), ("auipc", {})):
        for imm in (-2048, 2047) if fields else (-(1 << 31), (1 << 31) - 4096):
            assert stitch(asm(name, rd=A0, imm=imm, **fields) * 2).code


@pytest.mark.parametrize("imm", [-(1 << 31), -(1 << 30) - 4096, -4096, 0, 1 << 30, (1 << 31) - 4096])
def test_a_call_of_what_is_far_away(imm: int) -> None:
    for offset in (-2048, 2046):
        call = asm("auipc", rd=A0, imm=imm) + asm("jalr", rd=1, rs1=A0, imm=offset)
        assert stitch(call, PAGE - 8).instructions == stitch(call).instructions == 2


def test_no_llvm() -> None:
    """The translator itself makes them, in a process that is light."""
    program = "import mpemu.codegen.translator, sys; sys.exit('llvmlite' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_holes_have_names_of_no_operand() -> None:
    assert not set(Hole) & {name for insn in INSNS.values() for name in insn.operands}
