"""What the translator publishes is complete whenever a hart may look, and whenever the translator may die."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mpemu.codegen import publication as module
from mpemu.codegen.page_hash import page_hash
from mpemu.codegen.publication import Publication
from mpemu.layout import MAX_REGIONS, PAGE, REGION_ENTRY, REGION_PAGES, REGION_PLACE, TRANSLATOR
from mpemu.unit import Unit

FIRST = 0x1_0000
ROOM = 1 << 16


def page(number: int) -> bytes:
    return number.to_bytes(2, "little") * (PAGE // 2)


def unit(head: int, *pages: int, size: int = 100) -> Unit:
    """A unit on page ``pages[0]``, and with the others at distances 1, 2, ...; its code starts with their numbers."""
    located = tuple((distance, page(number)) for distance, number in enumerate(pages))
    return Unit((head,), located, bytes([head & 0xFF]) * size, 40, 4, 5, 100)


class Memory:
    def __init__(self) -> None:
        self.shared, self.code = mmap.mmap(-1, TRANSLATOR.size), mmap.mmap(-1, ROOM)
        self.view: Any = TRANSLATOR.view(self.shared)

    def translator(self) -> Publication:
        return Publication(self.shared, self.code, FIRST)

    def page(self, number: int) -> bytes:
        start = TRANSLATOR.offset["page_copy"] + number * PAGE
        return bytes(self.shared[start : start + PAGE])

    def reachable(self) -> dict[tuple[bytes, int], list[bytes]]:
        """As a hart finds them: code by (page, offset), the newest first; entries that are not published left out."""
        entries = (REGION_ENTRY.ctype * MAX_REGIONS).from_buffer(self.shared, TRANSLATOR.offset["regions"])
        found: dict[tuple[bytes, int], list[bytes]] = {}
        for number in range(self.view.pages):
            assert self.view.page_hash[number] == page_hash(self.page(number))
            index = self.view.page_first[number]
            while index:
                entry = entries[index - 1]
                assert entry.page == number
                if index - 1 < self.view.published:
                    start, places = entry.code - FIRST - 40, entry.places - FIRST
                    place = REGION_PLACE.ctype.from_buffer_copy(self.code[places : places + REGION_PLACE.size])
                    assert place.code == entry.code
                    head = place.offset
                    found.setdefault((self.page(number), head), []).append(self.code[start : start + 100])
                index = entry.next
        return found


@pytest.fixture
def memory() -> Iterator[Memory]:
    yield Memory()


def test_units_are_found_by_page_and_offset(memory: Memory) -> None:
    publication = memory.translator()
    publication.publish(unit(2, 7))
    publication.publish(unit(6, 7))
    publication.publish(unit(2, 8, 7, 9))
    publication.publish(unit(2, 7, 8))
    found = memory.reachable()
    assert found.keys() == {(page(7), 2), (page(7), 6), (page(8), 2)}
    (across,) = found[page(8), 2]
    assert across[:12] == b"\2\2\2\2" + (1).to_bytes(4, "little") + (3).to_bytes(4, "little"), "page numbers, plus 1"
    newest, oldest = found[page(7), 2]
    assert newest[4:8] == (2).to_bytes(4, "little") and oldest == b"\2" * 100
    assert memory.view.pages == 3 and memory.view.code_bytes == 4 * (104 + REGION_PLACE.size), (
        "each with a place where it can be entered"
    )


def test_alignment(memory: Memory) -> None:
    publication = memory.translator()
    publication.publish(unit(2, 7))
    publication.publish(replace(unit(4, 7), alignment=4096))
    publication.publish(unit(6, 7))
    entries = (REGION_ENTRY.ctype * 3).from_buffer(memory.shared, TRANSLATOR.offset["regions"])
    assert [entry.code - FIRST - 40 for entry in entries] == [0, 4096, 4096 + 128]
    assert memory.view.code_end == FIRST + 4096 + 128 + 104 + REGION_PLACE.size


def test_code_does_not_overlap_and_is_aligned(memory: Memory) -> None:
    publication = memory.translator()
    for head in range(0, 200, 2):
        publication.publish(unit(head, 1))
    assert all(codes == [bytes([head]) * 100] for (_, head), codes in memory.reachable().items())


class Killed(BaseException):
    pass


def stores(memory: Memory, limit: int, victim: Unit, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Publish, but die at the ``limit``-th store to shared memory; whether it was finished before that."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise Killed

    class Dying:
        """Counts stores to what it wraps."""

        def __init__(self, inner: Any) -> None:
            object.__setattr__(self, "inner", inner)

        def __getattr__(self, name: str) -> Any:
            value = getattr(self.inner, name)
            return value if isinstance(value, int) else Dying(value)

        def __setattr__(self, name: str, value: Any) -> None:
            step()
            setattr(self.inner, name, value)

        def __getitem__(self, key: Any) -> Any:
            value = self.inner[key]
            return value if isinstance(value, int | bytes) else Dying(value)

        def __setitem__(self, key: Any, value: Any) -> None:
            step()
            self.inner[key] = value

        def __len__(self) -> int:
            return len(self.inner)

    publication = memory.translator()
    for name in ("view", "_shared", "_code", "_entries"):
        setattr(publication, name, Dying(getattr(publication, name)))
    try:
        publication.publish(victim)
    except Killed:
        return False
    return True


def test_killed_at_any_store_the_next_translator_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is reachable is right, before and after the recovery, and nothing that was published is lost."""
    before, victim, after = [unit(2, 7), unit(4, 8)], unit(6, 7, 9), unit(8, 8, 9)
    limit, finished = 0, False
    while not finished:
        memory = Memory()
        first = memory.translator()
        for each in before:
            first.publish(each)
        finished = stores(memory, limit, victim, monkeypatch)
        for moment in ("dead", "recovered", "gone on"):
            if moment == "recovered":
                second = memory.translator()
                assert all(second.has(each) for each in before)
            if moment == "gone on":
                second.publish(after)
                if not second.has(victim):
                    second.publish(victim)
            found = memory.reachable()
            assert found[page(7), 2] == [b"\2" * 100] and found[page(8), 4] == [b"\4" * 100], (limit, moment)
            for (_, head), codes in found.items():
                assert len(codes) == 1, (limit, moment)
                rest = codes[0][:4] + codes[0][8:] if head in (6, 8) else codes[0]
                assert set(rest) == {head}, (limit, moment, head)
                if head in (6, 8):
                    number = int.from_bytes(codes[0][4:8], "little") - 1
                    assert memory.page(number) == page(9), (limit, moment)
        assert memory.reachable().keys() == {(page(7), 2), (page(8), 4), (page(7), 6), (page(8), 8)}, limit
        limit += 1
    assert limit > 10


