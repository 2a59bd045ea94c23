"""Host code of regions can be traced to guest instructions, and is the same code with and without that."""

from __future__ import annotations

import pytest

from mpemu.codegen.compiling import translate
from mpemu.codegen.stitching import Stitcher
from mpemu.codegen.surroundings import Surroundings
from mpemu.isa.profiles import IsaSpec
from mpemu.layout import PAGE
from mpemu.unit import NOWHERE, OPTIMISED, QUICK, Kind, Unit
from tests.codegen.lab import A0, A1, A2, asm
from tests.codegen.native_hart import blob

HEAD = 0x100
LOOP = b"".join((
    asm("ld", rd=A2, rs1=A1, imm=0),
    asm("mul", rd=A0, rs1=A0, rs2=A2),
    asm("sd", rs1=A1, rs2=A0, imm=8),
    asm("addi", rd=A1, rs1=A1, imm=16),
    asm("bne", rs1=A1, rs2=A2, imm=-16),
))  # fmt: skip
FAR = PAGE - HEAD
"""From the head to the next page."""


def made(code: bytes, located: bool, tier: int = OPTIMISED, far: bytes = b"") -> Unit:
    page = (bytes(HEAD) + code).ljust(PAGE, b"\0")
    pages = {0: page, 1: far.ljust(PAGE, b"\0")}
    isa, around, kind = IsaSpec.parse("max"), Surroundings.of(pages), Kind(tier)
    if tier == QUICK:
        return Stitcher(isa, blob().stencils, located).unit(around, HEAD, kind)
    return translate(isa, blob().symbols, around, HEAD, kind, located)


@pytest.mark.parametrize("tier", [QUICK, OPTIMISED])
def test_every_instruction_is_found(tier: int) -> None:
    plain, unit = made(LOOP, False, tier), made(LOOP, True, tier)
    assert unit.code == plain.code and not plain.origins
    origins = list(unit.iter_origins())
    assert {place for _, place in origins} - {NOWHERE} >= set(range(HEAD, HEAD + len(LOOP), 4))
    starts = [start for start, _ in origins]
    assert starts == sorted(starts) and starts[0] == unit.entry and starts[-1] <= len(unit.code)
    assert origins[-1].place == NOWHERE


def test_places_on_other_pages() -> None:
    back = asm("jal", rd=0, imm=-FAR - 4)
    unit = made(asm("addi", rd=A0, rs1=A0, imm=1).ljust(4, b"\0") + asm("jal", rd=0, imm=FAR), True, far=back)
    assert {place for _, place in unit.iter_origins()} <= {NOWHERE, HEAD, HEAD + 4, PAGE + 4, PAGE + 8, PAGE}
