"""Random programs for comparing emulators: generated from the instruction table, run many per boot by guests/random.

A program is a few counted loops of random instructions: integer, FP, atomics, compressed forms, forward branches and
jumps, and the pairs that compilers like (an interpreter may fuse them). Loads and stores stay in one scratch page. For
that x5 and x8 are kept pointing to its middle, x2 to its first quarter; x31 counts loops; x6 is set before each use.
Everything else is random, and all of it, with the scratch page, is hashed at the end.
"""

from __future__ import annotations

import importlib
import random
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import mpemu.isa.instructions  # noqa: F401  (fills the table)
from mpemu.isa.registry import COMPRESSED, INSNS, Compressed, Insn

for _module in ("rv_a", "rv_c", "rv_d", "rv_f", "rv_i", "rv_m", "rv_zb", "rv_zfh", "system"):
    importlib.import_module(f"mpemu.isa.{_module}")

SCRATCH_WORDS = 512
BASE, BASE_C, STACK, ADDRESS, COUNTER = 5, 8, 2, 6, 31
KEPT = {BASE, BASE_C, STACK, COUNTER}
BASE_OFFSET, STACK_OFFSET = 2048, 1024
"""Where the kept registers point in the scratch page, in bytes."""
PLAIN_EXTENSIONS = {"I", "M", "Zba", "Zbb", "Zbc", "Zbs", "F", "D"}
ECALL = 0x73
MASK = (1 << 64) - 1

LOADS = {"lb", "lh", "lw", "ld", "lbu", "lhu", "lwu", "flw", "fld"}
STORES = {"sb", "sh", "sw", "sd", "fsw", "fsd"}
QEMU_WRONG = {"ctzw"}
"""QEMU 7.2's counts on in the upper half if the lower one is zero."""
BRANCHES = ("beq", "bne", "blt", "bge", "bltu", "bgeu")
NOT_PLAIN = LOADS | STORES | {*BRANCHES, "jal", "jalr", "ecall", "ebreak", "fence", "fence.tso", "auipc"} | QEMU_WRONG


@dataclass(frozen=True)
class State:
    """Registers before a program (or after): x0..x31, f0..f31, fcsr."""

    x: tuple[int, ...]
    f: tuple[int, ...]
    fcsr: int

    def words(self) -> tuple[int, ...]:
        return (*self.x, *self.f, self.fcsr)


@dataclass(frozen=True)
class Program:
    """Code, ecall included, and the registers it starts with; ``bases`` are filled in when its place is known."""

    state: State
    code: bytes


@dataclass
class Item:
    """Some bytes of code; then, if it has a ``size``, a jump of so many bytes that skips the next ``skip`` items."""

    code: bytes = b""
    size: int = 0
    skip: int = 0
    encode: Callable[[int], int] = field(default=lambda _offset: 0)


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")