def test_a_new_translator_knows_what_is_there(memory: Memory) -> None:
    memory.translator().publish(unit(2, 7, 8))
    publication = memory.translator()
    assert publication.has(unit(2, 7, 8)) and not publication.has(unit(2, 7, 9)) and not publication.has(unit(2, 7))
    publication.publish(unit(4, 8, 7))
    assert memory.view.pages == 2


def test_room(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    publication = memory.translator()
    assert publication.share_used == 0 and not publication.is_full
    room = ROOM - REGION_PLACE.size
    assert publication.has_room(unit(0, 1, size=room)) and not publication.has_room(unit(0, 1, size=room + 1))
    publication.publish(unit(0, 1, size=room - 64))
    assert publication.has_room(unit(0, 2, size=56)) and not publication.has_room(unit(0, 2, size=57))
    publication.publish(unit(0, 2, size=56))
    assert publication.is_full and publication.share_used == 1


def test_room_for_pages(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REGION_PAGES", 3)
    publication = memory.translator()
    publication.publish(unit(0, 1, 2))
    assert publication.has_room(unit(2, 1, 3)) and publication.has_room(unit(2, 2))
    assert not publication.has_room(unit(2, 3, 4)) and not publication.has_room(unit(2, 1, 2, 3, 4))
    assert REGION_PAGES > 3
