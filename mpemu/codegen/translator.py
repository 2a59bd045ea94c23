"""The translator's process: takes requests of vCPUs, compiles regions, publishes them. codegen/hot.py has the protocol.

With the builder it is the only process that imports llvmlite. What it publishes is complete before anybody can see it:
the code, then the page and the region's entry, then the counts.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpemu.isa.instructions  # noqa: F401  (fills the instruction table)
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.hot import page_hash
from mpemu.codegen.linker import link
from mpemu.codegen.region import region_ir
from mpemu.fence import order_fence
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import MAX_REGIONS, PAGE, REGION_ENTRY, REGION_PAGES, REQUEST, REQUESTS, TRANSLATOR
from mpemu.vcpu.blob_file import read_blob

PR_SET_PDEATHSIG = 1
NICENESS = 5
"""Guests go first: until a region is there they are interpreted."""
REGION = "region"
SMALLEST = 2
"""Guest instructions that a region must have to be worth its entry."""


@dataclass(frozen=True)
class Work:
    """``view`` is TRANSLATOR, ``code`` the memory of regions; its first byte has handler offset ``first_offset``.
    ``symbols`` are the interpreter's."""

    isa: IsaSpec
    symbols: dict[str, int]
    view: Any
    code: mmap.mmap
    first_offset: int
    doorbell: int


class Translator:
    """State of the process: what has been translated, and where the next code goes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pages: dict[bytes, int] = {}
        self._done: set[tuple[bytes, int]] = set()
        self._position = 0
        self._entries = (REGION_ENTRY.ctype * MAX_REGIONS).from_buffer(work.view, TRANSLATOR.offset["regions"])

    def serve(self) -> None:
        """Answer all requests that are ready."""
        view = self._work.view
        for number in range(REQUESTS):
            request = REQUEST.ctype.from_buffer(view, TRANSLATOR.offset["requests"] + number * REQUEST.size)
            if request.state == 2:
                order_fence()
                page, offset = bytes(request.page), request.offset & (PAGE - 2)
                order_fence()
                request.state = 0
                if (page, offset) not in self._done:
                    self._done.add((page, offset))
                    # whatever is wrong with one region: the guest goes on interpreting it
                    try:
                        self._translate(page, offset)
                    except Exception:
                        view.failed += 1

    def _translate(self, page: bytes, offset: int) -> None:
        view = self._work.view
        if view.published == MAX_REGIONS or (page not in self._pages and len(self._pages) == REGION_PAGES):
            return
        began = time.process_time_ns()
        ir, instructions = region_ir(self._work.isa, page, offset, self._work.symbols, REGION)
        if instructions < SMALLEST:
            return
        linked = link(compile_object(ir))
        code = linked.data
        self._position = -(-self._position // linked.alignment) * linked.alignment
        if self._position + len(code) > len(self._work.code):
            return
        self._work.code[self._position : self._position + len(code)] = code
        at = self._work.first_offset + self._position + linked.symbols[REGION]
        view.code_end = self._work.first_offset + self._position + len(code)
        self._publish(self._page_number(page), offset, at)
        self._position += len(code)
        view.units_translated += 1
        view.instructions += instructions
        view.compile_us += (time.process_time_ns() - began) // 1000
        view.code_bytes += len(code)

    def _page_number(self, page: bytes) -> int:
        view = self._work.view
        if page not in self._pages:
            number = len(self._pages)
            start = TRANSLATOR.offset["page_copy"] + number * PAGE
            memoryview(view).cast("B")[start : start + PAGE] = page
            view.page_hash[number] = page_hash(page)
            order_fence()
            view.pages = number + 1
            self._pages[page] = number
        return self._pages[page]

    def _publish(self, page: int, offset: int, code: int) -> None:
        view = self._work.view
        number = view.published
        entry = self._entries[number]
        entry.page, entry.offset, entry.code, entry.next = page, offset, code, view.page_first[page]
        order_fence()  # the entry, and the code itself
        view.page_first[page] = number + 1
        order_fence()
        view.published = number + 1


def main(isa: str, blob: str, segment: str, regions: str, doorbell: str) -> None:
    """Serve until killed: by the coordinator, or by the kernel when that dies. The last three are descriptors."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the coordinator decides what these mean
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    file = read_blob(Path(blob))
    first_offset = -(-len(file.code) // mmap.PAGESIZE) * mmap.PAGESIZE
    shared = mmap.mmap(int(segment), TRANSLATOR.size)
    code = mmap.mmap(int(regions), 0)
    view = TRANSLATOR.view(shared)
    translator = Translator(Work(IsaSpec.parse(isa), file.symbols, view, code, first_offset, int(doorbell)))
    while True:
        os.eventfd_read(int(doorbell))
        translator.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
