"""Code for aarch64 hosts, looked at rather than run: it is complete, and memory operations are the right instructions.

docs/design/0013 has the mapping that is checked here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import capstone
import pytest

from mpemu.codegen import host_aarch64, ir
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.interpreter import build_interpreter
from mpemu.codegen.linker import Blob, link, link_interpreter
from mpemu.codegen.region import region_ir
from mpemu.codegen.shape import Source
from mpemu.codegen.unrolling import MOST_INSNS
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import PAGE
from tests.codegen.disassembled import Disassembly
from tests.codegen.lab import asm

ISA = IsaSpec.parse("max")
FENCE = "dmb ish"


@dataclass(frozen=True)
class Made:
    blob: Blob
    handlers: tuple[str, ...]
    code: Disassembly


@pytest.fixture(scope="session")
def made() -> Made:
    """The whole interpreter: some seconds."""
    interpreter = build_interpreter(ISA, host=host_aarch64)
    compiled = compile_object(interpreter.text, host_aarch64)
    blob = link_interpreter(compiled, interpreter.handlers)
    return Made(blob, interpreter.handlers, Disassembly(compiled, (blob.data, blob.symbols)))


# -- completeness
def test_the_interpreter_needs_nothing_from_outside(made: Made) -> None:
    """No undefined symbol, every instruction is one, every direct branch leads to a function or to sync_code."""
    assert made.code.undefined == []
    starts = {made.code.start(name) for name in made.code.functions} | {made.blob.symbols["sync_code"]}
    for name in made.code.functions:
        made.code.function(name)
        for mnemonic, target in made.code.branches(name):
            assert target in starts, f"{name}: {mnemonic} {target:#x}"


def test_handlers_end_in_tail_calls(made: Made) -> None:
    for name in set(made.handlers) - {"h_exit"}:
        assert "ret" not in made.code.function(name), name
    assert made.code.function("f_add_4")[-1].startswith("br x")


def test_fast_handlers_keep_the_state_in_registers(made: Made) -> None:
    """Calling convention: the hart is x20, and a handler without calls touches no stack."""
    text = made.code.function("f_add_4")
    assert not any("sp" in line for line in text)
    assert any("[x20" in line for line in text)


# -- memory order
def mnemonics(lines: list[str]) -> list[str]:
    return [line if line.startswith("dmb") else line.split()[0] for line in lines]


@pytest.mark.parametrize("name", ["lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "flw", "fld"])
def test_guest_loads_acquire(made: Made, name: str) -> None:
    """ldar or, where a CPU has it, ldapr; once, and no fence."""
    found = [m for m in mnemonics(made.code.function(f"f_{name}_4")) if m.startswith(("lda", "dmb"))]
    assert found in ([f"lda{kind}{size}"] for kind in ("r", "pr") for size in ("", "b", "h"))


@pytest.mark.parametrize("name", ["sb", "sh", "sw", "sd", "fsw", "fsd"])
def test_guest_stores_are_plain(made: Made, name: str) -> None:
    found = mnemonics(made.code.function(f"f_{name}_4"))
    assert not [m for m in found if m.startswith(("stl", "dmb", "lda"))]


AMOS = {
    "swap": "swpal", "add": "ldaddal", "xor": "ldeoral", "and": "ldclral", "or": "ldsetal",
    "min": "ldsminal", "max": "ldsmaxal", "minu": "lduminal", "maxu": "ldumaxal",
}  # fmt: skip
SUFFIX = {"b": "b", "h": "h", "w": "", "d": ""}


@pytest.mark.parametrize("width", SUFFIX)
@pytest.mark.parametrize("operation", [*AMOS, "cas"])
def test_an_amo_is_one_instruction_and_a_fence(made: Made, operation: str, width: str) -> None:
    instruction = AMOS.get(operation, "casal")
    if SUFFIX[width]:
        instruction = instruction.removesuffix("al") + "al" + SUFFIX[width]
    found = mnemonics(made.code.function(f"f_amo{operation}.{width}_4"))
    assert [m for m in found if m.startswith(("swp", "ld", "cas", "dmb")) and not re.match(r"ldu?r|ldp", m)] == [
        instruction,
        FENCE,
    ]


def test_a_quadword_cas_is_one_instruction_and_a_fence(made: Made) -> None:
    found = mnemonics(made.code.function("f_amocas.q_4"))
    assert [m for m in found if m.startswith(("casp", "dmb"))] == ["caspal", FENCE]


def test_no_atomic_drops_its_result(made: Made) -> None:
    """With the zero register as destination an atomic does not acquire (Arm ARM, LDADD and others)."""
    atomic = re.compile(r"(swp|ldadd|ldeor|ldclr|ldset|lds?u?(min|max))a\S* \w+, [wx]zr,")
    for name in made.code.functions:
        assert not [line for line in made.code.function(name) if atomic.match(line)], name


@pytest.mark.parametrize("width", "wd")
def test_lr_and_sc(made: Made, width: str) -> None:
    """LR: a fence if .rl asks for it, then the load. SC of a tight sequence: a compare-exchange and a fence."""
    load = mnemonics(made.code.function(f"f_lr.{width}_4"))
    assert sorted(m for m in load if m.startswith(("lda", "dmb"))) == [FENCE, "ldar"]
    without = mnemonics(made.code.function(f"f_lr.{width}_4_rl0"))
    assert [m for m in without if m.startswith(("lda", "dmb"))] == ["ldar"]
    store = mnemonics(made.code.function(f"f_sc.{width}_4"))
    assert [m for m in store if m.startswith(("cas", "dmb"))] == ["casal", FENCE]
    assert FENCE in mnemonics(made.code.function(f"s_sc.{width}_4"))


def test_the_walker_acquires_and_sleepers_fence(made: Made) -> None:
    assert "ldar" in mnemonics(made.code.function("r_host_read_pte"))
    for name in ("r_wake", "r_wait_for_interrupt", "r_become_busy"):  # Dekker: announce, fence, look
        assert FENCE in made.code.function(name), name
    assert any(m in ("ldar", "ldapr") for m in mnemonics(made.code.function("r_irq_lines")))


def test_code_that_the_translator_wrote_is_synchronised_before_it_runs(made: Made) -> None:
    assert ("bl", made.blob.symbols["sync_code"]) in set(made.code.branches("r_use_new_regions"))
    words = struct.pack(f"<{len(host_aarch64._SYNC)}I", *host_aarch64._SYNC)
    assert made.blob.data[made.blob.symbols["sync_code"] :].startswith(words)
    listing = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM).disasm_lite(words, 0)
    found = [f"{mnemonic} {operands}".strip() for _, _, mnemonic, operands in listing]
    assert found == [
        "mrs x2, ctr_el0", "ubfx x3, x2, #0x10, #4", "mov x4, #4", "lsl x3, x4, x3", "sub x5, x3, #1", "bic x5, x0, x5",
        "dc cvau, x5", "add x5, x5, x3", "cmp x5, x1", "b.lo #0x18", "dsb ish",
        "and x2, x2, #0xf", "lsl x3, x4, x2", "sub x5, x3, #1", "bic x5, x0, x5",
        "ic ivau, x5", "add x5, x5, x3", "cmp x5, x1", "b.lo #0x3c", "dsb ish", "isb", "ret",
    ]  # fmt: skip


# -- floating point
def test_underflow_is_looked_for_only_where_a_result_is_small(made: Made) -> None:
    text = made.code.function("f_fmul.d_4_rm7")
    assert any(line.startswith("fmul d") for line in text)
    assert sum(line.startswith("mrs") and line.endswith("fpsr") for line in text) >= 1
    assert not any("fpsr" in line or "fpcr" in line for line in made.code.function("f_fadd.d_4_rm7"))


# -- regions
LOOP = (
    asm("lw", rd=5, rs1=10, imm=0),
    asm("amoadd.d", rd=6, rs1=11, rs2=5, aq=0, rl=0),
    asm("fmul.d", fd=1, fs1=2, fs2=3, rm=7),
    asm("fmadd.d", fd=4, fs1=1, fs2=2, fs3=4, rm=7),
    asm("mulhu", rd=7, rs1=5, rs2=6),
    asm("divu", rd=8, rs1=7, rs2=5),
    asm("sd", rs2=8, rs1=10, imm=8),
    asm("fence", fm=0, pred=3, succ=1),
    asm("addi", rd=10, rs1=10, imm=4),
    asm("bne", rs1=10, rs2=12, imm=-36),
    asm("jalr", rd=0, rs1=1, imm=0),
)


def test_a_region(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ir, "native", lambda: host_aarch64)
    page = b"".join(LOOP).ljust(PAGE, b"\0")
    region = region_ir(ISA, Source({0: page}.get), 0, made.blob.symbols)
    assert region.instructions == len(LOOP)
    compiled = compile_object(region.text, host_aarch64)
    linked = link(compiled)
    code = Disassembly(compiled, (linked.data, linked.symbols))
    assert code.undefined == [] and list(code.branches("region")) == []
    found = code.function("region")
    assert not {"ret", "bl"} & set(mnemonics(found))  # what it calls is reached by a register
    ordered = [m for m in mnemonics(found) if m.startswith(("lda", "ldadd", "dmb"))]
    turns = 1 + MOST_INSNS // (len(LOOP) - 1)
    assert ordered == ["ldar", "ldaddal", FENCE, "dmb ishld", "dmb ishst"] * turns
    assert any(line.startswith("fmadd d") for line in found)


# -- relocations
def relocated(kind: int, word: int, place: int, target: int) -> int:
    image = bytearray(place) + bytearray(struct.pack("<I", word))
    host_aarch64.relocate(image, kind, place, target)
    (result,) = struct.unpack_from("<I", image, place)
    assert isinstance(result, int)
    return result


@pytest.mark.parametrize(
    ("kind", "word", "place", "target", "text"),
    [
        (283, 0x94000000, 8, 0x1008, "bl #0x1008"),
        (282, 0x14000000, 0x2000, 4, "b #4"),
        (275, 0x90000000, 0x1FFC, 0x5123, "adrp x0, #0x5000"),
        (275, 0x90000000, 0x5000, 0x1FFF, "adrp x0, #0x1000"),
        (277, 0x91000000, 0, 0x5123, "add x0, x0, #0x123"),
        (278, 0x39400000, 0, 0x5123, "ldrb w0, [x0, #0x123]"),
        (284, 0x79400000, 0, 0x5122, "ldrh w0, [x0, #0x122]"),
        (285, 0xB9400000, 0, 0x5124, "ldr w0, [x0, #0x124]"),
        (286, 0xF9400000, 0, 0x5128, "ldr x0, [x0, #0x128]"),
        (299, 0x3DC00000, 0, 0x5120, "ldr q0, [x0, #0x120]"),
    ],
)
def test_relocations(kind: int, word: int, place: int, target: int, text: str) -> None:
    data = relocated(kind, word, place, target).to_bytes(4, "little")
    (line,) = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM).disasm_lite(data, place)
    assert f"{line[2]} {line[3]}" == text


@pytest.mark.parametrize(
    ("kind", "place", "target", "message"),
    [
        (283, 0, 1 << 27, "out of reach"),
        (283, 0, 2, "out of reach"),
        (286, 0, 0x5124, "not aligned to 8 bytes"),
        (261, 0, 1 << 31, "too far"),
        (257, 0, 0, "relocation of type 257"),
    ],
)
def test_what_can_not_be_relocated(kind: int, place: int, target: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relocated(kind, 0, place, target)


def test_pages_must_lie_where_the_linker_thought() -> None:
    """adrp counts in pages: what uses it can't be moved by less."""
    assert host_aarch64.relocate(bytearray(4), 275, 0, 0) == PAGE
    assert host_aarch64.relocate(bytearray(4), 283, 0, 0) == 1
