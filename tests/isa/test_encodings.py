"""The instruction table against itself and against two other tools: LLVM's assembler and capstone's disassembler."""

from __future__ import annotations

import importlib.util
import itertools
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from random_operands import encodings

import mpemu.isa.instructions  # noqa: F401  (fills the table)
from mpemu.isa.disasm import disassemble
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import COMPRESSED, INSNS, Insn, Pattern, decode, decode_compressed

MAX = IsaSpec.parse("max").extensions
ALL = pytest.mark.parametrize("insn", INSNS.values(), ids=INSNS)

# Encodings that are also hints or special cases of another instruction, which their pattern lies inside of.
SPECIALISATIONS = {("fence", "fence.tso"), ("fence", "pause")}


@ALL
def test_decodes_what_it_encodes(insn: Insn) -> None:
    for operands, word in encodings(insn, 30, random.Random(insn.name)):
        found = decode(word, MAX)
        assert found is not None
        assert (found[0].name, found[2]) == (insn.name, 4)
        assert {k: found[1][k] for k in operands} == operands


@ALL
def test_is_documented(insn: Insn) -> None:
    assert insn.doc.strip().split("\n")[0].endswith(".")


def overlap(a: Pattern, b: Pattern) -> bool:
    common = a.mask & b.mask
    return a.length == b.length and a.match & common == b.match & common


def test_no_two_patterns_overlap() -> None:
    pairs = itertools.combinations(INSNS.values(), 2)
    found = {(a.name, b.name) for a, b in pairs if overlap(a.pattern, b.pattern)}
    assert found == SPECIALISATIONS


def test_every_compressed_form_expands_to_a_known_instruction() -> None:
    for form in COMPRESSED:
        base = INSNS[form.base]
        assert set(base.operands) <= set(form.operands), form.name


def test_an_extension_that_is_missing_makes_its_instructions_illegal() -> None:
    fld = 0x2188  # c.fld fa0, 0(a1)
    assert decode(fld, MAX) is not None
    assert decode(fld, IsaSpec.parse("rv64imac").extensions) is None
    assert decode(INSNS["mul"].pattern.encode(), IsaSpec.parse("rv64i").extensions) is None


def test_a_field_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="2048 does not fit the field imm"):
        INSNS["addi"].pattern.encode(imm=2048)
    with pytest.raises(ValueError, match="7 does not fit the field rd"):
        INSNS["amocas.q"].pattern.encode(rd=7)


# -- LLVM's assembler: what the disassembler prints must assemble to the bits that it was printed from

ARCH = "m a f d c zacas zabha zawrs zicbom zicboz zicond zba zbb zbc zbs zfh svinval zcb zihintpause zifencei zicsr"


def assemble(lines: Iterable[str], directory: Path) -> bytes:
    """The .text of an assembly file."""
    source, target = directory / "a.s", directory / "a.o"
    arch = ", ".join("+" + name for name in ARCH.split())
    source.write_text("\n".join([f".option arch, {arch}", ".option norelax", *lines, ""]))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding", "-c", str(source)]
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr[:2000]
    with target.open("rb") as file:
        data: bytes = ELFFile(file).get_section_by_name(".text").data()
    return data


needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")


@needs_zig
def test_text_assembles_to_the_same_word(tmp_path: Path) -> None:
    words = [word for insn in INSNS.values() for _, word in encodings(insn, 20, random.Random(insn.name))]
    texts = [disassemble(word) or "?" for word in words]
    data = assemble([".option norvc", *texts], tmp_path)
    made = [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
    wrong = [(t, hex(w), hex(m)) for t, w, m in zip(texts, words, made, strict=True) if w != m]
    assert not wrong


@needs_zig
def test_compressed_text_assembles_to_the_same_halfword(tmp_path: Path) -> None:
    halves, texts = [], []
    for half in range(1 << 16):
        form = decode_compressed(half, MAX)
        # c.nop's hints carry an immediate that is not printed.
        if half & 3 != 3 and form and not (form.name == "c.nop" and form.pattern.extract(half)["imm"]):
            halves.append(half)
            texts.append(disassemble(half, exts=MAX) or "?")
    data = assemble([".option rvc", *texts], tmp_path)
    made = [int.from_bytes(data[n : n + 2], "little") for n in range(0, len(data), 2)]
    wrong = [(t, hex(h), hex(m)) for t, h, m in zip(texts, halves, made, strict=True) if h != m]
    assert not wrong


# -- capstone

CAPSTONE = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
KNOWN_TO_CAPSTONE = {"I", "M", "Zaamo", "Zalrsc", "F", "D", "Zicsr", "Zifencei", "S"}


def by_capstone(word: int, length: int) -> str | None:
    found = list(CAPSTONE.disasm(word.to_bytes(length, "little"), 0))
    return f"{found[0].mnemonic} {found[0].op_str}".strip() if found else None


def canonical(text: str | None) -> str | None:
    """What capstone spells otherwise: jalr's operands, li, an empty fence set, and CSRs, some of which it misnames."""
    if text is None:
        return None
    text = re.sub(r"^jalr (\w+), (-?\w+)\((\w+)\)$", r"jalr \1, \3, \2", text)
    text = re.sub(r"^li (\w+), ", r"addi \1, zero, ", text)
    text = re.sub(r"^(fence .*)\b0", r"\1unknown", text)
    return re.sub(r"^(csrr\w* \w+, |csr[wsc]i? )\w+", r"\1CSR", text)


@pytest.mark.parametrize("insn", [i for i in INSNS.values() if i.ext in KNOWN_TO_CAPSTONE], ids=lambda i: i.name)
def test_text_is_capstones(insn: Insn) -> None:
    for _, word in encodings(insn, 30, random.Random(insn.name)):
        assert canonical(disassemble(word)) == canonical(by_capstone(word, 4))


def is_hint(half: int) -> bool:
    """A form of C that writes x0, or c.nop with an immediate: hints, which capstone does not decode."""
    form = decode_compressed(half, MAX)
    assert form is not None
    fields = form.pattern.extract(half)
    return fields.get("rd") == 0 or (form.name == "c.nop" and fields["imm"] != 0)


def test_every_halfword_against_capstone() -> None:
    base = IsaSpec.parse("rv64gc").extensions
    for half in range(1 << 16):
        if half & 3 == 3:
            continue
        ours, theirs = disassemble(half, exts=base), by_capstone(half, 2)
        if ours is None:
            # capstone names the all-zero halfword, and does not know that c.lui needs an immediate
            assert theirs is None or theirs == "c.unimp" or re.match(r"c\.lui \w+, 0$", theirs), hex(half)
        elif theirs is None:
            assert is_hint(half), hex(half)
        else:
            assert ours == theirs, hex(half)
