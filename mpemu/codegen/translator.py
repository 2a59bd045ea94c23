"""The translator's process: takes requests of harts, publishes units; from the cache on disk, or made by compilers.

codegen/hot.py has the harts' part of the protocol, codegen/publication.py this one's. It is the only writer of the
shared memory, and does not load LLVM: that is its children's (codegen/compiling.py), which exist only if there is
something that the cache does not have. What takes time is done in small pieces between requests: publishing what the
cache knows, which begins at the start, and writing to the cache what is new.

It can be killed at any time. What is published stays, a new translator goes on from there; units that were not written
yet are lost to the cache, requests under way become hot again.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import mpemu.isa.instructions  # noqa: F401  (fills the instruction table)
from mpemu.codecache import CodeCache, units_key
from mpemu.codecache_upkeep import evict
from mpemu.codegen.compilers import PR_SET_NAME, PR_SET_PDEATHSIG, Compilers, Job
from mpemu.codegen.publication import Publication
from mpemu.codegen.stitching import Stitcher
from mpemu.codegen.surroundings import LEAST_COUNT, CodePages, Surroundings, likely
from mpemu.fence import order_fence
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import ITLB_ENTRIES, PAGE, REQUEST, REQUESTS, TRANSLATOR
from mpemu.paths import COORDINATOR
from mpemu.private_file import Refused
from mpemu.unit import MAX_DISTANCE, OPTIMISED, QUICK, Dependencies, Kind, Unit, fits, page_digest
from mpemu.vcpu.blob_file import read_blob

PROCESS_NAME = b"mpemu-transl"
PRELOAD_SHARE = 0.75
"""Of the memory of regions: what is published before anybody asks. The rest is for what this guest asks for."""
WRITE_AFTER_S = 1.0
"""A new unit waits so long for others that go into the same file."""
EVICT_EVERY_S = 60.0
READY = 2
"""State of a request that may be taken."""


Place = tuple[bytes, int, Kind]
"""Digest of the head page, offset in it, and what is made for it, first."""


@dataclass(frozen=True)
class Request:
    """A place that is hot, at ``head`` of the page at distance 0. ``left``: the distance of the page at which the
    region was entered that leads there, and the offset; ``jump``: the place of the computed jump by which it often
    does."""

    head: int
    code: Surroundings
    kind: Kind
    left: tuple[int, int] | None = None
    jump: int | None = None

    @cached_property
    def digest(self) -> bytes:
        return page_digest(self.code.page(0) or b"")

    @property
    def place(self) -> Place:
        return self.digest, self.head, self.kind.first

    @property
    def job(self) -> Job:
        return Job((*self.place, self.kind.generation), self.head, self.code, self.kind)


class Made(NamedTuple):
    """Of a unit, what is needed to make it anew."""

    head: int
    kind: Kind
    left_out: tuple[int, ...]
    guesses: tuple[tuple[int, int], ...]


class Submits(Protocol):
    def submit(self, job: Job) -> bool: ...


class Stitches(Protocol):
    def unit(self, code: Surroundings, head: int, kind: Kind) -> Unit: ...


class Translator:
    """What has been translated, and what is to be done. ``requests`` are the slots in shared memory; ``cache`` is None
    if nothing is kept on disk."""

    def __init__(
        self, publication: Publication, requests: Any, code: CodePages, cache: CodeCache | None, limit: int
    ) -> None:
        self._publication, self._view, self._requests = publication, publication.view, requests
        self._code, self._cache, self._limit = code, cache, limit
        self._known: dict[Place, list[Dependencies]] = {}
        """By place: from what it has been translated, or was tried in vain."""
        self._newest: dict[Place, Made] = {}
        """By place where it can be entered: the unit that was made there last."""
        self._reached: dict[bytes, int] = {}
        """By page: what units contain. Harts that have these units may decode nothing of it."""
        self._unsaved: dict[bytes, list[Unit]] = {}
        self._has_written = False
        self._write_at = 0.0
        self._evict_at = time.monotonic() + EVICT_EVERY_S
        self._on_disk: dict[bytes, bool] = {}
        """Head pages that the cache has: whether their file is known to be used in this run."""
        self._work: Iterator[None] = self._preload()
        self.compilers: Submits | None = None
        self.stitcher: Stitches | None = None
        self.least_count = LEAST_COUNT

    # -- requests
    def serve(self) -> None:
        """Take all requests that are ready."""
        for slot in self._requests:
            if slot.state == READY:
                order_fence()
                request = self._read(slot)
                order_fence()
                slot.state = 0
                self._answer(request)

    def _read(self, slot: Any) -> Request:
        """A hart's request; its pages are read when they are needed."""
        hart, count = slot.hart, min(slot.count, ITLB_ENTRIES)
        around = struct.unpack(f"<{2 * count}i", bytes(slot.around)[: 8 * count])
        pages = dict(zip(around[1::2], around[::2], strict=True))
        left = None
        if slot.left_page:
            left = (slot.left_distance, slot.left_offset)
            pages.setdefault(slot.left_distance, slot.left_page - 1)
        pages[0] = slot.page

        def read(distance: int) -> tuple[bytes, int]:
            page, reached = self._code.read(hart, pages[distance])
            return page, reached | self._reached.get(page_digest(page), 0)

        address = slot.address
        jumps = functools.cache(lambda: self._code.jumps(hart))

        def targets(place: int) -> list[int]:
            found = likely(jumps().get(address + place, Counter()), self.least_count)
            return [target - address for target in found if abs(target - address) <= MAX_DISTANCE * PAGE]

        code = Surroundings(pages, read, targets)
        jump = slot.left_jump - address if slot.left_jump else None
        return Request(slot.offset & (PAGE - 2), code, Kind.of_rank(slot.rank), left, jump)

    def _answer(self, request: Request) -> None:
        wanted = self._renewal(request) if request.jump is not None else self._new(request)
        if wanted and (self._publication.is_full or not self._make(wanted.job)):
            self._view.dropped += 1

    def _new(self, request: Request) -> Request | None:
        """What is to be made for a place, None if there is something."""
        if self._is_known(request):
            return None
        if self._cache:
            self._use(self._cache.load_news(request.digest))
            if self._is_known(request):
                return None
        return self._renewal(request) or request

    def _make(self, job: Job) -> bool:
        """Have it made: what is quick at once. False: there is too much to do already."""
        assert self.compilers
        if job.kind.tier != QUICK:
            return self.compilers.submit(job)
        if self.stitcher:
            result: Unit | str
            try:
                result = self.stitcher.unit(job.code, job.head, job.kind)
            except Exception as error:  # as with compilers: one region is lost, not the translator
                result = " ".join(f"{type(error).__name__}: {error}".split())
            self.done(job, result)
        return True

    def _is_known(self, request: Request) -> bool:
        return any(fits(made_from, request.code.page) for made_from in self._known.get(request.place, ()))

    def _renewal(self, request: Request) -> Request | None:
        """Rather than the place, the unit that leads to it, which left it out as it had not been reached, or was not
        known to be where a jump leads: both become one region. That is done at most GENERATIONS - 1 times; then the
        place gets a region of its own."""
        if not request.left:
            return None
        distance, offset = request.left
        start = distance * PAGE
        code, place = request.code.from_page(distance), request.head - start
        jump = None if request.jump is None else request.jump - start
        digest = page_digest(request.code.page(distance) or b"")
        for windowed in (True, False):
            made = self._newest.get((digest, offset, Kind(OPTIMISED, windowed)))
            if made is None or (kind := made.kind.renewed) is None:
                continue
            is_news = jump is not None and (jump, place) not in made.guesses and place in code.targets(jump)
            if is_news or place in made.left_out:
                return Request(made.head, code, kind)
        return None

    def done(self, job: Job, result: Unit | str) -> None:
        """A compiler has finished a job, or says why it has failed."""
        if isinstance(result, str):
            self._view.failed += 1
            say(f"some guest code can't be translated, and is interpreted; this is a bug: {result}")
            tried = tuple((distance, page_digest(page)) for distance, page in sorted(job.code.seen().items()))
            place = page_digest(job.code.page(0) or b""), job.head, job.kind.first
            self._known.setdefault(place, []).append(tried)
            return
        unit = result
        if self._publish(unit):
            self._view.units_translated += 1
            self._view.instructions += unit.instructions
            self._view.compile_us += unit.us
        if self._cache:
            if not self._unsaved:
                self._write_at = time.monotonic() + WRITE_AFTER_S
            self._unsaved.setdefault(unit.dependencies[0][1], []).append(unit)

    # -- publishing
    def _publish(self, unit: Unit, cached: bool = False) -> bool:
        """Whether this was news for the harts. What there is no room for counts as known, too."""
        made = Made(unit.head, unit.kind, unit.left_out, unit.guesses)
        for offset in unit.entries:
            place = unit.dependencies[0][1], offset, unit.kind.first
            known = self._known.setdefault(place, [])
            if unit.dependencies not in known:
                known.append(unit.dependencies)
            newest = self._newest.get(place)
            if newest is None or newest.kind.generation <= unit.kind.generation:
                self._newest[place] = made
        for (_, digest), contained in zip(unit.dependencies, unit.contains, strict=False):
            self._reached[digest] = self._reached.get(digest, 0) | contained
        if not unit.code or self._publication.has(unit):
            return False
        if not self._publication.has_room(unit):
            self._view.dropped += 1
            return False
        self._publication.publish(unit, cached)
        return True

    def _use(self, units: list[Unit]) -> None:
        """Publish what the cache has for a head page."""
        for unit in units:
            self._on_disk.setdefault(unit.dependencies[0][1], False)
            if self._publish(unit, cached=True):
                self._view.units_loaded += 1

    def _preload(self) -> Iterator[None]:
        """Publish what the cache has, head page by head page, the most recently used first."""
        if self._cache:
            for digest in self._cache.newest_first():
                if self._publication.share_used > PRELOAD_SHARE:
                    break
                self._use(self._cache.load_news(digest))
                yield

    # -- in the background
    def step(self) -> float | None:
        """Do a piece of the work that waits; seconds until there is more, None: none is in sight."""
        if next(self._work, self) is None:
            return 0
        if not self._unsaved:
            return None
        wait = self._write_at - time.monotonic()
        if wait > 0:
            return wait
        self._work = self._save()
        return 0

    def _save(self) -> Iterator[None]:
        """Write what is new, file by file."""
        while self._unsaved and self._cache:
            digest = next(iter(self._unsaved))
            units = self._unsaved.pop(digest)
            try:
                self._cache.save(units)
                self._on_disk[digest] = self._has_written = True
            except TimeoutError:
                self._unsaved.setdefault(digest, []).extend(units)
                self._write_at = time.monotonic() + WRITE_AFTER_S
                return
            except OSError as error:
                say(f"{self._cache.directory}: translations can't be kept there ({error.strerror})")
                self._cache = None
                self._unsaved.clear()
                return
            yield
        if time.monotonic() > self._evict_at:
            self._evict()

    def _evict(self) -> None:
        """Keep the cache within its limit; what this guest uses goes last."""
        if self._cache:
            for digest in [digest for digest, used in self._on_disk.items() if not used]:
                number = self._publication.number_of(digest)
                if number is not None and self._view.page_used[number]:
                    self._cache.touch(digest)
                    self._on_disk[digest] = True
            if self._has_written:
                evict(self._cache.root, self._limit)
        self._evict_at = time.monotonic() + EVICT_EVERY_S

    def finish(self) -> None:
        """Write what is left."""
        for _ in self._save():
            pass
        self._evict()


