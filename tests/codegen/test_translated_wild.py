"""Guest addresses that would be the emulator's own memory, if a guest address were only added to where RAM is mapped.

Loads, stores, atomics and jumps in translated loops, which have just worked with legal addresses: each traps as the
manual says, and nothing of the emulator is touched. (guests/tests/hostile.c tries what a guest can know.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from mpemu.isa.privileged import Cause, Mode
from mpemu.layout import HART, MACHINE
from tests.codegen.lab import A0, A1, A2, A3, A4, RWX, SV39, asm, pte
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab, lab_fixture

PAGE = 4096
CODE, DATA, ROOT = RAM + 0x2_0000, RAM + 0x3_0000, RAM + 0x1_0000
MASK = (1 << 64) - 1
TURNS = 20
QUANTUM = 1000
LOADS = ("lb", "lhu", "lw", "ld", "fld")
STORES = ("sb", "sh", "sw", "sd", "fsd")
ATOMICS = ("amoadd.w", "amoswap.d", "amocas.d")


def loop(access: bytes) -> bytes:
    """a1 times: the access, by a2; a2 += a3; a0 counts."""
    return b"".join((
        asm("addi", rd=A0, rs1=A0, imm=1),
        access,
        asm("add", rd=A2, rs1=A2, rs2=A3),
        asm("addi", rd=A1, rs1=A1, imm=-1),
        asm("bne", rs1=A1, rs2=0, imm=-16),
    ))  # fmt: skip


def access_of(name: str) -> bytes:
    if name in ATOMICS:
        return asm(name, rd=A4, rs1=A2, rs2=A4)
    if name in STORES:
        return asm(name, rs1=A2, imm=0, **{"fs2" if name == "fsd" else "rs2": A4})
    return asm(name, rs1=A2, imm=0, **{"fd" if name == "fld" else "rd": A4})


class Wild(TranslatedLab):
    def __init__(self) -> None:
        super().__init__()
        self.store(ROOT + 8 * 2, pte(RAM, RWX))
        self._canary = ctypes.create_string_buffer(b"canary" * 16)

    def targets(self) -> dict[str, int]:
        """Host addresses that no guest may reach, by what is there."""
        hart, memory = self.hart(), self.memory
        end = memory.ram_address + memory.ram_size
        libc = ctypes.cast(ctypes.CDLL(None).write, ctypes.c_void_p).value
        assert libc is not None
        return {
            "in front of RAM": memory.ram_address - 8,
            "behind RAM": end,
            "across RAM's end": end - 3,
            "machine": memory.state_address,
            "hart": memory.hart_address(0) + HART.offset["x"],
            "hart's TLBs": memory.hart_address(0) + HART.offset["regimes"],
            "marks": self.memory.machine.page_marks,
            "versions": memory.state_address + MACHINE.offset["versions"],
            "records": hart.records,
            "code pages": hart.code_pages,
            "page index": hart.page_index,
            "interpreter": self.blob.base,
            "regions": self.blob.base + self.blob.regions_start,
            "translator": hart.translator,
            "host functions": hart.host,
            "heap": ctypes.addressof(self._canary),
            "C library": libc,
        }

    def bases(self) -> set[int]:
        """What a guest address may be added to on its way to RAM."""
        found = {self.memory.ram_address - RAM, self.memory.ram_address, 0}
        words = [(HART, self.hart()), (MACHINE, self.memory.machine)]
        for struct, view in words:
            for item in struct.items:
                if "window" in item.name and item.kind == "u64" and item.count == 1:
                    found.add(getattr(view, item.name))
        return found

    def wild(self) -> Iterator[tuple[str, int]]:
        """Guest addresses, with what they are after. No device, and RAM at most at its end."""
        for name, target in self.targets().items():
            for base in sorted(self.bases()):
                va = (target - base) & MASK
                if not RAM - 8 < va < RAM + self.memory.ram_size - 8 and (va >= 1 << 32 or va < PAGE):
                    yield name, va
        end = RAM + self.memory.ram_size
        for n in (1, 2, 3, 4, 5, 7):
            yield "across RAM's end", end - n
            yield "across RAM's start", RAM - n
        for va in (end, RAM - 8, 0, 8, *(1 << n for n in range(33, 64)), *(-(1 << n) & MASK for n in range(3, 64))):
            yield "nothing", va

    def setting(self, name: str) -> int:
        """Prepare for a way to see memory: the privilege to run with."""
        self.hart().satp = SV39 | ROOT >> 12 if name == "Sv39" else 0
        self.routine("flush_tlb")
        return Mode.M if name == "M" else Mode.S


lab = lab_fixture(Wild, scope="module", by_tier=True)


def expected(lab: Wild, name: str, setting: str, size: int, va: int) -> tuple[int, int] | None:
    """(cause, tval) of an access, None if it is fine. The rules are in mpemu/isa/reference_memory.py."""
    load = name in LOADS
    end = RAM + lab.memory.ram_size
    last = va + size - 1 & MASK
    if name in ATOMICS and va % size:
        return Cause.STORE_MISALIGNED, va
    if setting == "Sv39":
        for part in (va, last):
            if not 1 << 31 <= part < 3 << 30:
                return Cause.LOAD_PAGE if load else Cause.STORE_PAGE, part & -PAGE if part != va else va
    elif setting == "S" and va < 1 << 56 <= last:  # the lab's PMP entry ends there
        return Cause.LOAD_ACCESS if load else Cause.STORE_ACCESS, last & -PAGE
    if va >= RAM and last < end and va <= last:
        return None
    return Cause.LOAD_ACCESS if load else Cause.STORE_ACCESS, last & -PAGE if RAM <= va < end else va


SIZES = {"lb": 1, "sb": 1, "lhu": 2, "sh": 2, "lw": 4, "sw": 4, "amoadd.w": 4}


@pytest.mark.parametrize("setting", ["M", "S", "Sv39"])
@pytest.mark.parametrize("name", [*LOADS, *STORES, *ATOMICS])
def test_wild_accesses(lab: Wild, name: str, setting: str) -> None:
    priv = lab.setting(setting)
    hart = lab.hart()
    hart.mstatus = 1 << 13
    lab.place(CODE, loop(access_of(name)))
    for _ in range(2):
        lab.done(CODE, priv=priv, quantum=QUANTUM, x10=0, x11=TURNS, x12=DATA, x13=8, x14=5)
        lab.translate(CODE)
    assert lab.translated([CODE]) == {CODE}
    canaries = {target: ctypes.string_at(target, CANARY) for n, target in lab.targets().items() if n in STEADY}
    size = SIZES.get(name, 8)
    for what, va in lab.wild():
        verdict = expected(lab, name, setting, size, va)
        if verdict is None:
            continue
        # at once, and as the end of a stride that is legal first
        for start, step, turns in ((va, 0, 1), (DATA, va - DATA, 2)):
            found = lab.done(
                CODE, priv=priv, cause=verdict[0], quantum=QUANTUM, x10=0, x11=TURNS, x12=start, x13=step, x14=7
            )
            state = (found.mepc, found.mtval, found.x[A0], found.x[A1], found.x[A2])
            wanted = (CODE + 4, verdict[1], turns, TURNS - turns + 1, va)
            assert state == wanted, f"{what}: {[hex(v) for v in state]}, not {[hex(v) for v in wanted]}"
    for target, content in canaries.items():
        assert ctypes.string_at(target, CANARY) == content, hex(target)


CANARY = 32
"""Bytes: less than the smallest of what is looked at."""
STEADY = {"machine", "versions", "interpreter", "heap", "C library", "host functions"}


@pytest.mark.parametrize("setting", ["M", "S", "Sv39"])
def test_wild_jumps(lab: Wild, setting: str) -> None:
    priv = lab.setting(setting)
    lab.place(CODE, loop(asm("jalr", rd=1, rs1=A2, imm=0)))
    lab.place(DATA, asm("jalr", rd=0, rs1=1, imm=0))
    for _ in range(2):
        lab.done(CODE, priv=priv, quantum=QUANTUM, x10=0, x11=TURNS, x12=DATA, x13=0)
        lab.translate(CODE, DATA)
    for what, va in lab.wild():
        target = va & ~1
        if RAM <= target < RAM + lab.memory.ram_size:
            continue
        mapped = setting != "Sv39" or 1 << 31 <= target < 3 << 30
        cause = Cause.FETCH_ACCESS if mapped else Cause.FETCH_PAGE
        for start, step, turns in ((va, 0, 1), (DATA, va - DATA, 2)):
            found = lab.done(CODE, priv=priv, cause=cause, quantum=QUANTUM, x10=0, x11=TURNS, x12=start, x13=step)
            state = (found.mepc, found.mtval, found.x[1], found.x[A0], found.x[A1])
            assert state == (target, target, CODE + 8, turns, TURNS - turns + 1), f"{what} at {va:#x}"


@pytest.mark.parametrize("head", [4, 6, 8])
def test_hot_code_at_the_very_end_of_ram(lab: Wild, head: int) -> None:
    """It runs off RAM, or its last instruction is half in nothing."""
    lab.setting("M")
    end = RAM + lab.memory.ram_size
    lab.memory.write(end - 8, asm("addi", rd=A0, rs1=A0, imm=1) * 2)
    if head == 6:
        lab.memory.write(end - 6, asm("addi", rd=A0, rs1=A0, imm=1) + b"\x13\x05")
    lab.routine("flush_code")
    for _ in range(3):
        found = lab.done(end - head, cause=Cause.FETCH_ACCESS, x10=0)
        assert (found.mepc, found.mtval) == ((end - 2, end) if head == 6 else (end, end))
        assert found.x[A0] == head // 4
        lab.translate(end - head)
