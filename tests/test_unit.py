"""Files of translated units: what was written is read, and nothing that could lead outside its code is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from mpemu.private_file import Refused, seal
from mpemu.unit import (
    GENERATIONS,
    MAGIC,
    NOWHERE,
    OPTIMISED,
    Kind,
    Origin,
    Unit,
    decode_units,
    encode_units,
    fits,
    pack_origins,
    page_digest,
    supersedes,
)

PATH = Path("some.units")
HEAD, NEXT, OTHER = (bytes([n]) * 4096 for n in (1, 2, 3))
ONE = Unit((0,), ((0, HEAD),), b"\xcc" * 16, 4, 0, 10, 1000)
RENEWED = Kind(OPTIMISED, True, 2)
PAGES_OF_TWO = (0, HEAD), (-2, OTHER), (1, NEXT)
LEARNT: Any = (1 << 2047, 1, 0), (-8192, 6), b"", ((8, -4), (8, 16)), (0, 4, 8)
TWO = Unit((4094, 0, 20), PAGES_OF_TWO, b"\xcc" * 16, 0, 8, 20, 2000, 4096, RENEWED, *LEARNT)
NOTHING = Unit((8,), ((0, HEAD), (1, HEAD)), b"", 0, 0, 1, 0)


def test_what_was_written_is_read() -> None:
    data = encode_units("key", "rv64i", [ONE, TWO, NOTHING])
    file = decode_units(PATH, data)
    assert (file.key, file.isa, file.units) == ("key", "rv64i", [ONE, TWO, NOTHING])
    assert len(data) < 4 * 4096, "pages are stored once"


def test_origins_are_kept() -> None:
    origins = [Origin(0, NOWHERE), Origin(4, -4096), Origin(9, 16)]
    unit = replace(ONE, origins=pack_origins(reversed(origins)))
    (found,) = decode_units(PATH, encode_units("key", "rv64i", [unit])).units
    assert list(found.iter_origins()) == origins


def test_a_unit_is_known_by_what_it_was_made_from() -> None:
    assert len({ONE.identity, TWO.identity, NOTHING.identity}) == 3
    same = Unit((0,), ((0, HEAD),), b"other code", 0, 0, 1, 0)
    assert same.identity == ONE.identity
    assert same.dependencies == ((0, page_digest(HEAD)),)


def test_pages_around_a_head_page() -> None:
    pages = {0: HEAD, 1: NEXT, -2: OTHER}
    assert fits(TWO.dependencies, pages.get)
    assert fits(ONE.dependencies, pages.get)
    for distance in pages:
        assert not fits(TWO.dependencies, {**pages, distance: bytes(4096)}.get)
        assert fits(TWO.dependencies, {d: page for d, page in pages.items() if d != distance}.get), "not known"


def test_a_unit_that_was_made_anew() -> None:
    first = Unit((0,), ((0, HEAD), (1, NEXT)), b"\xcc" * 16, 4, 0, 10, 1000)
    assert first.kind.renewed == Kind(OPTIMISED, generation=1) and RENEWED.renewed is None
    assert first.kind.rank < Kind(OPTIMISED, generation=2).rank < RENEWED.rank
    assert Kind.of_rank(RENEWED.rank) == RENEWED and RENEWED.first == Kind(OPTIMISED, True)
    renewed = Unit((0,), ((0, HEAD), (1, NEXT), (2, OTHER)), b"", 0, 0, 20, 0, kind=Kind(OPTIMISED, generation=1))
    assert renewed.identity != first.identity
    assert supersedes(renewed, first) and not supersedes(first, renewed)
    elsewhere = Unit((0,), ((0, HEAD), (1, OTHER)), b"", 0, 0, 20, 0, kind=Kind(OPTIMISED, generation=1))
    assert not supersedes(elsewhere, first), "other pages around"


GOOD = msgpack.unpackb(encode_units("key", "rv64i", [TWO])[len(MAGIC) + 32 :])


NAMES = (
    *(
        "entries",
        "places",
        "code",
        "contains",
        "left_out",
        "guesses",
        "origins",
        "starts",
        "entry",
        "page_numbers",
        "instructions",
        "us",
        "alignment",
    ),
    "rank",
)


def changed(**fields: Any) -> dict[str, Any]:
    """The content with fields of its only unit replaced."""
    row = [fields.get(name, value) for name, value in zip(NAMES, GOOD["units"][0], strict=True)]
    return {**GOOD, "units": [row]}


BAD: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "no units": {**GOOD, "units": []},
    "no pages": {**GOOD, "pages": []},
    "a short page": {**GOOD, "pages": [HEAD, OTHER, NEXT[1:]]},
    "a key that is bytes": {**GOOD, "key": b"key"},
    "a unit that is short": {**GOOD, "units": [GOOD["units"][0][:-1]]},
    "the head outside": changed(entries=[4096]),
    "the head at an odd place": changed(entries=[0, 1]),
    "the head negative": changed(entries=[-2]),
    "the head no number": changed(entries=["0"]),
    "no head": changed(entries=[]),
    "heads that are no list": changed(entries=0),
    "a rank that is none": changed(rank=1),
    "a rank that is too high": changed(rank=(2 * OPTIMISED + 2) * GENERATIONS),
    "bits that are a number": changed(contains=[1, 2, 3]),
    "bits that are too few": changed(contains=[b"", b"", b""]),
    "bits of fewer pages": changed(contains=[bytes(256)]),
    "places left out that are none": changed(left_out=["0"]),
    "guesses that are none": changed(guesses=["0", 4]),
    "half a guess": changed(guesses=[0, 4, 8]),
    "the entry behind the code": changed(entry=16),
    "the entry in front": changed(entry=-1),
    "the entry no int": changed(entry=0.5),
    "page numbers outside": changed(page_numbers=9),
    "page numbers in front": changed(page_numbers=-4),
    "starts of fewer entries": changed(starts=[0, 4]),
    "a start behind the code": changed(starts=[0, 4, 16]),
    "a start that is none": changed(starts=[0, 4, "8"]),
    "an odd alignment": changed(alignment=3),
    "no alignment": changed(alignment=0),
    "code that is text": changed(code="code"),
    "origins that are text": changed(origins="origins"),
    "half an origin": changed(origins=bytes(12)),
    "no places": changed(places=[]),
    "no head page": changed(places=[[1, 0]]),
    "places out of order": changed(places=[[0, 0], [1, 1], [-2, 2]]),
    "a place twice": changed(places=[[0, 0], [1, 1], [1, 2]]),
    "the head's place twice": changed(places=[[0, 0], [0, 1]]),
    "a place too far away": changed(places=[[0, 0], [1 << 40, 1]]),
    "a page that is missing": changed(places=[[0, 0], [1, 3]]),
    "a page before the first": changed(places=[[0, 0], [1, -1]]),
    "another head page": changed(places=[[0, 1]]),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_checksum_does_not_make_it_a_file_of_units(content: Any) -> None:
    with pytest.raises(Refused, match=r"some\.units: not what a file of units holds"):
        decode_units(PATH, seal(MAGIC, msgpack.packb(content)))


def test_the_unchanged_content_is_good() -> None:
    assert decode_units(PATH, seal(MAGIC, msgpack.packb(changed()))).units == [TWO]


def test_another_version() -> None:
    with pytest.raises(Refused, match="not a code file of this version"):
        decode_units(PATH, seal(b"mpemu-units-0\n", msgpack.packb(GOOD)))