class Generator:
    """Makes programs from a seed; the same seed makes the same programs."""

    def __init__(self, seed: int, more: Collection[str] = (), kept: Collection[int] = frozenset(KEPT)) -> None:
        """``more`` extensions to take plain instructions from; ``kept`` registers are never written."""
        self.rng, self.kept = random.Random(seed), kept
        extensions = PLAIN_EXTENSIONS | set(more)
        self.plain = [i for i in INSNS.values() if i.ext in extensions and i.name not in NOT_PLAIN]
        self.plain = [i for i in self.plain if i.name not in ("flh", "fsh")]
        self.amos = [i for i in INSNS.values() if i.ext == "Zaamo"]
        bases = {i.name for i in self.plain} | LOADS | STORES
        self.short = [c for c in COMPRESSED if c.ext in {"C", *more} and c.base in bases and c.name != "c.addi16sp"]
        self.kinds = (
            (self.plain_insn, 40),
            (self.short_insn, 25),
            (self.memory_insn, 15),
            (self.amo, 4),
            (self.lrsc, 1),
            (self.pair, 8),
            (self.csr, 2),
            (self.branch, 6),
            (self.jump, 2),
        )

    # -- operands
    def destination(self) -> int:
        while True:
            register = self.rng.randrange(32)
            if register not in self.kept:
                return register

    def nonzero_destination(self) -> int:
        return self.destination() or 10

    def immediate(self, width: int) -> int:
        top = 1 << (width - 1)
        return self.rng.choice((0, 1, -1, top - 1, -top, *(self.rng.randrange(-top, top) for _ in range(4))))

    def encode(self, name: str, **operands: int) -> bytes:
        return word(INSNS[name].pattern.encode(**operands))

    # -- kinds of items
    def plain_insn(self) -> list[Item]:
        return [Item(self.plain_code(self.rng.choice(self.plain)))]

    def plain_code(self, insn: Insn, **given: int) -> bytes:
        operands = {}
        for name, place in insn.pattern.fields.items():
            if name == "rd":
                operands[name] = self.destination()
            elif name == "rm":
                operands[name] = self.rng.choice((0, 1, 2, 3, 4, 7))
            elif place.signed:
                low = min(bit for _, _, bit in place.parts)
                operands[name] = self.immediate(place.width) >> low << low
            else:
                operands[name] = self.rng.randrange(1 << place.width)
        return word(insn.pattern.encode(**operands | given))

    def short_insn(self) -> list[Item]:
        while True:
            short = self.rng.choice(self.short)
            operands = self.short_operands(short)
            if operands is not None:
                return [Item(short.pattern.encode(**operands).to_bytes(2, "little"))]

    def short_operands(self, short: Compressed) -> dict[str, int] | None:
        """Random fields of a 16-bit form, or None if they name a register that is kept, or nothing legal."""
        operands = {}
        for name, place in short.pattern.fields.items():
            low = min(bit for _, _, bit in place.parts)
            if name == "rs1" and short.base in LOADS | STORES:
                operands[name] = BASE_C
            elif place.bias:
                operands[name] = place.bias + self.rng.randrange(8)
            elif place.signed:
                operands[name] = self.immediate(place.width) >> low << low
            else:
                operands[name] = self.rng.randrange(1 << place.width) >> low << low
        if operands.get("rd", 0) in self.kept or any(operands[n] == 0 for n in short.nonzero):
            return None
        if short.name in ("c.slli", "c.srli", "c.srai") and not operands["shamt"]:
            return None  # a hint
        if short.name in ("c.lui", "c.addi", "c.li", "c.mv", "c.add", "c.slli") and not operands["rd"]:
            return None  # hints, or other instructions
        return operands

    def memory_insn(self) -> list[Item]:
        offset = self.rng.choice((self.rng.randrange(-2048, 2032), self.rng.randrange(-16, 16) * 8))
        name = self.rng.choice(sorted(LOADS | STORES))
        return [Item(self.plain_code(INSNS[name], rs1=BASE, imm=offset))]

    def amo(self) -> list[Item]:
        point = self.encode("addi", rd=ADDRESS, rs1=BASE, imm=8 * self.rng.randrange(-250, 250))
        return [Item(point + self.plain_code(self.rng.choice(self.amos), rs1=ADDRESS))]

    def lrsc(self) -> list[Item]:
        size = self.rng.choice("wd")
        while True:
            loaded, failed, stored = self.nonzero_destination(), self.nonzero_destination(), self.destination()
            if len({loaded, failed, stored, ADDRESS}) == 4:
                break
        code = self.encode("addi", rd=ADDRESS, rs1=BASE, imm=8 * self.rng.randrange(-250, 250))
        code += self.encode(f"lr.{size}", rd=loaded, rs1=ADDRESS)
        code += self.encode(f"sc.{size}", rd=failed, rs1=ADDRESS, rs2=stored)
        return [Item(code + self.encode("bne", rs1=failed, rs2=0, imm=-8))]

    def pair(self) -> list[Item]:
        rd, rs = self.nonzero_destination(), self.rng.randrange(32)
        shift = self.rng.choice((16, 32, 48, 56))
        upper, lower = self.immediate(20) << 12, self.immediate(12)
        first, second = self.rng.choice((
            (self.encode("lui", rd=rd, imm=upper), self.encode("addi", rd=rd, rs1=rd, imm=lower)),
            (self.encode("lui", rd=rd, imm=upper), self.encode("addiw", rd=rd, rs1=rd, imm=lower)),
            (self.encode("auipc", rd=rd, imm=upper), self.encode("addi", rd=rd, rs1=rd, imm=lower)),
            (self.encode("slli", rd=rd, rs1=rs, shamt=shift), self.encode("srli", rd=rd, rs1=rd, shamt=shift)),
            (self.encode("slli", rd=rd, rs1=rs, shamt=32), self.encode("srai", rd=rd, rs1=rd, shamt=30)),
            (self.encode("mulhu", rd=rd, rs1=BASE, rs2=rs), self.encode("mul", rd=10 * (lower & 1), rs1=BASE, rs2=rs)),
            (self.encode("add", rd=rd, rs1=0, rs2=BASE), self.encode("ld", rd=rd, rs1=rd, imm=lower // 2)),
        ))  # fmt: skip
        compare = self.encode("slt", rd=rd, rs1=rs, rs2=self.rng.randrange(32))
        if self.rng.random() < 0.3:
            return [Item(compare), self._branch_item("bne", rd, 0)]
        return [Item(first + second)]

    def csr(self) -> list[Item]:
        choices = (
            self.encode("csrrs", rd=self.destination(), csr=1, rs1=0),
            self.encode("csrrs", rd=self.destination(), csr=3, rs1=0),
            self.encode("csrrwi", rd=self.destination(), csr=1, uimm=self.rng.randrange(32)),
            self.encode("csrrwi", rd=self.destination(), csr=2, uimm=self.rng.randrange(5)),
        )
        return [Item(self.rng.choice(choices))]

    def _branch_item(self, name: str, rs1: int, rs2: int) -> Item:
        pattern = INSNS[name].pattern
        return Item(
            size=4, skip=self.rng.randrange(1, 6), encode=lambda offset: pattern.encode(rs1=rs1, rs2=rs2, imm=offset)
        )

    def branch(self) -> list[Item]:
        rng = self.rng
        if rng.random() < 0.3:
            name = rng.choice(("c.beqz", "c.bnez"))
            short = next(c for c in COMPRESSED if c.name == name)
            rs1 = 8 + rng.randrange(8)
            return [Item(size=2, skip=rng.randrange(1, 6), encode=lambda o: short.pattern.encode(rs1=rs1, imm=o))]
        return [self._branch_item(rng.choice(BRANCHES), rng.randrange(32), rng.randrange(32))]

    def jump(self) -> list[Item]:
        rd, skip = self.destination(), self.rng.randrange(1, 6)
        if self.rng.random() < 0.5:
            return [Item(size=4, skip=skip, encode=lambda o: INSNS["jal"].pattern.encode(rd=rd, imm=o))]
        here = self.encode("auipc", rd=ADDRESS, imm=0)
        pattern = INSNS["jalr"].pattern
        return [Item(here, 4, skip, lambda offset: pattern.encode(rd=rd, rs1=ADDRESS, imm=offset + len(here)))]

    # -- programs
    def block(self) -> list[Item]:
        """A counted loop of random items."""
        body: list[Item] = []
        makers, weights = zip(*self.kinds, strict=True)
        for _ in range(self.rng.randrange(6, 24)):
            body += self.rng.choices(makers, weights)[0]()
        return body

    def program(self) -> Program:
        code = b""
        for _ in range(self.rng.randrange(2, 6)):
            body = assemble(self.block())
            code += self.encode("addi", rd=COUNTER, rs1=0, imm=self.rng.randrange(1, 12)) + body
            code += self.encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1)
            code += self.encode("bne", rs1=COUNTER, rs2=0, imm=-len(body) - 4)
        x = [0, *(self.value() for _ in range(31))]
        f = [self.fp_value() for _ in range(32)]
        return Program(State(tuple(x), tuple(f), self.rng.randrange(5) << 5), code + word(ECALL))

    def value(self) -> int:
        bits = self.rng.getrandbits(64) >> self.rng.randrange(64)
        return self.rng.choice((bits, -bits & MASK, bits, 0, MASK, 1 << 63, 1 << 31, (1 << 63) - 1))

    def fp_value(self) -> int:
        """Doubles and boxed singles and halves, special ones often; sometimes not boxed."""
        exponent, fraction, box = self.rng.choice(((11, 52, 0), (8, 23, MASK << 32), (5, 10, MASK << 16)))
        sign = self.rng.getrandbits(1)
        biased = self.rng.choice((0, 1, (1 << exponent) - 1, (1 << exponent) - 2, (1 << exponent - 1) - 1,
                                  (1 << exponent - 1) + self.rng.randrange(-12, 12)))  # fmt: skip
        bits = self.rng.choice((0, 1, (1 << fraction) - 1, self.rng.getrandbits(fraction), 1 << fraction - 1))
        boxed = box if self.rng.random() < 0.95 else 0
        return (sign << exponent + fraction | biased << fraction | bits | boxed) & MASK


def assemble(items: list[Item]) -> bytes:
    """Place the items and fill in jumps; those beyond the last item go to the end."""
    starts = [0]
    for item in items:
        starts.append(starts[-1] + len(item.code) + item.size)
    code = b""
    for index, item in enumerate(items):
        code += item.code
        if item.size:
            target = starts[min(index + 1 + item.skip, len(items))]
            code += item.encode(target - len(code)).to_bytes(item.size, "little")
    return code


@dataclass(frozen=True)
class Image:
    """The runner's ELF with programs inside, and where things are."""

    elf: bytes
    addresses: tuple[int, ...]
    scratch: int

    def initial(self, program: Program) -> State:
        return place(program, self.scratch).state


def place(program: Program, scratch: int) -> Program:
    """The program with the kept registers pointing into the scratch page."""
    x = list(program.state.x)
    x[BASE] = x[BASE_C] = scratch + BASE_OFFSET
    x[STACK] = scratch + STACK_OFFSET
    return Program(State(tuple(x), program.state.f, program.state.fcsr), program.code)


def make_image(runner: Path, programs: list[Program]) -> Image:
    """Write the programs into the runner's blob (guests/random/random.h has the format)."""
    with runner.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection), f"{runner} has no symbols"
        symbols = {s.name: s for s in table.iter_symbols()}
        blob, scratch = symbols["blob"]["st_value"], symbols["scratch"]["st_value"]
        segment = next(s for s in elf.iter_segments() if s["p_vaddr"] <= blob < s["p_vaddr"] + s["p_filesz"])
        position = segment["p_offset"] + blob - segment["p_vaddr"]
    offsets, body = [], b""
    start = 8 * (1 + len(programs))
    for program in programs:
        body += bytes(-(start + len(body)) % 16)
        offsets.append(start + len(body))
        body += struct.pack("<65Q", *place(program, scratch).state.words()) + program.code
        body += bytes(-len(body) % 8)
    data = struct.pack(f"<{1 + len(offsets)}Q", len(programs), *offsets) + body
    if len(data) > symbols["blob"]["st_size"]:
        raise ValueError(f"{len(programs)} programs are {len(data)} bytes, the runner has {symbols['blob']['st_size']}")
    content = bytearray(runner.read_bytes())
    content[position : position + len(data)] = data
    return Image(bytes(content), tuple(blob + o + 65 * 8 for o in offsets), scratch)


def initial_scratch(index: int) -> list[int]:
    return [(index * SCRATCH_WORDS + k + 1) * 0x9E3779B97F4A7C15 & MASK for k in range(SCRATCH_WORDS)]


def hash_state(state: State, scratch: list[int]) -> int:
    """FNV-1a over 64-bit words, as the runner computes it."""
    value = 0xCBF29CE484222325
    for item in (*state.words(), *scratch):
        value = (value ^ item) * 0x100000001B3 & MASK
    return value
