"""CSR access: the routines that ``isa/csr_table.py`` becomes. Zicsr, and "CSR Address Mapping Conventions".

Both dispatch on a number that is known when the instruction runs; as a chain of comparisons with constants, which LLVM
makes a jump table of. Where the number is a constant, only its row is generated.
"""

from __future__ import annotations

from collections.abc import Iterator

from mpemu.isa.csr_table import CSRS, Csr
from mpemu.isa.hart import Hart, routine
from mpemu.isa.value import Value


def _rows(h: Hart, number: Value) -> Iterator[Csr]:
    """The rows that the hart's extensions bring and ``number`` may be one of."""
    for csr in CSRS:
        if (not csr.ext or h.isa.has(csr.ext)) and csr.covers(number).constant != 0:
            yield csr


@routine
def csr_read(h: Hart, number: Value) -> None:
    """The CSR's value; an illegal instruction if it may not be accessed at all."""
    with h.when(h.s.priv.ltu((number >> 8) & 3)):
        h.illegal()
    for csr in _rows(h, number):
        with h.when(csr.covers(number)):
            if csr.denied:
                with h.when(csr.denied(h, number)):
                    h.illegal()
            h.ret(csr.read(h))
    h.illegal()


@routine
def csr_write(h: Hart, number: Value, value: Value, mask: Value) -> None:
    """Write the bits of ``mask``, behind a csr_read of the same number, which has checked everything but read-only."""
    with h.when(((number >> 10) & 3) == 3):
        h.illegal()
    for csr in _rows(h, number):
        if csr.write:
            with h.when(csr.covers(number)):
                csr.write(h, value, mask)
                h.ret()
