"""Random programs of functions: calls of every kind, recursion, nested loops, switches, traps, code over several pages.

Built on the straight-line items of tests/system/random_programs.py. Everything is laid out at a virtual ``base``;
where the pages lie physically is the caller's choice. Seen from ``base``: the pages of code, the trap handler's page,
and then data: two scratch pages, the page of tables and save area, the call stack.

Beside the registers that the items keep, x1 and x7 are links (x7: of leaf functions), x3 points to the tables, x4 says
how deep to recurse, x9 is the call stack. A trap is noted in the save area (a hash of cause, tval, epc and instret),
and its instruction skipped; a fetch fault returns to x1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mpemu.addresses import CLINT, CLINT_SIZE, PLIC, PLIC_SIZE, SSWI, SSWI_SIZE, UART, UART_SIZE, VIRTIO
from mpemu.isa.registry import COMPRESSED, INSNS
from tests.codegen.code_image import CodeImage
from tests.system.random_programs import (
    ADDRESS,
    BASE,
    BRANCHES,
    COUNTER,
    KEPT,
    LOADS,
    MASK,
    STORES,
    Generator,
    assemble,
    word,
)

PAGE = 4096
RA, TABLES, DEPTH, LEAF_LINK, CALLS = 1, 3, 4, 7, 9
CODE_PAGES = 5
HANDLER, SCRATCH, TABLE, STACK_PAGE = (CODE_PAGES + n for n in (0, 1, 3, 4))
"""Pages by number from the base; scratch has two."""
PAGES = STACK_PAGE + 1
SAVE, HASH, FACTOR, TRAPS, LANDING, RESULTS = 1024, 1040, 1048, 1056, 1064, 1088
"""Offsets in the page of tables (those below SAVE are entries)."""
LIMIT = 800
"""Instructions that a program is meant to take, more or less."""
DEVICE = 0x4000_0000
DEVICES = ((CLINT, CLINT + CLINT_SIZE), (SSWI, SSWI + SSWI_SIZE), (PLIC, PLIC + PLIC_SIZE), (UART, UART + UART_SIZE),
           (VIRTIO, VIRTIO + 0x8000), (DEVICE, DEVICE + PAGE))  # fmt: skip
"""What native code knows of, and the tests' own device: no wild access goes there."""
MORE_EXTENSIONS = ("Zicond", "Zfh", "Zfhmin", "Zcb")
ILLEGAL = (0xFFFF_FFFF, 0x0000_007F, 0x0000_702F)
TRAP_HASH_FACTOR = 0x9E37_79B9_7F4A_7C15


def insn(name: str, **operands: int) -> bytes:
    return word(INSNS[name].pattern.encode(**operands))


def short(name: str, **operands: int) -> bytes:
    form = next(c for c in COMPRESSED if c.name == name)
    return form.pattern.encode(**operands).to_bytes(2, "little")


@dataclass(frozen=True)
class Layout:
    """A finished program: ``image`` from the base on (PAGES pages), offsets of entry and end (a jump to itself),
    and of all places that something jumps to: ``heads``."""

    image: bytes
    entry: int
    end: int
    heads: tuple[int, ...]


def _far(first: int, rd: int, name: str = "jalr") -> Callable[[int], int]:
    """auipc ``first`` and jalr (or addi) through it, as one word of 8 bytes."""

    def encode(offset: int) -> int:
        upper = (offset + 0x800) >> 12 << 12
        second = INSNS[name].pattern.encode(rd=rd, rs1=first, imm=offset - upper)
        return INSNS["auipc"].pattern.encode(rd=first, imm=upper) | second << 32

    return encode


