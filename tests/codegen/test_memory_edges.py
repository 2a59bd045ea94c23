"""Loads, stores and atomics where it is narrow: misaligned, across pages, on marked pages, at the ends of RAM and of
the address space. Nothing outside the guest's memory may be touched, and every fault says where it was."""

from __future__ import annotations

import ctypes
import itertools

import pytest

from mpemu.codegen.marks import RESERVED
from mpemu.isa.privileged import Cause, Mode
from mpemu.isa.registry import INSNS
from mpemu.layout import PAGE
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import A0, A1, A2, RWX, STOP, SV39, Lab, asm, pte
from tests.codegen.lab import V as PTE_V
from tests.codegen.native_hart import RAM

CODE = RAM + 0x1000
ROOT, TABLES = RAM + 0x2_0000, RAM + 0x2_1000
DATA = RAM + 0x4_0000
UART = 0x1000_0000
MASK = (1 << 64) - 1
LOADS = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8}
STORES = {"sb": 1, "sh": 2, "sw": 4, "sd": 8}
AMOS = {n: {"b": 1, "h": 2, "w": 4, "d": 8, "q": 16}[n[-1]] for n in INSNS if n.startswith("amo")}
PATTERN = bytes((7 * i + 129) & 0xFF for i in range(64))
VALUE = 0xF1E2_D3C4_B5A6_9788


def place_of(name: str) -> int:
    return CODE + 16 * [*LOADS, *STORES, *AMOS, "lr.w", "lr.d", "sc.w", "sc.d", "cbo.zero"].index(name)


class Edges(Lab):
    """Every access as a snippet: the address in a1, store data in a2, the result in a0."""

    def __init__(self, size: int = 1 << 20) -> None:
        super().__init__(size=size)
        for name in LOADS:
            self.place(place_of(name), asm(name, rd=A0, rs1=A1, imm=0))
        for name in STORES:
            self.place(place_of(name), asm(name, rs2=A2, rs1=A1, imm=0))
        for name in (*AMOS, "sc.w", "sc.d"):
            self.place(place_of(name), asm(name, rd=A0, rs2=A2, rs1=A1, aq=0, rl=0))
        for name in ("lr.w", "lr.d"):
            self.place(place_of(name), asm(name, rd=A0, rs1=A1, aq=0, rl=0))
        self.place(place_of("cbo.zero"), asm("cbo.zero", rs1=A1))

    def do(self, name: str, address: int, value: int = VALUE, *, priv: int = Mode.M) -> int:
        result: int = self.done(place_of(name), priv=priv, x11=address, x12=value, x13=0).x[A0]
        return result

    def fault(self, name: str, address: int, cause: int, tval: int | None = None, *, priv: int = Mode.M) -> None:
        hart = self.done(place_of(name), priv=priv, x11=address, x12=VALUE, x13=0, cause=cause)
        assert hart.mtval == (address if tval is None else tval), f"{name}: {hart.mtval:#x}"

    def mark(self, address: int) -> None:
        """An LR: the page's stores go by version words from now on."""
        self.do("lr.d", address & -8)
        page = (address - RAM) // PAGE
        assert ctypes.c_uint32.from_address(self.memory.machine.page_marks + 4 * page).value == RESERVED


@pytest.fixture(scope="module")
def edges() -> Edges:
    return Edges()


def loaded(name: str, data: bytes) -> int:
    return int.from_bytes(data, "little", signed=not name.endswith("u") and name != "ld") & MASK


WHERE = {"within a page": DATA + 0x100, "across two": DATA + PAGE - 8, "across granules": DATA + 0x7B8}


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "marked"])
@pytest.mark.parametrize("start", WHERE.values(), ids=WHERE)
def test_misaligned_loads_and_stores(start: int, marked: bool) -> None:
    edges = Edges()
    if marked:
        edges.mark(start)  # only the first page, if there are two
    for offset, repeat in itertools.product(range(16), range(2)):
        for name, size in LOADS.items():
            edges.memory.write(start, PATTERN[:32])
            assert edges.do(name, start + offset) == loaded(name, PATTERN[offset : offset + size]), (name, repeat)
        for name, size in STORES.items():
            edges.memory.write(start, PATTERN[:32])
            edges.do(name, start + offset)
            expected = bytearray(PATTERN[:32])
            expected[offset : offset + size] = VALUE.to_bytes(8, "little")[:size]
            assert edges.memory.read(start, 32) == expected, (name, offset)


