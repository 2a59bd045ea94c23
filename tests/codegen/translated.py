"""A lab whose harts run translated code, deterministically: the translator serves in this process, when told to."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, Literal

import pytest

from mpemu.codegen.compilers import Job
from mpemu.codegen.compiling import translate
from mpemu.codegen.publication import Publication
from mpemu.codegen.stitching import Stitcher
from mpemu.codegen.surroundings import LEAST_COUNT, CodePages, Surroundings
from mpemu.codegen.translator import Translator
from mpemu.layout import (
    HART,
    HEAT,
    HEAT_ROUND,
    ITLB_ENTRIES,
    ITLB_ENTRY,
    JUMP,
    JUMPS,
    JUMPS_START,
    PAGE,
    POINTS_PER_SAMPLE,
    REGIME,
    REGIMES,
    REQUEST,
    REQUESTS,
    TRANSLATOR,
)
from mpemu.shm import Segment
from mpemu.unit import CAREFUL, OPTIMISED, QUICK, Kind, Unit
from mpemu.vcpu.exits import ExitReason
from tests.codegen.lab import QUANTUM, Lab
from tests.codegen.native_hart import RAM

RECORD_BYTES_PER_CODE_BYTE = 8
TIERS = {QUICK: "quick", CAREFUL: "careful", OPTIMISED: "optimised"}


class AtOnce:
    """Compilers that are done when they are asked. What goes wrong with a region ends the test."""

    def __init__(self, lab: TranslatedLab, translator: Translator) -> None:
        self._lab, self._translator = lab, translator

    def submit(self, job: Job) -> bool:
        unit = translate(self._lab.isa, self._lab.blob.symbols, job.code, job.head, job.kind)
        self._lab.units.append(unit)
        self._translator.done(job, unit)
        return True


class Stitched:
    """The real thing, remembering what it made."""

    def __init__(self, lab: TranslatedLab) -> None:
        self._lab, self._stitcher = lab, Stitcher(lab.isa, lab.blob.stencils)

    def unit(self, code: Surroundings, head: int, kind: Kind) -> Unit:
        unit = self._stitcher.unit(code, head, kind)
        self._lab.units.append(unit)
        return unit


class TranslatedLab(Lab):
    """:meth:`translate` makes regions, and harts use them at once. Nothing else is ever translated: runs end before
    a slice does. One lab at a time: all share the blob's memory for regions."""

    def __init__(self, harts: int = 1, size: int = 1 << 20) -> None:
        super().__init__(harts, size)
        self.units: list[Unit] = []
        """All that was translated."""
        self._segment = Segment("regions", TRANSLATOR.size)
        self.shared: Any = TRANSLATOR.view(self._segment.map)
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.shared.doorbell = self._doorbell
        code = mmap.mmap(self.blob.regions_fd, 0)
        for index in range(harts):
            hart = self.hart(index)
            hart.translator, hart.hotness = self._segment.address, 1
            hart.hotness_2 = HEAT_ROUND  # never
        self.begin_with(OPTIMISED)
        requests = (REQUEST.ctype * REQUESTS).from_buffer(self._segment.map, TRANSLATOR.offset["requests"])
        publication = Publication(self._segment.map, code, self.blob.regions_start)
        self._translator = Translator(publication, requests, CodePages(self.memory.code_pages.map), None, 0)
        self._translator.compilers = AtOnce(self, self._translator)
        self._translator.stitcher = Stitched(self)

    def close(self) -> None:
        """Give descriptors and memory back."""
        os.close(self._doorbell)
        self._translator = None  # type: ignore[assignment]
        del self.shared
        self._segment.close()

    def begin_with(self, tier: int) -> None:
        """What harts ask for is of this tier at first."""
        for index in range(len(self.engines)):
            self.hart(index).first_tier = tier

    def has_jumped(self, source: int, *targets: int, hart: int = 0) -> None:
        """As if a computed jump at virtual address ``source`` had often led out of a region, to each of ``targets``."""
        start = self.memory.code_pages_address(hart) + JUMPS_START
        jumps = (JUMP.ctype * JUMPS).from_address(start)
        free = iter(jump for jump in jumps if not jump.count)
        for target in targets:
            jump = next(free)
            jump.source, jump.target, jump.count = source, target, LEAST_COUNT

    def guess_from(self, count: int) -> None:
        """Where a computed jump leads is guessed from so many jumps on."""
        self._translator.least_count = count

    def restart(self, keep_records: bool = False, hart: int = 0) -> None:
        """The hart's reset state; ``keep_records``: what was decoded stays (and is compared with memory before use)."""
        view = self.hart(hart)
        pages = view.page_index, self.memory.ram_size // PAGE * 4
        index, used = ctypes.string_at(*pages), view.record_next
        self.engines[hart].reset(pc=0, isa=self.isa)
        if keep_records:
            ctypes.memmove(pages[0], index, pages[1])
            view.record_next = used

    def resume(self, hart: int = 0, quantum: int = QUANTUM) -> ExitReason:
        """As the lab does; where no device is, nothing answers."""
        reason = super().resume(hart, quantum)
        while reason is ExitReason.MMIO:
            self.hart(hart).mmio_latch = 2
            reason = self.engines[hart].run()
        return reason

    def record(self, address: int, hart: int = 0) -> int:
        """Host address of the record of physical ``address``, its page entered in the decode cache."""
        page = (address - RAM) >> 12
        records = self.routine("code_page", self.memory.ram_address + page * PAGE, page, hart=hart).result
        return records + address % PAGE * RECORD_BYTES_PER_CODE_BYTE

    def translate(self, *addresses: int, hart: int = 0) -> int:
        """Translate what begins at these physical addresses, and put it into use by all harts: how many regions are
        new. (None where there is nothing worth it.)"""
        before = self.shared.published
        view = self.hart(hart)
        where = view.regime, view.delta
        for address in addresses:
            view.heat[:] = [0] * HEAT  # as if not asked for yet
            record = self.record(address, hart)
            view.regime, view.delta = self._where(record, address, hart)
            self.routine("warm", record, POINTS_PER_SAMPLE, hart=hart)
            view.regime, view.delta = where
            self._translator.serve()
        self.serve()
        published: int = self.shared.published
        return published - before

    def serve(self) -> None:
        """Translate what harts have asked for by themselves, and put it into use by all of them."""
        self._translator.serve()
        for index in range(len(self.engines)):
            self.routine("use_new_regions", hart=index)

    def _where(self, record: int, address: int, hart: int) -> tuple[int, int]:
        """HART.regime and HART.delta as they were when the hart last ran the code at physical ``address``."""
        first = self.memory.hart_address(hart) + HART.offset["regimes"]
        page = record - address % PAGE * RECORD_BYTES_PER_CODE_BYTE
        for regime in range(first, first + REGIMES * REGIME.size, REGIME.size):
            itlb = (ITLB_ENTRY.ctype * ITLB_ENTRIES).from_address(regime + REGIME.offset["itlb"])
            for entry in itlb:
                known = (entry.delta + RECORD_BYTES_PER_CODE_BYTE * entry.tag) % (1 << 64)
                if entry.tag % PAGE == 0 and known == page:
                    return regime, entry.delta
        return first, (record - RECORD_BYTES_PER_CODE_BYTE * address) % (1 << 64)

    def translated(self, addresses: Iterable[int], hart: int = 0) -> set[int]:
        """Which of these physical addresses lead to a region now."""
        handlers = {a: ctypes.c_uint32.from_address(self.record(a, hart)).value for a in addresses}
        return {a for a, handler in handlers.items() if handler >= self.blob.regions_start}


def lab_fixture(
    make: Callable[[], TranslatedLab], *, scope: Literal["function", "module"] = "function", by_tier: bool = False
) -> Any:
    """A fixture: the lab that ``make()`` makes, closed behind the tests; ``by_tier``: one that begins with each."""

    def fixture(request: pytest.FixtureRequest) -> Iterator[TranslatedLab]:
        with closing(make()) as lab:
            if by_tier:
                lab.begin_with(request.param)
            yield lab

    tiers = {"params": list(TIERS), "ids": list(TIERS.values())} if by_tier else {}
    return pytest.fixture(scope=scope, **tiers)(fixture)