class FunctionGenerator(Generator):
    """``layout()`` makes the program of the seed. ``supervisor``: its handler uses the CSRs of S-mode."""

    def __init__(self, seed: int, base: int, supervisor: bool = False) -> None:
        super().__init__(seed, MORE_EXTENSIONS, KEPT | {RA, TABLES, DEPTH, LEAF_LINK, CALLS})
        self.base, self.supervisor = base, supervisor
        self._labels = 0
        self._cost: dict[str, int] = {}
        self._leaves: list[str] = []
        self._functions: list[str] = []
        self._table: list[str] = []

    # -- the whole
    def layout(self) -> Layout:
        rng = self.rng
        pages = rng.randrange(1, CODE_PAGES)
        self.asm = CodeImage(rng.choice((b"\0", rng.randbytes(1))) * (PAGES * PAGE))
        for n in range(rng.randrange(2, 4)):
            self._place(pages)
            self._leaf(f"leaf{n}")
        for n in range(rng.randrange(2, 5)):
            self._place(pages)
            self._function(f"f{n}")
        self._place(pages)
        self._main()
        assert self.asm.position <= CODE_PAGES * PAGE
        self._handler()
        self._data()
        self.asm.resolve()
        entry, end = self.asm.labels["main"], self.asm.labels["end"]
        heads = sorted(set(self.asm.labels.values()))
        return Layout(bytes(self.asm.image), entry, end, tuple(heads))

    def _place(self, pages: int) -> None:
        """Where the next function goes: right here, or farther on, often across the end of a page."""
        asm, rng = self.asm, self.rng
        page = asm.position // PAGE + 1
        if page < pages and rng.random() < 0.6:
            before = rng.choice((2, 4, 6, 10, 20, 60, 150, 0, PAGE - 2 * rng.randrange(1, 1000)))
            if page * PAGE - before >= asm.position:
                asm.position = page * PAGE - before

    def _new(self, kind: str) -> str:
        self._labels += 1
        return f"{kind}{self._labels}"

    # -- functions
    def _leaf(self, name: str) -> None:
        """No calls out of it; its link is x7."""
        self.asm.label(name)
        self._cost[name] = self._body(2, 1, calls=False)
        self.asm.emit(insn("jalr", rd=0, rs1=LEAF_LINK, imm=0))
        self._leaves.append(name)

    def _function(self, name: str) -> None:
        asm, rng = self.asm, self.rng
        asm.label(name)
        framed = rng.random() < 0.8
        if framed:
            asm.emit(insn("addi", rd=CALLS, rs1=CALLS, imm=-24) + insn("sd", rs1=CALLS, rs2=RA, imm=8))
            asm.emit(insn("sd", rs1=CALLS, rs2=DEPTH, imm=16))
        cost = self._body(1, 1, calls=framed)
        if framed and rng.random() < 0.5:
            cost = self._recurse(name, cost)
        self._epilogue(framed)
        self._cost[name] = cost + 4
        self._functions.append(name)
        self._table.append(name)

    def _recurse(self, name: str, cost: int) -> int:
        """x4 times deeper; sometimes twice from each level. Bounded by the caller's x4."""
        asm, done = self.asm, self._new("r")
        asm.emit(insn("ld", rd=DEPTH, rs1=CALLS, imm=16))
        asm.refer(done, 4, lambda o: INSNS["beq"].pattern.encode(rs1=DEPTH, rs2=0, imm=o))
        twice = self.rng.random() < 0.3
        for _ in range(2 if twice else 1):
            asm.emit(insn("sd", rs1=CALLS, rs2=DEPTH, imm=0) + insn("addi", rd=DEPTH, rs1=DEPTH, imm=-1))
            self._call_by(name, RA)
            asm.emit(insn("ld", rd=DEPTH, rs1=CALLS, imm=0))
        asm.label(done)
        return cost * (12 if twice else 5) + 20

    def _epilogue(self, framed: bool) -> None:
        asm, rng = self.asm, self.rng
        if framed:
            asm.emit(insn("ld", rd=RA, rs1=CALLS, imm=8) + insn("addi", rd=CALLS, rs1=CALLS, imm=24))
        way = rng.randrange(6)
        if way == 0 and self._functions:  # a tail call
            target = rng.choice(self._functions)
            asm.emit(insn("addi", rd=DEPTH, rs1=0, imm=0))
            if rng.random() < 0.5:
                asm.refer(target, 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))
            else:
                asm.refer(target, 8, _far(ADDRESS, 0))
        elif way == 1:  # a return that no return stack expects
            asm.emit(insn("addi", rd=ADDRESS, rs1=RA, imm=0) + insn("jalr", rd=0, rs1=ADDRESS, imm=0))
        elif way == 2:
            asm.emit(insn("jalr", rd=0, rs1=RA, imm=0))
        else:
            asm.emit(short("c.jr", rs1=RA))

    def _main(self) -> None:
        asm, rng = self.asm, self.rng
        asm.label("main")
        for _ in range(rng.randrange(2, 4)):
            landing = self._new("landing")
            asm.refer(landing, 8, _far(ADDRESS, ADDRESS, "addi"))
            asm.emit(insn("sd", rs1=TABLES, rs2=ADDRESS, imm=LANDING))
            asm.emit(insn("sd", rs1=TABLES, rs2=CALLS, imm=LANDING + 8))
            asm.emit(insn("addi", rd=COUNTER, rs1=0, imm=rng.randrange(1, 5)))
            self._loop_of(lambda: self._body(1, 4, calls=True))
            asm.label(landing)
        status = 0x100 if self.supervisor else 0x300
        asm.emit(insn("csrrs", rd=10, csr=status, rs1=0) + insn("sd", rs1=TABLES, rs2=10, imm=RESULTS))
        asm.emit(insn("lui", rd=10, imm=6 << 12) + insn("csrrs", rd=0, csr=status, rs1=10))
        for n, csr in enumerate((3, 0xC02, 0xC00)):  # fcsr, instret, cycle
            asm.emit(insn("csrrs", rd=10, csr=csr, rs1=0) + insn("sd", rs1=TABLES, rs2=10, imm=RESULTS + 8 + 8 * n))
        asm.label("end")
        asm.emit(insn("jal", rd=0, imm=0))

    # -- what bodies consist of
    def _loop_of(self, body: Callable[[], int]) -> int:
        """A loop that counts x31 down to 0."""
        asm, top = self.asm, self._new("loop")
        asm.label(top)
        cost = body()
        asm.emit(insn("addi", rd=COUNTER, rs1=COUNTER, imm=-1))
        distance = asm.labels[top] - asm.position
        if distance >= -4096 and self.rng.random() < 0.7:
            asm.emit(insn("bne", rs1=COUNTER, rs2=0, imm=distance))
        else:
            asm.emit(insn("beq", rs1=COUNTER, rs2=0, imm=8) + insn("jal", rd=0, imm=distance - 4))
        return cost + 3

    def _body(self, depth: int, times: int, calls: bool) -> int:
        """Random pieces; ``times`` they run per call. Instructions that they take, about."""
        cost, rng = 0, self.rng
        pieces = ("straight", "straight", "straight", "loop", "if", "switch", "odd", "memory", "call", "call", "throw")
        for _ in range(rng.randrange(2, 6)):
            piece = rng.choice(pieces)
            if piece == "loop" and depth < 3 and cost * times < LIMIT // 8:
                cost += self._loop(depth, times, calls)
            elif piece == "if" and depth < 4:
                cost += self._if(depth, times, calls)
            elif piece == "switch":
                cost += self._switch()
            elif piece == "odd":
                cost += self._odd()
            elif piece == "memory":
                cost += self._odd_memory()
            elif piece == "call" and calls:
                cost += self._call(times, cost)
            elif piece == "throw" and calls and rng.random() < 0.3:
                cost += self._throw()
            else:
                cost += self._straight()
        return cost

    def _straight(self) -> int:
        makers, weights = zip(*self.kinds, strict=True)
        items = [item for _ in range(self.rng.randrange(1, 7)) for item in self.rng.choices(makers, weights)[0]()]
        self.asm.emit(assemble(items))
        return len(items)

    def _loop(self, depth: int, times: int, calls: bool) -> int:
        asm, count = self.asm, self.rng.randrange(1, 9)
        asm.emit(insn("addi", rd=CALLS, rs1=CALLS, imm=-8) + insn("sd", rs1=CALLS, rs2=COUNTER, imm=0))
        asm.emit(insn("addi", rd=COUNTER, rs1=0, imm=count))
        cost = count * self._loop_of(lambda: self._body(depth + 1, times * count, calls))
        asm.emit(insn("ld", rd=COUNTER, rs1=CALLS, imm=0) + insn("addi", rd=CALLS, rs1=CALLS, imm=8))
        return cost

    def _if(self, depth: int, times: int, calls: bool) -> int:
        asm, rng = self.asm, self.rng
        otherwise, end = self._new("else"), self._new("end")
        name, rs1, rs2 = rng.choice(BRANCHES), rng.randrange(32), rng.choice((0, rng.randrange(32)))
        opposite = {"beq": "bne", "bne": "beq", "blt": "bge", "bge": "blt", "bltu": "bgeu", "bgeu": "bltu"}[name]
        asm.emit(insn(opposite, rs1=rs1, rs2=rs2, imm=8))  # the body may be longer than a branch reaches
        asm.refer(otherwise, 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))
        cost = self._body(depth + 1, times, calls)
        asm.refer(end, 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))
        asm.label(otherwise)
        cost = max(cost, self._straight())
        asm.label(end)
        return cost + 2

    def _switch(self) -> int:
        """A computed jump to one of four cases: by a table of addresses, or into a row of jumps."""
        asm, rng = self.asm, self.rng
        cases, end = [self._new("case") for _ in range(4)], self._new("end")
        asm.emit(
            insn("andi", rd=ADDRESS, rs1=rng.randrange(32), imm=3) + insn("slli", rd=ADDRESS, rs1=ADDRESS, shamt=3)
        )
        if rng.random() < 0.6 and len(self._table) < 110:
            first = 8 * len(self._table)
            self._table += cases
            asm.emit(insn("add", rd=ADDRESS, rs1=ADDRESS, rs2=TABLES) + insn("ld", rd=ADDRESS, rs1=ADDRESS, imm=first))
            asm.emit(insn("jalr", rd=0, rs1=ADDRESS, imm=0))
        else:
            asm.emit(insn("auipc", rd=10, imm=0) + insn("add", rd=ADDRESS, rs1=ADDRESS, rs2=10))
            asm.emit(insn("jalr", rd=0, rs1=ADDRESS, imm=12))
            for case in cases:
                asm.refer(case, 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))
                asm.emit(insn("addi", rd=10, rs1=10, imm=1))
        for case in cases:
            asm.label(case)
            self._straight()
            asm.refer(end, 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))
        asm.label(end)
        return 12

    def _call(self, times: int, cost: int) -> int:
        """A leaf through x7, or a function through x1, by one of the ways that there are; some with recursion."""
        rng = self.rng
        names = [n for n in self._leaves + self._functions if (cost + self._cost[n]) * times < LIMIT // 3]
        if not names:
            return self._straight()
        name = rng.choice(names)
        if name in self._leaves:
            self._call_by(name, LEAF_LINK)
        else:
            self.asm.emit(insn("addi", rd=DEPTH, rs1=0, imm=rng.choice((0, 0, 1, 2, 3))))
            self._call_by(name, RA)
        return self._cost[name] + 3

    def _call_by(self, name: str, link: int) -> None:
        asm, way = self.asm, self.rng.randrange(4)
        if way == 0:
            asm.refer(name, 8, _far(link, link))
        elif way == 1:
            asm.refer(name, 8, _far(ADDRESS, link))
        elif way == 2 and name in self._table:
            asm.emit(insn("ld", rd=ADDRESS, rs1=TABLES, imm=8 * self._table.index(name)))
            asm.emit(short("c.jalr", rs1=ADDRESS) if link == RA else insn("jalr", rd=link, rs1=ADDRESS, imm=0))
        else:
            asm.refer(name, 4, lambda o: INSNS["jal"].pattern.encode(rd=link, imm=o))
        asm.label(self._new("back"))

    def _throw(self) -> int:
        """Sometimes: straight back to main, whatever calls are open."""
        asm = self.asm
        asm.emit(insn("andi", rd=ADDRESS, rs1=self.rng.randrange(10, 18), imm=7))
        asm.emit(insn("bne", rs1=ADDRESS, rs2=0, imm=16))
        asm.emit(insn("ld", rd=CALLS, rs1=TABLES, imm=LANDING + 8) + insn("ld", rd=ADDRESS, rs1=TABLES, imm=LANDING))
        asm.emit(insn("jalr", rd=0, rs1=ADDRESS, imm=0))
        return 3

    def _odd(self) -> int:
        """What regions leave to the interpreter, or what makes a trap."""
        rng = self.rng
        status = 0x100 if self.supervisor else 0x300
        fs = insn("lui", rd=ADDRESS, imm=rng.choice((2, 4, 6)) << 12)
        device = insn("lui", rd=ADDRESS, imm=DEVICE)
        read = insn(
            "csrrs", rd=rng.randrange(10, 31), csr=rng.choice((0xC00, 0xC00, 0xC02, 0xC02, 0xC01, status)), rs1=0
        )
        self.asm.emit(rng.choice((
            insn("ecall"), insn("ebreak"), short("c.ebreak"), word(rng.choice(ILLEGAL)), b"\0\0",
            read, read, read, insn("csrrs", rd=10, csr=3, rs1=0), insn("csrrwi", rd=0, csr=2, uimm=rng.randrange(8)),
            fs + insn("csrrc", rd=0, csr=status, rs1=ADDRESS), fs + insn("csrrs", rd=0, csr=status, rs1=ADDRESS),
            fs + insn("csrrs", rd=0, csr=status, rs1=ADDRESS), fs + insn("csrrs", rd=0, csr=status, rs1=ADDRESS),
            insn("fence"), insn("fence.tso"), insn("fence.i"), insn("sfence.vma"), insn("pause"),
            device + insn("lw", rd=10, rs1=ADDRESS, imm=8 * rng.randrange(8)),
            device + insn("sd", rs1=ADDRESS, rs2=10, imm=8 * rng.randrange(8)),
            device + insn("ld", rd=10, rs1=ADDRESS, imm=4),
            device + insn("lhu", rd=10, rs1=ADDRESS, imm=-16),
        )))  # fmt: skip
        return 20

    def _odd_memory(self) -> int:
        """Across the pages' ends, misaligned, atomics of every size, and where nothing is."""
        rng = self.rng
        way = rng.randrange(4)
        if way < 2:  # the second scratch page is two pages below the tables
            code = insn("lui", rd=ADDRESS, imm=-PAGE) + insn("add", rd=ADDRESS, rs1=ADDRESS, rs2=TABLES)
            for _ in range(rng.randrange(1, 5)):
                code += self._access(rng.randrange(-12, 12))
        elif way == 2:
            atomics = [i for i in INSNS.values() if i.ext in ("Zabha", "Zaamo", "Zacas") and i.name != "amocas.q"]
            offset = rng.choice((8, 8, 1, 2, 4)) * rng.randrange(-200, 200)
            code = insn("addi", rd=ADDRESS, rs1=BASE, imm=offset) + self.plain_code(rng.choice(atomics), rs1=ADDRESS)
        else:
            while True:
                factor, shift = rng.randrange(-2048, 2048), rng.randrange(64)
                if not any(first - 16 <= (factor << shift) & MASK < end + 16 for first, end in DEVICES):
                    break
            code = insn("addi", rd=ADDRESS, rs1=0, imm=factor) + insn("slli", rd=ADDRESS, rs1=ADDRESS, shamt=shift)
            code += self._access(rng.randrange(-12, 12))
        self.asm.emit(code)
        return 8

    def _access(self, offset: int) -> bytes:
        return self.plain_code(INSNS[self.rng.choice(sorted(LOADS | STORES))], rs1=ADDRESS, imm=offset)

    # -- the rest
    def _handler(self) -> None:
        asm = self.asm
        scratch, epc, cause, tval = (0x140, 0x141, 0x142, 0x143) if self.supervisor else (0x340, 0x341, 0x342, 0x343)
        asm.position = HANDLER * PAGE
        asm.label("handler")

        def mix(csr: int) -> bytes:
            return (insn("csrrs", rd=10, csr=csr, rs1=0) + insn("xor", rd=11, rs1=11, rs2=10)
                    + insn("ld", rd=10, rs1=6, imm=FACTOR) + insn("mul", rd=11, rs1=11, rs2=10))  # fmt: skip

        asm.emit(insn("csrrw", rd=6, csr=scratch, rs1=6))
        asm.emit(insn("sd", rs1=6, rs2=10, imm=SAVE) + insn("sd", rs1=6, rs2=11, imm=SAVE + 8))
        asm.emit(insn("ld", rd=11, rs1=6, imm=HASH) + b"".join(map(mix, (cause, tval, epc, 0xC02))))
        asm.emit(insn("sd", rs1=6, rs2=11, imm=HASH) + insn("ld", rd=10, rs1=6, imm=TRAPS))
        asm.emit(insn("addi", rd=10, rs1=10, imm=1) + insn("sd", rs1=6, rs2=10, imm=TRAPS))
        asm.emit(insn("csrrs", rd=10, csr=cause, rs1=0))
        for fetch_fault in (0, 1, 12):
            asm.emit(insn("addi", rd=11, rs1=0, imm=fetch_fault))
            asm.refer("unfetched", 4, lambda o: INSNS["beq"].pattern.encode(rs1=10, rs2=11, imm=o))
        asm.emit(insn("csrrs", rd=10, csr=epc, rs1=0) + insn("lhu", rd=11, rs1=10, imm=0))
        asm.emit(insn("andi", rd=11, rs1=11, imm=3) + insn("addi", rd=11, rs1=11, imm=-3))
        asm.emit(insn("addi", rd=10, rs1=10, imm=2) + insn("bne", rs1=11, rs2=0, imm=8))
        asm.emit(insn("addi", rd=10, rs1=10, imm=2))
        asm.label("resume")
        asm.emit(insn("csrrw", rd=0, csr=epc, rs1=10))
        asm.emit(insn("ld", rd=10, rs1=6, imm=SAVE) + insn("ld", rd=11, rs1=6, imm=SAVE + 8))
        asm.emit(insn("csrrw", rd=6, csr=scratch, rs1=6) + insn("sret" if self.supervisor else "mret"))
        asm.label("unfetched")
        asm.emit(insn("addi", rd=10, rs1=1, imm=0))
        asm.refer("resume", 4, lambda o: INSNS["jal"].pattern.encode(rd=0, imm=o))

    def _data(self) -> None:
        asm = self.asm
        scratch = self.rng.randbytes(2 * PAGE)
        asm.image[SCRATCH * PAGE : TABLE * PAGE] = scratch
        asm.image[TABLE * PAGE :] = bytes(2 * PAGE)
        entries = [self.base + asm.labels[name] for name in self._table]
        assert 8 * len(entries) <= SAVE
        struct.pack_into(f"<{len(entries)}Q", asm.image, TABLE * PAGE, *entries)
        struct.pack_into("<Q", asm.image, TABLE * PAGE + FACTOR, TRAP_HASH_FACTOR)

    def registers(self) -> list[int]:
        """x0..x31 to start with."""
        x = [0, *(self.value() for _ in range(31))]
        x[5] = x[8] = self.base + SCRATCH * PAGE + 2048
        x[2] = self.base + SCRATCH * PAGE + 1024
        x[TABLES] = self.base + TABLE * PAGE
        x[DEPTH] = x[RA] = x[LEAF_LINK] = 0
        x[CALLS] = self.base + STACK_PAGE * PAGE + 4000
        return x
