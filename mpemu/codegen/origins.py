"""Which guest instruction host code comes from, for profiles: goes through LLVM as line numbers of debug information.

Off unless somebody profiles: the code is the same, but takes some 20 % more time to make.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from elftools.elf.elffile import ELFFile

from mpemu.unit import NOWHERE, Origin


def origins(object_file: bytes, start: int, places: Sequence[int]) -> Iterator[Origin]:
    """Of an object with one function, which is linked to offset ``start``: where each run of its code comes from. Line
    n + 1 stands for ``places[n - 1]``, and line 1 for none."""
    debug = ELFFile(io.BytesIO(object_file)).get_dwarf_info(relocate_dwarf_sections=False)  # relative to the function
    for unit in debug.iter_CUs():
        before = None
        program = debug.line_program_for_CU(unit)
        for row in program.get_entries() if program else ():
            if row.state is None:
                continue
            line = 0 if row.state.end_sequence else row.state.line
            place = places[line - 2] if 2 <= line < len(places) + 2 else NOWHERE
            if place != before:
                yield Origin(start + row.state.address, place)
            before = place
