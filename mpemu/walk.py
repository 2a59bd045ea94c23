"""Address translation in Python, for reports and debuggers: reads page tables, changes nothing, checks no permission.

Privileged specification, chapters "Sv39" to "Sv57" and "Svnapot". What guests execute goes through isa/mmu.py.
"""

from __future__ import annotations

from typing import Any

from mpemu.memory import MachineMemory

LEVELS = {8: 3, 9: 4, 10: 5}
"""satp.MODE -> levels of the page table."""
PTE_V, PTE_RWX, PTE_N = 1, 0xE, 1 << 63
PPN_MASK = (1 << 44) - 1
MACHINE_MODE = 3


def translate(memory: MachineMemory, hart: Any, address: int) -> int | None:
    """The physical address of what ``hart`` executes at virtual ``address``, or None if nothing is mapped there."""
    levels = LEVELS.get(hart.satp >> 60)
    if hart.priv == MACHINE_MODE or levels is None:
        return address
    top = 12 + 9 * levels
    if (address >> (top - 1)) not in (0, (1 << (65 - top)) - 1):
        return None
    table = (hart.satp & PPN_MASK) << 12
    for level in range(levels - 1, -1, -1):
        shift = 12 + 9 * level
        place = table + 8 * (address >> shift & 0x1FF)
        if not memory.contains(place, 8):
            return None
        pte = int.from_bytes(memory.read(place, 8), "little")
        if not pte & PTE_V:
            return None
        ppn = pte >> 10 & PPN_MASK
        if pte & PTE_RWX:
            if pte & PTE_N and not level:
                shift = 16  # the only size that Svnapot has
            return (ppn << 12 >> shift << shift) | (address & ((1 << shift) - 1))
        table = ppn << 12
    return None


def read_code(memory: MachineMemory, hart: Any, address: int, length: int) -> bytes:
    """Up to ``length`` bytes as ``hart`` would fetch them from virtual ``address``; ends where nothing is mapped."""
    data = b""
    while len(data) < length:
        here = (address + len(data)) & ((1 << 64) - 1)
        count = min(length - len(data), 4096 - here % 4096)
        physical = translate(memory, hart, here)
        if physical is None or not memory.contains(physical, count):
            break
        data += memory.read(physical, count)
    return data
