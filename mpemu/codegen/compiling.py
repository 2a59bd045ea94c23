"""The compiler's process: takes jobs from the translator through a socket, one at a time, and answers with units.

With the builder it is the only process that loads LLVM. It maps no memory of the machine: whatever goes wrong here
costs one region. Messages are msgpack: a job ``[head, rank, distances]`` names the pages that are known around. A
number asks for one, and is answered by ``[page, reached]``, 4096 and 256 bytes (surroundings.py); ``[place]`` asks for
targets of the jump there, and is answered by a list of places. The answer is a list of a unit's fields (:func:`answer`)
or a text that says what failed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import msgpack  # type: ignore[import-untyped]

import mpemu.isa.instructions  # noqa: F401  (fills the instruction table)
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.linker import link
from mpemu.codegen.origins import origins
from mpemu.codegen.region import PAGE_NUMBERS, region_ir
from mpemu.codegen.shape import Source
from mpemu.codegen.surroundings import SLOTS, Surroundings
from mpemu.isa.profiles import IsaSpec
from mpemu.unit import SMALLEST, Kind, Unit, pack_origins

REGION = "region"


def translate(
    isa: IsaSpec,
    symbols: dict[str, int],
    code: Surroundings,
    head: int,
    kind: Kind,
    located: bool = False,
) -> Unit:
    """The unit whose first instruction is at ``head`` of the page at distance 0.

    A unit without code stands for "not worth while". ``symbols`` are the interpreter's. ``located``: with
    origins.
    """
    began = time.process_time_ns()
    region = region_ir(isa, Source(code.page, code.is_reached, code.targets, kind), head, symbols, REGION, located)
    if region.instructions < SMALLEST:
        return Unit((head,), region.pages, b"", 0, 0, region.instructions, 0, kind=kind)
    made = compile_object(region.text)
    linked = link(made)
    us = (time.process_time_ns() - began) // 1000
    entry, page_numbers = linked.symbols[REGION], linked.symbols.get(PAGE_NUMBERS, 0)
    found = pack_origins(origins(made, entry, region.places)) if located else b""
    numbers = entry, page_numbers, region.instructions, us, linked.alignment
    learnt = region.contains, region.left_out, found, region.guesses
    return Unit(region.entries, region.pages, linked.data, *numbers, kind, *learnt)


class Closed(BaseException):
    """The other end is gone."""


def receiver(connection: socket.socket) -> Callable[[], Any]:
    """A function that waits for the next message. Closed."""
    messages = msgpack.Unpacker()

    def receive() -> Any:
        while True:
            for message in messages:
                return message
            data = connection.recv(1 << 16)
            if not data:
                raise Closed
            messages.feed(data)

    return receive


def answer(unit: Unit) -> list[Any]:
    """What the other end makes a unit of (compilers.py)."""
    distances = [distance for distance, _ in unit.pages]
    contains = [bits.to_bytes(SLOTS // 8, "little") for bits in unit.contains]
    numbers = unit.entry, unit.page_numbers, unit.instructions, unit.us, unit.alignment
    lists = list(unit.left_out), list(chain.from_iterable(unit.guesses))
    return [list(unit.entries), distances, unit.code, contains, *lists, unit.origins, *numbers]


def serve(connection: socket.socket, isa: str, symbols: dict[str, int], located: bool = False) -> None:
    """Answer jobs until the other end is closed."""
    spec, receive = IsaSpec.parse(isa), receiver(connection)

    def ask(distance: int) -> tuple[bytes, int]:
        connection.sendall(msgpack.packb(distance))
        page, reached = receive()
        return page, int.from_bytes(reached, "little")

    def targets(place: int) -> list[int]:
        connection.sendall(msgpack.packb([place]))
        found: list[int] = receive()
        return found

    with suppress(Closed):
        while True:
            head, rank, distances = receive()
            try:
                code = Surroundings(distances, ask, targets)
                unit = translate(spec, symbols, code, head, Kind.of_rank(rank), located)
            except Exception as error:  # whatever is wrong with one region: the guest goes on interpreting it
                connection.sendall(msgpack.packb(" ".join(f"{type(error).__name__}: {error}".split())))
                continue
            connection.sendall(msgpack.packb(answer(unit)))
