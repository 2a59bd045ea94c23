"""The oracle against one that is not ours: qemu-system-riscv64 runs the same instructions, if it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
from fp_cases import MODES, Operation, kinds, operands, operations, related, rounds
from fp_native import width

from mpemu.isa.registry import INSNS
from mpemu.isa.softfloat import evaluate

QEMU = shutil.which("qemu-system-riscv64")
SAMPLES = 150
"""Operand tuples per operation."""
RAM, OPERANDS, RESULTS = 0x8000_0000, 0x8100_0000, 0x8200_0000
OPERAND_SIZE, RESULT_SIZE = 32, 16
Case = tuple[Operation, tuple[int, ...], int]
"""(operation, operands, rounding mode)"""


def encode(name: str, **fields: int) -> bytes:
    return INSNS[name].pattern.encode(**fields).to_bytes(4, "little")


def instruction(operation: Operation) -> str:
    op, fmt, to = operation
    return f"fcvt.{to}.{fmt}" if to else f"f{'madd' if op == 'fma' else op}.{fmt}"


def boxed(value: int, kind: str) -> int:
    return value if kind not in ("h", "s") else value | ((1 << 64) - (1 << width(kind)))


def one_case(operation: Operation) -> bytes:
    """Load f1..f3, x10 and fcsr from x5; do it; store the result, then fflags, at x6."""
    insn = INSNS[instruction(operation)]
    fields = {"fs1": 1, "fs2": 2, "fs3": 3, "rs1": 10, "fd": 4, "rd": 11, "rm": 7}
    code = [encode("fld", fd=i + 1, rs1=5, imm=8 * i) for i in range(3)]
    code += [encode("ld", rd=10, rs1=5, imm=0), encode("ld", rd=7, rs1=5, imm=24), encode("csrrw", csr=3, rs1=7, rd=0)]
    code += [encode(insn.name, **{k: v for k, v in fields.items() if k in insn.pattern.fields})]
    to_float = "fd" in insn.pattern.fields
    code += [encode("fsd", fs2=4, rs1=6, imm=0) if to_float else encode("sd", rs2=11, rs1=6, imm=0)]
    code += [encode("csrrs", csr=1, rs1=0, rd=8), encode("sd", rs2=8, rs1=6, imm=8)]
    return b"".join(
        [*code, encode("addi", rd=5, rs1=5, imm=OPERAND_SIZE), encode("addi", rd=6, rs1=6, imm=RESULT_SIZE)]
    )


def program(cases: list[Case]) -> bytes:
    """Everything in a row, then the results to the UART and the test finisher."""

    def address(register: int, value: int) -> bytes:
        zeros = (value & -value).bit_length() - 1
        load = encode("addi", rd=register, rs1=0, imm=value >> zeros)
        return load + encode("slli", rd=register, rs1=register, shamt=zeros)

    code = [encode("lui", rd=9, imm=6 << 12), encode("csrrs", csr=0x300, rs1=9, rd=0)]
    code += [address(5, OPERANDS) + address(6, RESULTS)]
    bodies = {operation: one_case(operation) for operation in operations()}
    code += [bodies[operation] for operation, _, _ in cases]
    code += [encode("addi", rd=7, rs1=6, imm=0), address(6, RESULTS), address(12, 0x1000_0000)]
    code += [encode("lbu", rd=8, rs1=6, imm=0), encode("sb", rs2=8, rs1=12, imm=0), encode("addi", rd=6, rs1=6, imm=1)]
    code += [encode("bne", rs1=6, rs2=7, imm=-12), address(13, 0x10_0000), encode("lui", rd=14, imm=5 << 12)]
    code += [encode("addi", rd=14, rs1=14, imm=0x555), encode("sw", rs2=14, rs1=13, imm=0), encode("jal", rd=0, imm=0)]
    text = b"".join(code)
    assert len(text) < OPERANDS - RAM
    return text


def table(cases: list[Case]) -> bytes:
    rows = []
    for operation, xs, rm in cases:
        words = [boxed(x, k) for x, k in zip(xs, kinds(operation), strict=True)]
        rows += [*words, *[0] * (3 - len(words)), rm << 5]
    return b"".join(x.to_bytes(8, "little") for x in rows)


def all_cases() -> Iterator[Case]:
    for operation in operations():
        xs = list(islice(chain(operands(operation, SAMPLES // 2), related(operation, SAMPLES // 3)), 2 * SAMPLES))
        for i, x in enumerate(xs):
            yield operation, x, i % 5 if rounds(operation) else MODES[0]


@pytest.mark.skipif(QEMU is None, reason="qemu-system-riscv64 is not installed")
def test_oracle_equals_qemu(tmp_path: Path) -> None:
    cases = list(all_cases())
    code, data, output = tmp_path / "code", tmp_path / "data", tmp_path / "output"
    code.write_bytes(program(cases))
    data.write_bytes(table(cases))
    command = [str(QEMU), "-machine", "virt", "-cpu", "rv64,Zfh=true", "-bios", "none", "-display", "none"]
    command += ["-monitor", "none", "-serial", f"file:{output}"]
    command += ["-device", f"loader,file={code},addr={RAM:#x},force-raw=on"]
    command += ["-device", f"loader,file={data},addr={OPERANDS:#x},force-raw=on"]
    subprocess.run(command, check=True, timeout=30)
    results = output.read_bytes()
    assert len(results) == RESULT_SIZE * len(cases)
    wrong = []
    for i, (operation, xs, rm) in enumerate(cases):
        row = results[RESULT_SIZE * i : RESULT_SIZE * (i + 1)]
        got = int.from_bytes(row[:8], "little"), int.from_bytes(row[8:], "little")
        op, fmt, to = operation
        result, flags = evaluate(op, fmt, xs, rm, to)
        result = boxed(result, "" if op in ("eq", "lt", "le", "class") else to or fmt)
        if to in ("w", "wu"):
            result |= (result >> 31) * 0xFFFFFFFF_00000000
        if got != (result, flags):
            wrong.append((operation, [hex(x) for x in xs], rm, (hex(result), flags), (hex(got[0]), got[1])))
    assert not wrong, f"{len(wrong)} of {len(cases)}: {wrong[:10]}"
