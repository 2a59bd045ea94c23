"""Random programs end in the same state on the reference model, interpreted and translated: registers, CSRs, memory,
traps, device accesses, in M-mode and in S-mode under Sv39. Interpreted and translated, they also stop at the same
places, at the same instruction counts, however short the slices are."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mpemu.isa.privileged import Mode
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import MmioRange, PhysicalBus, ReferenceHart
from mpemu.isa.state import STATE
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import RWX, SV39, pte
from tests.codegen.lab import V as PTE_V
from tests.codegen.native_hart import RAM
from tests.codegen.random_functions import DEVICE, HANDLER, PAGE, PAGES, TABLE, FunctionGenerator, Layout
from tests.codegen.translated import TranslatedLab, lab_fixture

SIZE = 1 << 18
PHYSICAL = RAM + 0x1_0000
VIRTUAL = 0x12_3456_7000
"""Where programs lie without and with paging: not at the edge of any table."""
TABLES = RAM + 0x2_0000
MAX_STEPS = 100_000
NOT_COMPARED = {"exc_cause", "exc_tval", "walk_fault", "walk_shift"}
FS_INITIAL = 1 << 13


@dataclass(frozen=True)
class Case:
    """A program, where its pages are, and the state to start with."""

    layout: Layout
    base: int
    pages: tuple[int, ...]
    """Physical address by page of the image."""
    state: dict[str, int]
    x: tuple[int, ...]
    f: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.base + self.layout.end

    def physical(self, va: int) -> int | None:
        """Where ``va`` lies, if it is one of the program's."""
        page, offset = divmod(va - self.base, PAGE)
        return self.pages[page] + offset if 0 <= page < len(self.pages) else None

    def ram(self) -> bytearray:
        """The whole RAM as it is at the start, page tables included."""
        ram = bytearray(SIZE)
        for page, pa in enumerate(self.pages):
            ram[pa - RAM : pa - RAM + PAGE] = self.layout.image[page * PAGE : (page + 1) * PAGE]
        if self.base == VIRTUAL:
            _map(ram, {self.base + n * PAGE: pa for n, pa in enumerate(self.pages)} | {DEVICE: DEVICE})
        return ram


def _map(ram: bytearray, pages: dict[int, int]) -> None:
    """Sv39 tables from TABLES on."""
    tables = {(): TABLES}

    def put(table: int, index: int, entry: int) -> None:
        struct.pack_into("<Q", ram, table - RAM + 8 * index, entry)

    for va, pa in pages.items():
        path = (va >> 30 & 511, va >> 21 & 511)
        for depth in (1, 2):
            if path[:depth] not in tables:
                tables[path[:depth]] = TABLES + PAGE * len(tables)
                put(tables[path[: depth - 1]], path[depth - 1], pte(tables[path[:depth]], PTE_V))
        put(tables[path], va >> 12 & 511, pte(pa, RWX))


def make_case(seed: int, paged: bool) -> Case:
    base = VIRTUAL if paged else PHYSICAL
    generator = FunctionGenerator(seed, base, supervisor=paged)
    layout = generator.layout()
    numbers = list(range(PAGES))
    if paged:
        generator.rng.shuffle(numbers)
    save, handler = base + TABLE * PAGE, base + HANDLER * PAGE
    state = {"pc": base + layout.entry, "mstatus": FS_INITIAL * generator.rng.randrange(4), "priv": Mode.M}
    if paged:
        state |= {"priv": Mode.S, "satp": SV39 | TABLES >> 12, "medeleg": (1 << 16) - 1, "mcounteren": 7}
        state |= {"stvec": handler, "sscratch": save}
    else:
        state |= {"mtvec": handler, "mscratch": save}
    state |= {"pmp_count": 1, "pmpcfg_0": 0x1F, "pmp_first_0": 0, "pmp_end_0": 1 << 44}
    x, f = tuple(generator.registers()), tuple(generator.fp_value() for _ in range(32))
    return Case(layout, base, tuple(PHYSICAL + n * PAGE for n in numbers), state, x, f)


@dataclass
class Outcome:
    """Where a run ended. ``places``: (why, pc, instret) whenever the hart stopped."""

    state: dict[str, int]
    x: list[int]
    f: list[int]
    ram: bytes
    device: list[tuple[int, int, int]]
    places: list[tuple[str, int, int]]

    def compare(self, other: Outcome, name: str) -> None:
        """Assert that both are the same."""
        assert self.places == other.places or not other.places, f"{name}: {_difference(self.places, other.places)}"
        assert self.device == other.device, name
        different = {n: (hex(v), hex(other.state[n])) for n, v in self.state.items() if v != other.state[n]}
        different |= {f"x{i}": (hex(a), hex(b)) for i, (a, b) in enumerate(zip(self.x, other.x, strict=True)) if a != b}
        different |= {f"f{i}": (hex(a), hex(b)) for i, (a, b) in enumerate(zip(self.f, other.f, strict=True)) if a != b}
        assert not different, f"{name}: {different}"
        where = [hex(RAM + i) for i in range(0, SIZE, 8) if self.ram[i : i + 8] != other.ram[i : i + 8]]
        assert not where, f"{name}: memory at {where[:8]}"


def _difference(a: list[tuple[str, int, int]], b: list[tuple[str, int, int]]) -> str:
    for n, (one, two) in enumerate(zip(a, b, strict=False)):
        if one != two:
            return f"stop {n}: {[hex(v) if isinstance(v, int) else v for v in (*one, *two)]}"
    return f"{len(a)} stops, {len(b)} stops"


