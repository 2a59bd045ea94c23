"""F, D and Zfh instructions on the reference model: boxing, status, rounding modes, and their encodings."""

from __future__ import annotations

import capstone
import pytest

from mpemu.isa import registry
from mpemu.isa.fp import FORMATS, NX, RMM
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import GuestTrap, PhysicalBus, ReferenceHart

RAM = 0x8000_0000
FS_INITIAL, FS_CLEAN, FS_DIRTY = 1 << 13, 2 << 13, 3 << 13
BOX_S, BOX_H = 0xFFFFFFFF_00000000, 0xFFFFFFFF_FFFF0000
ONE_S, TWO_S = 0x3F800000, 0x40000000


class Illegal(Exception):
    pass


@pytest.fixture
def hart() -> ReferenceHart:
    made = ReferenceHart(IsaSpec.parse("rv64gc_zfh"), PhysicalBus(bytearray(4096)))
    made.s.values["mstatus"] = FS_CLEAN
    return made


def execute(hart: ReferenceHart, name: str, **operands: int) -> None:
    """Run the body of one instruction; Illegal if it is refused."""
    insn = registry.INSNS[name]
    hart.name, hart.bits = name, insn.pattern.encode(**operands)
    try:
        insn.body(hart, *(operands.get(o, 7 if o == "rm" else 0) for o in insn.operands))
    except GuestTrap as trap:
        if trap.cause != 2:
            raise
        raise Illegal(name) from trap


def test_every_instruction_is_illegal_while_fs_is_off(hart: ReferenceHart) -> None:
    hart.s.values["mstatus"] = 0
    before = list(hart.x.values), list(hart.f.values)
    names = [i.name for i in registry.INSNS.values() if i.ext in ("F", "D", "Zfh", "Zfhmin")]
    assert len(names) == 96
    for name in names:
        with pytest.raises(Illegal):
            execute(hart, name)
    assert (hart.x.values, hart.f.values) == before


def test_reserved_rounding_modes_are_illegal_even_where_nothing_is_rounded(hart: ReferenceHart) -> None:
    for name in ("fadd.s", "fsqrt.d", "fmadd.h", "fcvt.w.s", "fcvt.d.w", "fcvt.d.s", "fcvt.s.h"):
        for rm in (5, 6):
            with pytest.raises(Illegal):
                execute(hart, name, rm=rm)
        for frm in (5, 6, 7):
            hart.s.values["frm"] = frm
            with pytest.raises(Illegal):
                execute(hart, name, rm=7)
            execute(hart, name, rm=0)
        hart.s.values["frm"] = RMM
        execute(hart, name, rm=7)
    hart.s.values["frm"] = 7
    execute(hart, "fmin.s")  # has no rounding mode


def test_narrow_values_are_boxed_and_bad_boxes_are_nan(hart: ReferenceHart) -> None:
    hart.f.values[1] = BOX_S | ONE_S
    hart.f.values[2] = 0x12345678_00000000 | ONE_S
    execute(hart, "fadd.s", fd=3, fs1=1, fs2=1)
    assert hart.f.values[3] == BOX_S | TWO_S
    execute(hart, "fadd.s", fd=3, fs1=1, fs2=2)
    assert hart.f.values[3] == BOX_S | FORMATS["s"].nan
    execute(hart, "fsgnj.s", fd=3, fs1=2, fs2=2)
    assert hart.f.values[3] == BOX_S | FORMATS["s"].nan
    hart.f.values[4] = BOX_H | 0x3C00
    execute(hart, "fcvt.d.h", fd=5, fs1=4)
    assert hart.f.values[5] == 0x3FF0000000000000
    execute(hart, "fcvt.h.s", fd=5, fs1=1)
    assert hart.f.values[5] == BOX_H | 0x3C00
    execute(hart, "fcvt.s.h", fd=5, fs1=1)  # a boxed single is not a boxed half
    assert hart.f.values[5] == BOX_S | FORMATS["s"].nan


