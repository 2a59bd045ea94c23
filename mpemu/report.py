"""The post-mortem report of a hart, from shared memory: its process may be dead.

pc, registers and counters are what native code stored last. It keeps x and f in place; pc is exact if the hart was not
running, and otherwise where it last left native code, took a trap or looked at its interrupt lines.
"""

from __future__ import annotations

from mpemu.isa.registry import X_NAMES
from mpemu.memory import MachineMemory
from mpemu.vcpu.exits import ExitReason
from mpemu.walk import read_code, translate

PRIVILEGE = {0: "U", 1: "S", 3: "M"}
CSRS = ("mstatus", "mcause", "mepc", "mtval", "mtvec", "scause", "sepc", "stval", "stvec", "satp", "mie", "mip")
BEFORE, AFTER = 16, 32
"""Bytes of code shown in front of and behind the pc."""


def hart_report(memory: MachineMemory, index: int, why: str) -> str:
    """Several lines: what happened to hart ``index``, where it was, its registers, the code there."""
    hart = memory.hart(index)
    try:
        last = ExitReason(hart.exit_reason).name
    except ValueError:
        last = f"{hart.exit_reason} (damaged)"
    privilege = PRIVILEGE.get(hart.priv, str(hart.priv))
    lines = [
        f"hart {index}: {why}",
        f"  pc {hart.pc:#018x}, privilege {privilege}, {hart.instret} instructions, last exit {last}"
        + _mmio(hart, last),
    ]
    for row in range(0, 32, 4):
        lines.append("  " + "  ".join(f"{X_NAMES[r]:>4} {hart.x[r]:016x}" for r in range(row, row + 4)))
    for row in range(0, len(CSRS), 3):
        lines.append("  " + "  ".join(f"{name:>7} {getattr(hart, name):016x}" for name in CSRS[row : row + 3]))
    lines += _code(memory, index)
    return "\n".join(lines)


def _mmio(hart: object, last: str) -> str:
    if last != ExitReason.MMIO.name:
        return ""
    kind = "store" if hart.mmio_write else "load"  # type: ignore[attr-defined]
    return f" ({kind} of {hart.mmio_size} bytes at {hart.mmio_address:#x})"  # type: ignore[attr-defined]


def _code(memory: MachineMemory, index: int) -> list[str]:
    """Disassembly around the pc."""
    hart = memory.hart(index)
    pc = hart.pc
    physical = translate(memory, hart, pc)
    if physical is None:
        return [f"  no code: {pc:#x} is not mapped"]
    code = read_code(memory, hart, pc, AFTER)
    if not code:
        return [f"  no code: {pc:#x} is physical {physical:#x}, which is not RAM"]
    before = b""
    if pc >= BEFORE and len(read_code(memory, hart, pc - BEFORE, BEFORE)) == BEFORE:
        before = read_code(memory, hart, pc - BEFORE, BEFORE)
    lines = []
    for start in range(0, BEFORE + 2, 2):  # instructions have 2 or 4 bytes: find a start from which they end at the pc
        shown = _disassemble(before[start:], pc - BEFORE + start)
        if before and sum(size for _, size, _ in shown) == BEFORE - start:
            lines += shown
            break
    lines += _disassemble(code, pc)
    return [f"  {'=>' if address == pc else '  '} {address:#x}: {text}" for address, _, text in lines]


def _disassemble(code: bytes, address: int) -> list[tuple[int, int, str]]:
    """(address, size, text) of each instruction; what capstone doesn't know is shown as a number."""
    import capstone  # only who crashes pays for it

    engine = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    lines: list[tuple[int, int, str]] = []
    offset = 0
    while offset + 2 <= len(code):
        size = 4 if code[offset] & 3 == 3 else 2
        if offset + size > len(code):
            break
        word = code[offset : offset + size]
        found = next(engine.disasm(word, address + offset, 1), None)
        text = (
            f"{found.mnemonic} {found.op_str}".strip() if found else f".{size}byte {int.from_bytes(word, 'little'):#x}"
        )
        lines.append((address + offset, size, text))
        offset += size
    return lines