def device_value(offset: int, size: int) -> int:
    return ((offset + 1) * 0x0123_4567_89AB_CDEF) & (1 << 8 * size) - 1


def run_reference(case: Case) -> Outcome:
    """Up to the end of the program."""
    device: list[tuple[int, int, int]] = []
    bus = PhysicalBus(case.ram(), RAM)
    bus.devices.append(MmioRange(DEVICE, PAGE, device_value, lambda o, n, v: device.append((o, n, v))))
    hart = ReferenceHart(IsaSpec.parse("max"), bus, clock=lambda: 0)
    hart.reset(0)
    hart.s.values.update(case.state)
    hart.x.values[:] = case.x
    hart.f.values[:] = case.f
    values = hart.s.values
    for _ in range(MAX_STEPS):
        if values["pc"] == case.end:
            break
        hart.step()
    assert values["pc"] == case.end, f"too long: at {values['pc'] - case.base:#x} after {hart.retired} instructions"
    state = {f.name: values[f.name] for f in STATE if f.name not in NOT_COMPARED}
    return Outcome(state, hart.x.values[:32], hart.f.values[:], bytes(bus.ram), device, [])


Observer = Callable[[int], None]
"""Called with the pc at every stop."""


def run_native(
    lab: TranslatedLab, case: Case, quanta: Iterator[int], observe: Observer = lambda pc: None, warm: bool = False
) -> Outcome:
    """``warm``: the decode cache is as the run before has left it."""
    hart = lab.hart()
    lab.memory.ram[:] = case.ram()
    lab.restart(keep_records=warm)
    for name, value in case.state.items():
        setattr(hart, name, value)
    for i in range(32):
        hart.x[i], hart.f[i] = case.x[i], case.f[i]
    device: list[tuple[int, int, int]] = []
    places: list[tuple[str, int, int]] = []
    observe(hart.pc)
    hart.quantum_end = hart.slice_end = next(quanta)
    while hart.instret < MAX_STEPS:
        reason = lab.engines[0].run()
        places.append((reason.name, hart.pc, hart.instret))
        if reason is ExitReason.MMIO:
            _serve(hart, device)
            continue
        assert reason is ExitReason.QUANTUM, reason
        if hart.pc == case.end:
            break
        observe(hart.pc)
        hart.quantum_end = hart.slice_end = hart.instret + next(quanta)
    assert hart.pc == case.end, f"at {hart.pc - case.base:#x} after {hart.instret} instructions"
    state = {f.name: getattr(hart, f.name) for f in STATE if f.name not in NOT_COMPARED}
    return Outcome(state, list(hart.x)[:32], list(hart.f), bytes(lab.memory.ram), device, places)


def _serve(h: Any, device: list[tuple[int, int, int]]) -> None:
    """Answer a far access."""
    offset, size = h.mmio_address - DEVICE, h.mmio_size
    if not 0 <= offset <= PAGE - size:
        h.mmio_latch = 2
        return
    if h.mmio_write:
        device.append((offset, size, h.mmio_value & (1 << 8 * size) - 1))
    else:
        h.mmio_value = device_value(offset, size)
    h.mmio_latch = 1


def quanta(seed: int) -> Iterator[int]:
    rng = random.Random(seed)
    scale = rng.choice((3, 30, 300))
    while True:
        yield rng.randrange(1, scale)


def guessing() -> TranslatedLab:
    made = TranslatedLab(size=SIZE)
    made.guess_from(1)
    return made


lab = lab_fixture(guessing, scope="module", by_tier=True)


def check(lab: TranslatedLab, seed: int, paged: bool, regions: int) -> int:
    """Compare the three; translated both when all has run once, at some of the places that are jumped to, and during
    the first run, where the hart happens to be. How many regions there were."""
    case = make_case(seed, paged)
    reference = run_reference(case)
    interpreted = run_native(lab, case, quanta(seed))
    interpreted.compare(reference, f"seed {seed}: interpreter and reference model")
    rng = random.Random(seed)
    heads = rng.sample(case.layout.heads, min(regions, len(case.layout.heads)))
    made = 0

    def beforehand(pc: int) -> None:
        nonlocal made
        while heads:
            pa = case.physical(case.base + heads.pop())
            assert pa is not None
            made += lab.translate(pa)

    translated = run_native(lab, case, quanta(seed), beforehand, warm=True)
    translated.compare(interpreted, f"seed {seed}: translated, interpreted")
    budget = made + regions

    def meanwhile(pc: int) -> None:
        nonlocal made
        pa = case.physical(pc)
        if pa is not None and made < budget and rng.random() < 0.3:
            made += lab.translate(pa)

    run_native(lab, case, quanta(seed), meanwhile).compare(interpreted, f"seed {seed}: translated later, interpreted")
    return made


@pytest.mark.parametrize("seed", range(20))
def test_without_paging(lab: TranslatedLab, seed: int) -> None:
    check(lab, seed, paged=False, regions=5)


@pytest.mark.parametrize("seed", range(6))
def test_with_paging(lab: TranslatedLab, seed: int) -> None:
    """Pages of code and data are somewhere else, and in another order, than they seem."""
    check(lab, seed, paged=True, regions=5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1000, 2000, 50))
def test_for_long(lab: TranslatedLab, seed: int) -> None:
    for one in range(seed, seed + 50):
        check(lab, one, paged=one % 2 == 0, regions=10)