def say(text: str) -> None:
    """To the coordinator, which tells the user."""
    print(text, file=sys.stderr, flush=True)


def open_cache(root: str, key: str, isa: str) -> CodeCache | None:
    """None, and a word to the user, where there can be none."""
    try:
        return CodeCache(Path(root), key, isa, say) if root else None
    except OSError as error:
        say(f"{root}: translations can't be kept there ({error.strerror})")
    except Refused as refused:
        say(f"{refused}: translations are not kept")
    return None


def settle() -> None:
    """End with the coordinator, whatever it dies of; only that decides what signals mean."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.environ.get(COORDINATOR, str(os.getppid())) != str(os.getppid()):  # it has died already
        sys.exit()
    libc.prctl(PR_SET_NAME, PROCESS_NAME, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def main(
    isa: str,
    blob: str,
    segment: str,
    regions: str,
    decoded: str,
    doorbell: str,
    interpreter: str,
    limit: str,
    root: str,
    size: str,
    located: str = "",
) -> None:
    """Serve until TRANSLATOR.stop.

    ``segment``, ``regions``, ``decoded`` (harts' code pages), ``doorbell`` and ``interpreter`` are descriptors; the
    last one is of the file ``blob``, which may be gone by now. ``limit`` is the number of compilers, ``root`` the
    directory of the cache or empty, ``size`` the bytes that it may have; ``located``, if not empty: units have origins
    (codegen/origins.py), and a directory of their own.
    """
    settle()
    file = read_blob(Path(blob), int(interpreter))
    key = units_key(Path(blob), file.digest, bool(located))
    first_offset = -(-len(file.code) // mmap.PAGESIZE) * mmap.PAGESIZE
    shared, code, bell = mmap.mmap(int(segment), TRANSLATOR.size), mmap.mmap(int(regions), 0), int(doorbell)
    pages = mmap.mmap(int(decoded), 0, prot=mmap.PROT_READ)
    for mapping in (shared, code, pages):
        mapping.madvise(mmap.MADV_DONTFORK)  # compilers have no business there
    requests = (REQUEST.ctype * REQUESTS).from_buffer(shared, TRANSLATOR.offset["requests"])
    spec = IsaSpec.parse(isa)
    publication = Publication(shared, code, first_offset)
    translator = Translator(publication, requests, CodePages(pages), open_cache(root, key, isa), int(size))

    def compile_jobs(connection: socket.socket) -> None:
        from mpemu.codegen.compiling import serve

        serve(connection, isa, file.symbols, bool(located))

    translator.stitcher = Stitcher(spec, file.stencils, bool(located))
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    translator.compilers = compilers = Compilers(int(limit), compile_jobs, translator.done, poll)
    publication.view.ready = 1
    translator.serve()  # what came before this process
    wait = translator.step()
    while not publication.view.stop:
        for descriptor, _ in poll.poll(None if wait is None else wait * 1000):
            if descriptor == bell:
                os.eventfd_read(bell)
                translator.serve()
            elif compilers.owns(descriptor):
                compilers.answer(descriptor)
        wait = translator.step()
    translator.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
