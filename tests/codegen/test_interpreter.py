"""The compiled interpreter against the reference model: every instruction, edge and random operands, state compared."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from mpemu.codegen import host
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import PhysicalBus, ReferenceHart
from mpemu.isa.registry import INSNS, Insn, decode
from mpemu.vcpu.exits import ExitReason
from tests.codegen.native_hart import JUMP_TO_SELF, RAM, SIZE, STOP, NativeHart
from tests.isa.random_operands import operands

CODE = RAM + 0x8000
DATA = RAM + 0x2_0000
EBREAK = 0x9002  # c.ebreak: whatever is jumped to stops
INTERESTING = (
    0,
    1,
    2,
    63,
    64,
    0x7F,
    0x80,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 63,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
CASES = 24
# What a stopped hart says of itself is not architecture: temporaries of the routines, and the counters' backing.
NOT_COMPARED = {"exc_cause", "exc_tval", "walk_fault", "walk_shift", "pc"}
# wfi sleeps, and these read counters that the two count alike but for the instructions that the test adds.
SKIPPED = {"wfi"}


@pytest.fixture(scope="module")
def native() -> Iterator[NativeHart]:
    yield NativeHart()


def value(rng: random.Random) -> int:
    match rng.randrange(5):
        case 0:
            return rng.choice(INTERESTING)
        case 1:
            return DATA + 8 * rng.randrange(64)
        case 2:
            return DATA + rng.randrange(8192)
        case 3:
            return (0xFFFF_FFFF << 32) | rng.getrandbits(32)  # a boxed single
        case _:
            return rng.getrandbits(64)


def reference_for(ram: bytearray, native: NativeHart) -> ReferenceHart:
    reference = ReferenceHart(IsaSpec.parse("max"), PhysicalBus(ram, RAM), clock=lambda: 0)
    reference.reset(CODE)
    reference.s.values.update(native.state())
    reference.x.values[:] = list(native.hart.x)[:32]
    reference.f.values[:] = list(native.hart.f)
    return reference


def compare(insn: Insn, word: int, native: NativeHart, rng: random.Random) -> None:
    native.reset(CODE)
    hart = native.hart
    for i in range(1, 32):
        hart.x[i] = value(rng)
    for i in range(32):
        hart.f[i] = value(rng)
    hart.mstatus = hart.mstatus | (rng.choice((0, 1, 3, 3, 3)) << 13)
    hart.frm = rng.choice((0, 0, 1, 2, 3, 4, 5))
    # pages around the instruction hold nothing but stops; the data page is random
    ram = bytearray(struct.pack("<H", EBREAK) * (SIZE // 2))
    struct.pack_into("<I", ram, STOP - RAM, JUMP_TO_SELF)
    ram[DATA - RAM : DATA - RAM + 0x4000] = rng.randbytes(0x4000)
    struct.pack_into("<I", ram, CODE - RAM, word)
    native.memory.ram[:] = ram
    set_rounding(native, hart.frm)
    reference = reference_for(ram, native)

    for _ in range(4):
        reference.step()
        if reference.s.values["pc"] == STOP:
            break
    else:
        return  # it jumps to itself, into random data, or has moved mtvec: nothing to compare at
    reason = native.run(8)
    what = f"{insn.name} {word:#010x}"
    assert reason is ExitReason.QUANTUM, f"{what}: {reason.name}"
    assert hart.pc == STOP, f"{what}: at {hart.pc:#x}"
    for i in range(32):
        assert hart.x[i] == reference.x.values[i], f"{what}: x{i} is {hart.x[i]:#x}, not {reference.x.values[i]:#x}"
        assert hart.f[i] == reference.f.values[i], f"{what}: f{i} is {hart.f[i]:#x}, not {reference.f.values[i]:#x}"
    mine, theirs = native.state(), reference.s.values
    for name in mine.keys() - NOT_COMPARED:
        assert mine[name] == theirs[name], f"{what}: {name} is {mine[name]:#x}, not {theirs[name]:#x}"
    assert native_flags(native) == reference.fflags, f"{what}: fflags"
    assert bytes(native.memory.ram) == bytes(ram), f"{what}: memory"


def set_rounding(native: NativeHart, frm: int) -> None:
    """As if frm had been written by CSR: the host's rounding mode follows it (RMM and reserved values: any)."""
    native.hart.fcsr_host = host.native().saved_rounding(frm)


def native_flags(native: NativeHart) -> int:
    return host.native().flags_of(native.hart.fcsr_host)


@pytest.mark.parametrize("name", [n for n in INSNS if n not in SKIPPED])
def test_instruction(name: str, native: NativeHart) -> None:
    insn, rng = INSNS[name], random.Random(name)
    for _ in range(CASES if insn.pattern.fields else 3):
        word = insn.pattern.encode(**operands(insn, rng))
        if decode(word) is not None and decode(word)[0] is insn:  # type: ignore[index]
            compare(insn, word, native, rng)


def test_compressed_forms(native: NativeHart) -> None:
    """Random halfwords, legal and not: expansion, length and the illegal ones' tval."""
    rng = random.Random(16)
    for _ in range(1500):
        halfword = rng.randrange(1 << 16)
        if halfword & 3 == 3:
            continue
        decoded = decode(halfword)
        if decoded and decoded[0].name in SKIPPED:
            continue
        insn = decoded[0] if decoded else INSNS["addi"]
        compare(insn, halfword | EBREAK << 16, native, rng)


def test_random_words(native: NativeHart) -> None:
    """Words that mostly mean nothing raise illegal instruction with their bits, or do what the reference does."""
    rng = random.Random(32)
    for _ in range(1500):
        word = rng.getrandbits(32) | 3
        decoded = decode(word)
        if decoded and decoded[0].name in SKIPPED:
            continue
        compare(decoded[0] if decoded else INSNS["addi"], word, native, rng)
