"""The compiler's process: takes jobs from the translator through a socket, one at a time, and answers with units.

With the builder it is the only process that loads LLVM. It maps no memory of the machine: whatever goes wrong here
costs one region. Messages are msgpack, a job ``[head, [[distance, page], ...], rank]``, an answer ``[entries, code,
distances, origins, entry, page_numbers, instructions, us, alignment]`` or a text that says what failed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import msgpack  # type: ignore[import-untyped]

import mpemu.isa.instructions  # noqa: F401  (fills the instruction table)
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.linker import link
from mpemu.codegen.origins import origins
from mpemu.codegen.region import PAGE_NUMBERS, region_ir
from mpemu.codegen.shape import Source
from mpemu.isa.profiles import IsaSpec
from mpemu.unit import Kind, Unit, pack_origins

REGION = "region"
SMALLEST = 2
"""Guest instructions that a region must have to be worth its entry."""


def translate(
    isa: IsaSpec,
    symbols: dict[str, int],
    pages: Mapping[int, bytes],
    head: int,
    kind: Kind,
    located: bool = False,
) -> Unit:
    """The unit whose first instruction is at ``head`` of ``pages[0]``; the other pages are by their distance from it.

    A unit without code stands for "not worth while". ``symbols`` are the interpreter's. ``located``: with
    origins.
    """
    began = time.process_time_ns()
    region = region_ir(isa, Source(pages.get, kind=kind), head, symbols, REGION, located)
    if region.instructions < SMALLEST:
        return Unit((head,), region.pages, b"", 0, 0, region.instructions, 0, kind=kind)
    made = compile_object(region.text)
    linked = link(made)
    us = (time.process_time_ns() - began) // 1000
    entry, page_numbers = linked.symbols[REGION], linked.symbols.get(PAGE_NUMBERS, 0)
    found = pack_origins(origins(made, entry, region.places)) if located else b""
    numbers = entry, page_numbers, region.instructions, us, linked.alignment
    return Unit(region.entries, region.pages, linked.data, *numbers, kind, found)


def serve(connection: socket.socket, isa: str, symbols: dict[str, int], located: bool = False) -> None:
    """Answer jobs until the other end is closed."""
    spec = IsaSpec.parse(isa)
    jobs = msgpack.Unpacker()
    while data := connection.recv(1 << 16):
        jobs.feed(data)
        for head, pages, rank in jobs:
            try:
                unit = translate(spec, symbols, dict(pages), head, Kind.of_rank(rank), located)
            except Exception as error:  # whatever is wrong with one region: the guest goes on interpreting it
                connection.sendall(msgpack.packb(" ".join(f"{type(error).__name__}: {error}".split())))
                continue
            distances = [distance for distance, _ in unit.pages]
            entries = list(unit.entries)
            numbers = unit.entry, unit.page_numbers, unit.instructions, unit.us, unit.alignment
            connection.sendall(msgpack.packb([entries, unit.code, distances, unit.origins, *numbers]))
