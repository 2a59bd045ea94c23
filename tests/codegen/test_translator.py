"""The translator between harts, compilers and the cache; and its compilers, which may die."""

from __future__ import annotations

import errno
import mmap
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from mpemu.codecache import CodeCache
from mpemu.codegen import compilers as compilers_module
from mpemu.codegen import translator as module
from mpemu.codegen.compilers import Compilers, Job
from mpemu.codegen.publication import Publication
from mpemu.codegen.surroundings import ALL_REACHED, LEAST_COUNT, CodePages, Surroundings
from mpemu.codegen.translator import READY, Translator
from mpemu.layout import (
    CODE_PAGE,
    CODE_PAGES_SIZE,
    JUMP,
    JUMPS_START,
    PAGE,
    REGION_ENTRY,
    REGION_PLACE,
    REQUEST,
    REQUESTS,
    TRANSLATOR,
)
from mpemu.unit import BEST, QUICK, Kind, Unit, page_digest

LIMIT = 1 << 30
ADDRESS = 0xFFFF_FFC0_0000_0000
"""Where the pages of requests are, for the hart."""


def page(number: int) -> bytes:
    return number.to_bytes(2, "little") * (PAGE // 2)


def unit(head: int, *pages: int, code: bytes = b"\xcc" * 64) -> Unit:
    located = tuple((distance, page(number)) for distance, number in enumerate(pages))
    return Unit((head,), located, code, 0, 0, 5, 100)


class Jobs:
    """Compilers that do nothing by themselves."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.busy = False

    def submit(self, job: Job) -> bool:
        self.jobs.append(job)
        return not self.busy


class Bench:
    """A translator whose shared memory and compilers are the test's."""

    def __init__(self, cache: CodeCache | None, room: int = 1 << 16) -> None:
        self.shared, self.code = mmap.mmap(-1, TRANSLATOR.size), mmap.mmap(-1, room)
        self.requests = (REQUEST.ctype * REQUESTS).from_buffer(self.shared, TRANSLATOR.offset["requests"])
        self.view: Any = TRANSLATOR.view(self.shared)
        self.decoded = mmap.mmap(-1, 2 * CODE_PAGES_SIZE)
        self.jobs = Jobs()
        self.start(cache)

    def start(self, cache: CodeCache | None) -> None:
        decoded = CodePages(self.decoded)
        self.translator = Translator(Publication(self.shared, self.code, 0), self.requests, decoded, cache, LIMIT)
        self.translator.compilers = self.jobs

    def has_decoded(self, number: int, reached: int) -> None:
        """Hart 1 has page ``number`` in its decode cache, in the place of that number; ``reached``: a bit per slot."""
        start = CODE_PAGES_SIZE + number * CODE_PAGE.size
        bits, copy = (start + CODE_PAGE.offset[name] for name in ("reached", "copy"))
        self.decoded[bits : bits + 256] = reached.to_bytes(256, "little")
        self.decoded[copy : copy + PAGE] = page(number)

    def has_jumped(self, source: int, targets: Mapping[int, int]) -> None:
        """Hart 1 has left regions by the jalr at ``source``; ``targets``: how often to where."""
        for n, (target, count) in enumerate(targets.items()):
            start = CODE_PAGES_SIZE + JUMPS_START + n * JUMP.size
            self.decoded[start : start + JUMP.size] = struct.pack("<QQQ", source, target, count)

    def jobs_for(
        self,
        *places: tuple[int, int],
        around: Mapping[int, int] | None = None,
        reached: Mapping[int, int] | None = None,
        left: tuple[int, int] | None = None,
        jump: int = 0,
        kind: Kind = BEST,
    ) -> list[Job]:
        """Request (offset, page)s, of pages at ADDRESS: what compilers were asked for. ``around``: pages by distance;
        ``reached``: bits by page, else all; ``left``: distance and offset of the entry of the region that leads there;
        ``jump``: address of the jalr that often does."""
        others = dict(around or {})
        for number in {number for _, number in places} | set(others.values()):
            self.has_decoded(number, (reached or {}).get(number, ALL_REACHED))
        for slot, (offset, number) in enumerate(places):
            request = self.requests[slot]
            request.hart, request.offset, request.rank, request.page = 1, offset, kind.rank, number
            request.count, request.address, request.left_jump = len(others), ADDRESS, jump
            for index, (distance, other) in enumerate(others.items()):
                request.around[index] = distance << 32 | other
            request.left_page = 0
            if left:
                request.left_distance, request.left_offset = left
                request.left_page = others[left[0]] + 1
            request.state = READY
        self.translator.serve()
        assert not any(request.state for request in self.requests)
        jobs, self.jobs.jobs = self.jobs.jobs, []
        return jobs

    def ask(self, *places: tuple[int, int], around: Mapping[int, int] | None = None) -> list[tuple[int, bytes | None]]:
        """The same: only (offset, page)s."""
        return [(job.head, job.code.page(0)) for job in self.jobs_for(*places, around=around)]

    def settle(self) -> None:
        """Do all that waits, as if time had passed."""
        self.translator._write_at = 0
        while self.translator.step() is not None:
            pass


@pytest.fixture
def open_cache(tmp_path: Path) -> Callable[[], CodeCache]:
    return lambda: CodeCache(tmp_path / "code", "key", "rv64i")


def test_a_request_is_compiled_published_and_known() -> None:
    bench = Bench(None)
    assert bench.ask((2, 7)) == [(2, page(7))]
    bench.translator.done(Job((), 2, Surroundings.of({0: page(7)})), unit(2, 7))
    assert bench.view.published == bench.view.units_translated == 1
    assert (bench.view.instructions, bench.view.compile_us, bench.view.code_bytes) == (5, 100, 64 + REGION_PLACE.size)
    assert bench.ask((2, 7), (4, 7), (2, 8)) == [(4, page(7)), (2, page(8))]


@pytest.mark.parametrize("result", ["LLVM is unhappy", unit(2, 7, code=b"")])
def test_what_was_in_vain_is_not_tried_again(result: Unit | str, capfd: pytest.CaptureFixture[str]) -> None:
    bench = Bench(None)
    bench.translator.done(Job((), 2, Surroundings.of({0: page(7)})), result)
    assert bench.ask((2, 7)) == []
    assert bench.view.published == bench.view.units_translated == 0
    assert bench.view.failed == isinstance(result, str)
    assert ("LLVM is unhappy" in capfd.readouterr().err) == isinstance(result, str)


class Breaks:
    def unit(self, code: Surroundings, head: int, kind: Kind) -> Unit:
        raise ValueError("no such\nhole")


def test_a_region_that_can_not_be_put_together_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    bench = Bench(None)
    bench.translator.stitcher = Breaks()
    assert bench.jobs_for((2, 1), kind=Kind(QUICK)) == []
    assert bench.view.failed == 1 and "no such hole" in capfd.readouterr().err
    assert bench.jobs_for((2, 1), kind=Kind(QUICK)) == [] and bench.view.failed == 1, "once"


def test_a_unit_of_several_pages_is_known_where_all_of_them_are() -> None:
    """Or where nobody knows what is there; with another page it is to be made from that."""
    bench = Bench(None)
    bench.translator.done(Job((), 2, Surroundings.of({0: page(7), 1: page(8)})), unit(2, 7, 8))
    assert bench.ask((2, 7)) == bench.ask((2, 7), around={1: 8, 3: 9}) == []
    (job,) = bench.jobs_for((2, 7), around={1: 9})
    assert (job.code.page(0), job.code.page(1), job.code.page(2)) == (page(7), page(9), None)


def test_a_job_knows_what_was_reached() -> None:
    """By the hart that asks, on pages that it can jump to; and by whoever made what is known."""
    bench = Bench(None)
    made = replace(unit(2, 7, 8), contains=(0, 1 << 9))
    bench.translator.done(Job((), 2, Surroundings.of(dict(made.pages))), made)
    (job,) = bench.jobs_for((4, 9), around={-1: 8, 5: 10}, reached={9: 1 << 2, 8: 1 << 3})
    reached = {place for place in range(-PAGE, PAGE, 2) if job.code.is_reached(place)}
    assert reached == {4, -PAGE + 6, -PAGE + 18}
    assert set(job.code.distances) == {0, -1, 5}


def test_numbers_that_lead_nowhere() -> None:
    """Requests are in memory that harts write."""
    bench = Bench(None)
    for n, slot in enumerate(bench.requests):
        slot.hart, slot.page, slot.left_page, slot.count = 99, 1 << 40, 1 << 41, 1 << 60
        slot.address, slot.left_jump = 1 << 63, n % 2
        slot.rank, slot.state = BEST.rank, READY
    bench.translator.serve()
    assert not any(slot.state for slot in bench.requests)
    assert bench.jobs.jobs[0].code.page(0) == bytes(PAGE)


def test_a_unit_is_made_anew_when_what_it_left_out_is_hot() -> None:
    """Twice; then the place gets a region of its own."""
    bench = Bench(None)
    made = replace(unit(2, 7), entries=(2, 8), left_out=(PAGE + 6, PAGE + 10, PAGE + 14, 20))
    for generation in (0, 1, 2):
        made = replace(made, kind=replace(BEST, generation=generation))
        bench.translator.done(Job((), 2, Surroundings.of(dict(made.pages)), made.kind), made)
        (job,) = bench.jobs_for((10, 9), around={-1: 7}, left=(-1, 8))
        if generation < 2:
            assert (job.head, job.kind, job.code.page(0), job.code.page(1)) == (2, made.kind.renewed, page(7), page(9))
    assert (job.head, job.kind, job.code.page(0), job.code.page(-1)) == (10, BEST, page(9), page(7))


def test_a_unit_is_made_anew_when_a_jump_often_leads_out_of_it() -> None:
    """But not for a place that was a guess already, nor for one that is none; and only twice."""
    bench = Bench(None)
    bench.has_jumped(ADDRESS - PAGE + 8, {ADDRESS + 10: 3 * LEAST_COUNT, ADDRESS + 20: LEAST_COUNT, ADDRESS + 30: 1})

    def made_anew(offset: int) -> bool:
        jobs = bench.jobs_for((offset, 9), around={-1: 7}, left=(-1, 2), jump=ADDRESS - PAGE + 8)
        assert [(job.head, job.kind) for job in jobs] in ([], [(2, made.kind.renewed)])
        return bool(jobs)

    ten, twenty = (8, PAGE + 10), (8, PAGE + 20)
    for generation, guesses, expected in (
        (0, (), {10, 20}),
        (1, (ten,), {20}),
        (1, (ten, twenty), set()),
        (2, (), set()),
    ):
        made = replace(unit(2, 7), kind=replace(BEST, generation=generation), guesses=guesses)
        bench.translator.done(Job((), 2, Surroundings.of(dict(made.pages)), made.kind), made)
        assert {offset for offset in (10, 20, 30) if made_anew(offset)} == expected


def test_what_a_unit_left_out_for_another_reason_gets_a_region() -> None:
    bench = Bench(None)
    made = replace(unit(2, 7), left_out=(20,))
    bench.translator.done(Job((), 2, Surroundings.of(dict(made.pages))), made)
    for offset, left in ((10, (-1, 2)), (20, (-1, 2)), (20, (-1, 6))):
        (job,) = bench.jobs_for((offset, 9), around={-1: 7}, left=left)
        assert (job.head, job.kind) == (offset, BEST)


def test_the_next_run_publishes_what_this_one_has_found(open_cache: Callable[[], CodeCache]) -> None:
    bench = Bench(open_cache())
    for each in (unit(2, 7), unit(4, 7, 8), unit(6, 7, code=b"")):
        bench.translator.done(Job((), each.head, Surroundings.of(dict(each.pages))), each)
    bench.settle()
    again = Bench(open_cache())
    again.settle()
    assert again.view.published == again.view.units_loaded == 2 and again.view.units_translated == 0
    assert again.ask((2, 7), (6, 7)) == []
    assert again.view.compile_us == 0


def test_what_another_machine_has_written_since_is_found(open_cache: Callable[[], CodeCache]) -> None:
    bench = Bench(open_cache())
    bench.settle()
    open_cache().save([unit(2, 7)])
    assert bench.ask((2, 7)) == []
    assert bench.view.units_loaded == 1
    assert bench.ask((4, 7)) == [(4, page(7))]


def test_a_new_translator_goes_on(open_cache: Callable[[], CodeCache]) -> None:
    """The old one's units are published once, whether it had time to write them or not."""
    bench = Bench(open_cache())
    open_cache().save([unit(2, 7)])
    bench.settle()
    bench.translator.done(Job((), 4, Surroundings.of({0: page(7)})), unit(4, 7))
    open_cache().save([unit(6, 7)])
    bench.start(open_cache())
    bench.settle()
    assert bench.view.published == 3
    assert bench.view.units_loaded == 2 and bench.view.units_translated == 1
    entries = (REGION_ENTRY.ctype * 3).from_buffer_copy(bench.shared, TRANSLATOR.offset["regions"])
    assert [entry.cached for entry in entries] == [1, 0, 1]
    bench.translator.done(Job((), 4, Surroundings.of({0: page(7)})), unit(4, 7))
    assert bench.view.published == 3


def test_the_preload_leaves_room(open_cache: Callable[[], CodeCache]) -> None:
    for number in range(1, 11):
        open_cache().save([unit(2, number, code=bytes((64 << 4) - REGION_PLACE.size))])
    bench = Bench(open_cache(), room=10 * (64 << 4))
    bench.settle()
    assert bench.view.published == 8
    found = [number for number in range(1, 11) if bench.ask((2, number)) == []]
    assert len(found) == 10 and bench.view.published == 10, "those that were left out come when they are asked for"


def test_a_full_memory_drops() -> None:
    bench = Bench(None, room=4096)
    bench.translator.done(Job((), 2, Surroundings.of({0: page(7)})), unit(2, 7, code=bytes(4000)))
    bench.translator.done(Job((), 4, Surroundings.of({0: page(7)})), unit(4, 7, code=bytes(200)))
    assert (bench.view.published, bench.view.dropped) == (1, 1)
    assert bench.ask((4, 7)) == [], "it would not fit the next time either"
    bench.jobs.busy = True
    bench.ask((6, 7))
    assert bench.view.dropped == 2


def test_a_full_disk_is_told_once(
    open_cache: Callable[[], CodeCache], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("mpemu.codecache.write_private", full)
    bench = Bench(open_cache())
    for number in (7, 8):
        bench.translator.done(Job((), 2, Surroundings.of({0: page(number)})), unit(2, number))
    bench.settle()
    bench.translator.done(Job((), 4, Surroundings.of({0: page(7)})), unit(4, 7))
    bench.settle()
    bench.translator.finish()
    assert capfd.readouterr().err.count("translations can't be kept there (No space left on device)") == 1
    assert bench.view.published == 3


def test_a_lock_that_is_held_delays_writing(
    open_cache: Callable[[], CodeCache], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = CodeCache.save
    attempts: list[int] = []

    def save(self: CodeCache, units: list[Unit]) -> None:
        attempts.append(len(units))
        if len(attempts) == 1:
            raise TimeoutError
        real(self, units)

    monkeypatch.setattr(CodeCache, "save", save)
    bench = Bench(open_cache())
    bench.translator.done(Job((), 2, Surroundings.of({0: page(7)})), unit(2, 7))
    bench.translator._write_at = 0
    while (wait := bench.translator.step()) == 0:
        pass
    assert wait is not None and 0 < wait <= module.WRITE_AFTER_S
    bench.translator.finish()
    assert attempts == [1, 1] and open_cache().load(page_digest(page(7))) == [unit(2, 7)]
    assert capfd.readouterr().err == ""


def test_what_is_used_is_evicted_last(open_cache: Callable[[], CodeCache], tmp_path: Path) -> None:
    for number in (7, 8):
        open_cache().save([unit(2, number)])
    for path in tmp_path.rglob("*.units"):
        os.utime(path, (1, 1))
    bench = Bench(open_cache())
    bench.settle()
    number = bench.translator._publication.number_of(page_digest(page(8)))
    bench.view.page_used[number] = 1
    bench.translator.finish()
    assert open_cache().newest_first()[0] == page_digest(page(8))
    assert sorted(path.stat().st_mtime == 1 for path in tmp_path.rglob("*.units")) == [False, True]


# -- compilers
class Pool:
    def __init__(self, serve: Callable[[socket.socket], None], limit: int) -> None:
        self.done: dict[object, Unit | str] = {}
        self.poll = select.poll()
        self.compilers = Compilers(limit, serve, self._done, self.poll)

    def _done(self, job: Job, result: Unit | str) -> None:
        assert job.key not in self.done
        self.done[job.key] = result

    def pids(self) -> list[int]:
        return [compiler.pid for compiler in self.compilers._compilers.values()]

    def wait(self, jobs: int) -> None:
        while len(self.done) < jobs:
            ready = self.poll.poll(20_000)
            assert ready, "a compiler hangs"
            for descriptor, _ in ready:
                self.compilers.answer(descriptor)

    def close(self) -> None:
        for compiler in self.compilers._compilers.values():
            compiler.socket.close()
            os.waitpid(compiler.pid, 0)


def work(connection: socket.socket) -> None:
    """Answers; dies of pages that begin with 0, fails on those with 1."""
    jobs = msgpack.Unpacker()
    while data := connection.recv(1 << 16):
        jobs.feed(data)
        for head, _, distances in jobs:
            connection.sendall(msgpack.packb(distances[0]))
            jobs.feed(connection.recv(1 << 16))
            kind = next(jobs)[0][0]
            if kind == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            connection.sendall(msgpack.packb([head]))
            jobs.feed(connection.recv(1 << 16))
            targets = [at for target in next(jobs) for at in (head, target)]
            answer = "no" if kind == 1 else [[head], [0], bytes(head), [], [], targets, b"", 0, 0, 3, 10, 64]
            connection.sendall(msgpack.packb(answer))


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(work, 3)
    yield made
    made.close()


def test_compilers_answer(pool: Pool) -> None:
    assert pool.pids() == [], "none before there is work"
    for number in range(20):
        code = Surroundings([0], lambda distance: (page(2), ALL_REACHED), lambda place: [place + 4, place - 4])
        assert pool.compilers.submit(Job(number, 1000 * number, code))
    pool.wait(20)
    assert len(pool.pids()) == 3
    for number in range(20):
        at = 1000 * number
        guesses = (at, at + 4), (at, at - 4)
        assert pool.done[number] == Unit((at,), ((0, page(2)),), bytes(at), 0, 0, 3, 10, guesses=guesses)


def test_a_job_is_done_once(pool: Pool) -> None:
    for _ in range(5):
        assert pool.compilers.submit(Job("same", 2, Surroundings.of({0: page(2)})))
    pool.wait(1)


def test_jobs_that_fail_or_kill(pool: Pool) -> None:
    for number in range(12):
        pool.compilers.submit(Job(number, 2, Surroundings.of({0: page(number % 3)})))
    pool.wait(12)
    assert [pool.done[n] for n in range(0, 12, 3)] == ["the compiler died of it"] * 4
    assert [pool.done[n] for n in range(1, 12, 3)] == ["no"] * 4
    assert all(isinstance(pool.done[n], Unit) for n in range(2, 12, 3))


def test_compilers_killed_from_outside(pool: Pool) -> None:
    """A job is given to another compiler, once."""
    for number in range(30):
        pool.compilers.submit(Job(number, 2, Surroundings.of({0: page(2)})))
        if number % 10 == 5:
            os.kill(pool.pids()[0], signal.SIGKILL)
    pool.wait(30)
    assert all(isinstance(result, Unit) for result in pool.done.values())


def test_too_many_jobs(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers_module, "MAX_WAITING", 4)
    taken = [pool.compilers.submit(Job(number, 2, Surroundings.of({0: page(2)}))) for number in range(9)]
    assert taken == [True] * 7 + [False] * 2, "three at work, four waiting"
    pool.wait(7)


def long_ago(job: Job) -> Job:
    job.asked_at -= 2 * compilers_module.STALE_S
    return job


def test_what_nobody_wants_any_more_makes_room(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers_module, "MAX_WAITING", 4)
    jobs = [Job(number, 2, Surroundings.of({0: page(2)})) for number in range(9)]
    for job in jobs[:7]:
        pool.compilers.submit(job)
    for job in jobs[3:7]:
        long_ago(job)
    assert all(pool.compilers.submit(job) for job in jobs[7:])
    pool.wait(5)
    assert pool.done.keys() == {0, 1, 2, 7, 8}


def test_a_compiler_dies_of_an_old_job(pool: Pool) -> None:
    """Whether it is wanted was asked when the job was begun: it is given to another one all the same."""
    job = Job("old", 2, Surroundings.of({0: page(0)}))
    pool.compilers.submit(job)
    long_ago(job)
    pool.wait(1)
    assert job.attempts == compilers_module.ATTEMPTS
