"""Decoded instructions: the 16-byte record, and the variants in which an instruction's handler exists.

A record stands for the instruction at one 2-byte slot of a code page: ``u32`` handler (offset from the start of the
blob; 0: not decoded yet), four ``u8`` operands a b c d, and an ``i64``. The pc is implicit: records of a page are
consecutive, so pc = (record address - delta) / 8 where delta belongs to the page's present virtual address.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpemu.isa.registry import Insn
from mpemu.layout import PAGE, RECORD_PAGE_SIZE, RECORD_SIZE

RECORD = RECORD_SIZE
SLOTS = PAGE // 2
RECORD_PAGE = RECORD_PAGE_SIZE
"""Slots of a page, one behind them that goes to the next page, and padding to a multiple of 64 bytes."""
PAGE_NUMBER = (SLOTS + 1) * RECORD
"""Place of a u32 in the padding: 1 + the translator's number of the page with this content, or 0 (hot.py)."""

HANDLER, A, B, C, D, IMM = 0, 4, 5, 6, 7, 8
TURN = D
"""Of a jump that closes a spin loop: the instructions of one turn."""
_FIXED_SLOTS = {"rd": A, "fd": A, "rs1": B, "fs1": B, "rs2": C, "fs2": C, "rs3": D, "fs3": D}


def ordering_bits(insn: Insn) -> dict[str, int]:
    """Of the operands aq and rl those that are not recorded: generated atomics always have the strongest order.

    But .rl of an LR is recorded. To keep its load behind earlier stores takes a fence, for which few LRs ask.
    """
    names = ("aq",) if insn.name.startswith("lr.") else ("aq", "rl")
    return {name: 1 for name in names if name in insn.operands}


def operand_slots(insn: Insn) -> dict[str, int]:
    """Byte offset in the record of every operand that the body takes (IMM: the i64)."""
    slots = {name: _FIXED_SLOTS[name] for name in insn.operands if name in _FIXED_SLOTS}
    free = [s for s in (A, B, C, D) if s not in slots.values()]
    for name in insn.operands:
        if name in slots or name in ordering_bits(insn):
            continue
        f = insn.pattern.fields[name]
        if not f.signed and f.width <= 8 and free and name != "csr":
            slots[name] = free.pop()
        elif IMM not in slots.values():
            slots[name] = IMM
        else:
            raise ValueError(f"{insn.name}: no room in the record for {name}")
    return slots


# Operands that are worth a handler of their own where they have this value: moves, compares with zero, plain jumps;
# CSR reads; rounding by frm; LRs that need no fence. The body then sees an int, and what depends on it folds.
SPECIALISED: dict[str, tuple[dict[str, int], ...]] = {
    "addi": ({"rs1": 0},),
    "add": ({"rs1": 0},),
    "beq": ({"rs2": 0},),
    "bne": ({"rs2": 0},),
    "blt": ({"rs2": 0}, {"rs1": 0}),
    "bge": ({"rs2": 0}, {"rs1": 0}),
    "jal": ({"rd": 0},),
    "jalr": ({"rd": 0},),
    "csrrs": ({"rs1": 0},),
    "csrrc": ({"rs1": 0},),
    "lr.w": ({"rl": 0},),
    "lr.d": ({"rl": 0},),
}


def specialisations(insn: Insn) -> tuple[dict[str, int], ...]:
    """Fixed operands, most specific first; the general form is not among them."""
    if "rm" in insn.operands:
        return ({"rm": 7},)
    return SPECIALISED.get(insn.name, ())


WAYS = ("far", "fwd", "back", "spin")
"""pc-relative jumps: to another page; within the page, where the record's i64 is the distance in bytes of records:
forwards, backwards, and backwards in a loop that can only wait (facts.py)."""

SPIN_GAP = 24
"""Instructions between two PAUSEs that may still belong to one wait."""
SPIN_YIELD = 50
"""Turns of a spin loop, or PAUSEs, after which a hart gives its core to one that can make progress."""


@dataclass(frozen=True)
class Variant:
    """One handler of an instruction. ``way`` is "" or, for pc-relative jumps, one of WAYS."""

    insn: Insn
    length: int
    way: str = ""
    fixed: tuple[tuple[str, int], ...] = field(default=())

    @property
    def symbol(self) -> str:
        parts = [self.insn.name, str(self.length), self.way, *(f"{k}{v}" for k, v in self.fixed)]
        return "_".join(p for p in parts if p)