class Scattered(Edges):
    """Two neighbouring virtual pages on distant physical ones, and the first and the last page there are."""

    VA = 0x4000_0000
    TOP = (1 << 64) - PAGE
    LOW, HIGH = DATA + 0x8000, DATA + 0x3000

    def __init__(self, second: int = RWX) -> None:
        super().__init__()
        table = itertools.count(TABLES, PAGE)
        middle, leaf = next(table), next(table)
        self.store(ROOT + 8 * 2, pte(RAM, RWX))
        self.store(ROOT + 8, pte(middle, PTE_V))
        self.store(middle, pte(leaf, PTE_V))
        self.store(leaf, pte(self.LOW, RWX))
        self.store(leaf + 8, pte(self.HIGH, second))
        for root_index, index, pa in ((0, 0, RAM), (511, 511, self.LOW)):
            middle, leaf = next(table), next(table)
            self.store(ROOT + 8 * root_index, pte(middle, PTE_V))
            self.store(middle + 8 * index, pte(leaf, PTE_V))
            self.store(leaf + 8 * index, pte(pa, RWX))
        self.hart().satp = SV39 | ROOT >> 12


@pytest.mark.parametrize("offset", range(1, 8))
def test_across_two_pages_that_lie_apart(offset: int) -> None:
    edges = Scattered()
    va = edges.VA + PAGE - offset
    edges.do("sd", va, priv=Mode.S)
    data = VALUE.to_bytes(8, "little")
    assert edges.memory.read(edges.LOW + PAGE - offset, offset) == data[:offset]
    assert edges.memory.read(edges.HIGH, 8 - offset) == data[offset:]
    assert edges.do("ld", va, priv=Mode.S) == VALUE


@pytest.mark.parametrize("offset", range(1, 8))
def test_across_the_end_of_the_address_space(offset: int) -> None:
    """The last page and page 0, which is the first of RAM: what wraps must not land in front of it."""
    edges = Scattered()
    va = (1 << 64) - offset
    edges.memory.write(RAM, PATTERN[:8])
    edges.do("sd", va, priv=Mode.S)
    data = VALUE.to_bytes(8, "little")
    assert edges.memory.read(edges.LOW + PAGE - offset, offset) == data[:offset]
    assert edges.memory.read(RAM, 8) == data[offset:] + PATTERN[8 - offset : 8]
    assert edges.do("ld", va, priv=Mode.S) == VALUE


@pytest.mark.parametrize("name", ["ld", "sd", "lw", "sh"])
def test_a_fault_on_the_second_page_leaves_the_first_alone(name: str) -> None:
    edges = Scattered(second=0)
    va = edges.VA + PAGE - 1
    before = edges.memory.read(edges.LOW, PAGE)
    cause = Cause.STORE_PAGE if name in STORES else Cause.LOAD_PAGE
    edges.fault(name, va, cause, edges.VA + PAGE, priv=Mode.S)
    assert edges.memory.read(edges.LOW, PAGE) == before


def test_a_store_across_into_a_read_only_page_writes_nothing() -> None:
    edges = Scattered(second=RWX & ~4)
    edges.fault("sd", edges.VA + PAGE - 4, Cause.STORE_PAGE, edges.VA + PAGE, priv=Mode.S)
    assert edges.memory.read(edges.LOW + PAGE - 4, 4) == bytes(4)


# -- atomics
def test_misaligned_atomics(edges: Edges) -> None:
    for name, size in AMOS.items():
        for offset in range(1, size):
            edges.fault(name, DATA + offset, Cause.STORE_MISALIGNED)
    for name, size, cause in (
        ("lr.w", 4, Cause.LOAD_MISALIGNED),
        ("lr.d", 8, Cause.LOAD_MISALIGNED),
        ("sc.w", 4, Cause.STORE_MISALIGNED),
        ("sc.d", 8, Cause.STORE_MISALIGNED),
    ):
        for offset in range(1, size):
            edges.fault(name, DATA + offset, cause)


@pytest.mark.parametrize("rd", [0, 2, 30])
def test_amocas_of_pairs_at_both_ends_of_the_registers(edges: Edges, rd: int) -> None:
    code = CODE + 0x800
    edges.place(code, asm("amocas.q", rd=rd, rs2=28, rs1=A1, aq=0, rl=0))
    low, high = (0, 0) if rd == 0 else (0x1111, 0x2222)
    edges.memory.write(DATA, (low | high << 64).to_bytes(16, "little"))
    given = {} if rd == 0 else {f"x{rd}": low, f"x{rd + 1}": high}
    saved = {"x1": 0x77} if rd == 0 else {}
    hart = edges.done(code, x11=DATA, x28=5, x29=6, **given, **saved)
    assert edges.memory.read(DATA, 16) == (5 | 6 << 64).to_bytes(16, "little")
    assert (hart.x[rd], hart.x[rd + 1]) == ((0, 0x77) if rd == 0 else (low, high))


