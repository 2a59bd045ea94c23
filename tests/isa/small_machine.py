"""A reference hart with a little RAM and no firmware, for tests that run a few instructions."""

from __future__ import annotations

from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import PhysicalBus, ReferenceHart
from mpemu.isa.registry import INSNS

RAM = 0x8000_0000
DATA = RAM + 0x4000
SIZE = 0x10000


def machine(isa: str = "max", harts: int = 1) -> list[ReferenceHart]:
    """Harts that share 64 KiB of RAM, in M-mode at its start. Traps go to RAM + 0x1000."""
    bus = PhysicalBus(bytearray(SIZE), RAM)
    made = [ReferenceHart(IsaSpec.parse(isa), bus, n) for n in range(harts)]
    for hart in made:
        hart.reset(RAM)
        hart.s.values["mtvec"] = RAM + 0x1000
    return made


def place(hart: ReferenceHart, *instructions: int | tuple[str, dict[str, int]], at: int = RAM) -> None:
    """Write instructions: words, or (name, operands)."""
    for item in instructions:
        word = item if isinstance(item, int) else INSNS[item[0]].pattern.encode(**item[1])
        hart.bus.write(at, 4, word, hart.hartid)
        at += 4


def execute(hart: ReferenceHart, name: str, **operands: int) -> None:
    """One instruction at the start of RAM."""
    place(hart, (name, operands))
    hart.s.values["pc"] = RAM
    hart.step()


def cause(hart: ReferenceHart) -> tuple[int, int]:
    """(mcause, mtval) of the trap that was just taken to M."""
    assert hart.s.values["pc"] == RAM + 0x1000, "no trap was taken"
    return hart.s.values["mcause"], hart.s.values["mtval"]