def test_moves_and_stores_ignore_the_box(hart: ReferenceHart) -> None:
    hart.f.values[1] = 0x12345678_89ABCDEF
    execute(hart, "fmv.x.w", rd=1, fs1=1)
    assert hart.x.values[1] == 0xFFFFFFFF_89ABCDEF
    execute(hart, "fmv.x.h", rd=1, fs1=1)
    assert hart.x.values[1] == 0xFFFFFFFF_FFFFCDEF
    hart.x.values[2] = RAM + 8
    execute(hart, "fsh", fs2=1, rs1=2, imm=-8)
    execute(hart, "fsw", fs2=1, rs1=2, imm=-4)
    execute(hart, "fld", fd=4, rs1=2, imm=-8)
    assert hart.f.values[4] == 0x89ABCDEF_0000CDEF
    execute(hart, "flh", fd=5, rs1=2, imm=-8)
    assert hart.f.values[5] == BOX_H | 0xCDEF
    hart.x.values[3] = 0x1_40000000
    execute(hart, "fmv.w.x", fd=6, rs1=3)
    assert hart.f.values[6] == BOX_S | TWO_S


def test_unsigned_words_are_sign_extended(hart: ReferenceHart) -> None:
    hart.f.values[1] = 0x41E65A0BC0000000  # 3e9
    execute(hart, "fcvt.wu.d", rd=1, fs1=1, rm=1)
    assert hart.x.values[1] == 0xFFFFFFFF_00000000 | 3_000_000_000


def test_the_four_fused_instructions_differ_in_signs(hart: ReferenceHart) -> None:
    two, three, ten = 0x4000000000000000, 0x4008000000000000, 0x4024000000000000
    hart.f.values[1:4] = [two, three, ten]
    results = {"fmadd.d": 16.0, "fmsub.d": -4.0, "fnmsub.d": 4.0, "fnmadd.d": -16.0}
    for name, expected in results.items():
        execute(hart, name, fd=4, fs1=1, fs2=2, fs3=3)
        execute(hart, "fcvt.l.d", rd=5, fs1=4, rm=1)
        assert hart.x.values[5] == int(expected) % (1 << 64)


def test_status_becomes_dirty_with_registers_and_flags(hart: ReferenceHart) -> None:
    hart.x.values[1] = RAM
    cases = {"fadd.s": True, "feq.d": True, "fcvt.w.s": True, "flw": True, "fmv.d.x": True, "fsgnj.h": True}
    cases |= {"fclass.s": False, "fmv.x.d": False, "fsd": False}
    for name, dirties in cases.items():
        hart.s.values["mstatus"] = FS_CLEAN
        execute(hart, name, **({"rs1": 1} if name in ("flw", "fsd") else {}))
        assert hart.s.values["mstatus"] & FS_DIRTY == (FS_DIRTY if dirties else FS_CLEAN), name


def test_flags_accrue(hart: ReferenceHart) -> None:
    hart.f.values[1], hart.f.values[2] = BOX_S | ONE_S, BOX_S | 0x40400000
    execute(hart, "fdiv.s", fd=3, fs1=1, fs2=2)
    execute(hart, "fadd.s", fd=3, fs1=1, fs2=1)
    assert hart.fp_flags().constant == NX


def test_a_faulting_load_changes_nothing(hart: ReferenceHart) -> None:
    hart.f.values[3] = 7
    with pytest.raises(GuestTrap):
        execute(hart, "fld", fd=3, rs1=0, imm=8)
    assert hart.f.values[3] == 7 and hart.s.values["mstatus"] == FS_CLEAN


def test_encodings_agree_with_capstone() -> None:
    engine = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64)
    compared = 0
    for insn in registry.INSNS.values():
        if insn.ext not in ("F", "D"):
            continue
        operands = {name: i + 3 for i, name in enumerate(insn.pattern.fields) if name != "rm"}
        if "rm" in insn.pattern.fields:
            operands["rm"] = 7 if "{rm}" in insn.asm else 0
        word = insn.pattern.encode(**operands)
        (decoded,) = engine.disasm(word.to_bytes(4, "little"), 0)
        assert decoded.mnemonic == insn.name
        compared += 1
    assert compared == 62


def test_zfhmin_has_no_arithmetic() -> None:
    extensions = frozenset(IsaSpec.parse("rv64gc_zfhmin").extensions)
    add, convert = registry.INSNS["fadd.h"].pattern, registry.INSNS["fcvt.s.h"].pattern
    assert registry.decode(add.encode(rm=7), extensions) is None
    assert registry.decode(convert.encode(), extensions) is not None