def test_cache_block_faults_report_the_address_as_it_was_given() -> None:
    edges = Scattered(second=0)
    code = CODE + 0x800
    for name in ("cbo.zero", "cbo.clean", "cbo.flush", "cbo.inval"):
        edges.place(code, asm(name, rs1=A1))
        edges.hart().menvcfg = edges.hart().senvcfg = 0xF0
        va = edges.VA + PAGE + 37
        assert edges.done(code, priv=Mode.S, x11=va, cause=Cause.STORE_PAGE).mtval == va


# -- devices
def test_misaligned_accesses_to_devices_fault(edges: Edges) -> None:
    for name, size in LOADS.items():
        for offset in range(1, size):
            edges.fault(name, UART + 0x100 + offset, Cause.LOAD_ACCESS)
    for name, size in STORES.items():
        for offset in range(1, size):
            edges.fault(name, UART + 0x100 + offset, Cause.STORE_ACCESS)


def test_atomics_on_devices_fault(edges: Edges) -> None:
    for name in (*AMOS, "sc.w", "sc.d"):
        edges.fault(name, UART, Cause.STORE_ACCESS)
    edges.fault("lr.w", UART, Cause.LOAD_ACCESS)
    edges.fault("lr.d", UART, Cause.LOAD_ACCESS)
    edges.fault("cbo.zero", UART, Cause.STORE_ACCESS)


def test_from_memory_into_a_device(edges: Edges) -> None:
    """Half an access to a device is none."""
    before = RAM - 4
    edges.fault("ld", before, Cause.LOAD_ACCESS)
    edges.fault("sd", before, Cause.STORE_ACCESS)


# -- the ends of RAM; sizes that are no power of two
@pytest.mark.parametrize("size", [1 << 20, 0x4_3000, 0x20_1000])
def test_the_last_bytes_of_ram(size: int) -> None:
    edges = Edges(size)
    end = RAM + size
    for name, width in (LOADS | STORES).items():
        cause = Cause.STORE_ACCESS if name in STORES else Cause.LOAD_ACCESS
        edges.do(name, end - width)
        for offset in range(1, width):
            edges.fault(name, end - offset, cause, end)  # where the part is that lies in nothing
            edges.fault(name, RAM - offset, cause)
        reason = edges.run(place_of(name), x11=end)
        assert reason is ExitReason.MMIO and edges.hart().mmio_address == end
    for name, width in AMOS.items():
        edges.do(name, end - width)
        edges.fault(name, end, Cause.STORE_ACCESS)
    edges.do("lr.d", end - 8)
    edges.fault("lr.d", end, Cause.LOAD_ACCESS)
    edges.fault("sc.d", end, Cause.STORE_ACCESS)


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "marked"])
def test_cbo_zero_at_the_ends_of_a_page(marked: bool) -> None:
    edges = Edges()
    end = RAM + edges.memory.ram_size
    if marked:
        edges.mark(end - PAGE)
    for block in (end - PAGE, end - 64):
        edges.memory.write(end - PAGE, b"\xff" * PAGE)
        edges.do("cbo.zero", block + 37)
        data = edges.memory.read(end - PAGE, PAGE)
        at = block - (end - PAGE)
        assert data[at : at + 64] == bytes(64) and data.count(0) == 64
    edges.fault("cbo.zero", end, Cause.STORE_ACCESS)
    edges.fault("cbo.zero", RAM - 1, Cause.STORE_ACCESS)


@pytest.mark.parametrize("address", [(1 << 64) - 1, (1 << 64) - 8, 1 << 63, 1 << 56, RAM - 1])
def test_addresses_that_wrap(edges: Edges, address: int) -> None:
    """Nothing is there; nothing may be computed from it that is."""
    for name in ("lb", "ld", "sb", "sd"):
        reason = edges.run(place_of(name), x11=address)
        if reason is ExitReason.MMIO:
            assert edges.hart().mmio_address == address
        else:
            assert edges.hart().pc == STOP and edges.hart().mcause in (Cause.LOAD_ACCESS, Cause.STORE_ACCESS)


# -- arithmetic that hosts trap on
@pytest.mark.parametrize("name", ["div", "divu", "rem", "remu", "divw", "divuw", "remw", "remuw"])
def test_divisions_that_a_host_would_trap_on(edges: Edges, name: str) -> None:
    code = CODE + 0x900
    edges.place(code, asm(name, rd=A0, rs1=A1, rs2=A2))
    word, remainder = name.endswith("w"), name.startswith("rem")
    least = -(1 << 31) if word else -(1 << 63)
    unsigned = "u" in name
    assert edges.done(code, x11=least, x12=0).x[A0] == (least & MASK if remainder else MASK)
    if not unsigned:
        assert edges.done(code, x11=least, x12=-1).x[A0] == (0 if remainder else least & MASK)
