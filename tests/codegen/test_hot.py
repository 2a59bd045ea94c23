"""What becomes hot, and which of several regions a hart enters where they overlap."""

from __future__ import annotations

import ctypes

import pytest

from mpemu.layout import HEAT, KNOWN_GUEST, POINTS_PER_EXIT, POINTS_PER_QUICK_EXIT, POINTS_PER_SAMPLE
from mpemu.unit import QUICK
from tests.codegen.lab import A0, A1, asm
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab, lab_fixture

START = RAM + 0x2_0000
LOOP = START + 8
CODE = (
    asm("addi", rd=A0, rs1=0, imm=9)
    + asm("addi", rd=A1, rs1=0, imm=0)
    + asm("add", rd=A1, rs1=A1, rs2=A0)
    + asm("addi", rd=A0, rs1=A0, imm=-1)
    + asm("bne", rs1=A0, rs2=0, imm=-8)
)
"""Something with a loop in it: its region can be entered at the loop, too."""

lab = lab_fixture(TranslatedLab, by_tier=True)


def entered(lab: TranslatedLab, address: int) -> int:
    """The handler of the record there."""
    return ctypes.c_uint32.from_address(lab.record(address)).value


@pytest.mark.parametrize("first", [LOOP, START], ids=["loop", "start"])
def test_the_first_region_stays(lab: TranslatedLab, first: int) -> None:
    """For a hart that was there when they were made, and for one that finds both when it decodes the page."""
    lab.place(START, CODE)
    assert lab.done(START).x[A1] == 45
    assert lab.translate(first) == 1
    before = entered(lab, LOOP)
    assert before >= lab.blob.regions_start
    lab.translate(START, LOOP)
    assert entered(lab, START) >= lab.blob.regions_start
    assert entered(lab, LOOP) == before
    lab.restart()
    assert entered(lab, LOOP) == before


def test_a_guest_that_was_translated_before(lab: TranslatedLab) -> None:
    """Where regions from the cache are in use, a place that none of them covers must be hotter."""
    lab.place(START, CODE)
    hart = lab.done(START)
    hart.hotness, hart.hotness_known = POINTS_PER_SAMPLE, 4 * POINTS_PER_SAMPLE
    for cached, enough in ((KNOWN_GUEST - 1, 1), (KNOWN_GUEST, 4)):
        hart.cached_regions = cached
        hart.heat[:] = [0] * HEAT
        record, requests = lab.record(START), hart.requests
        for _ in range(enough):
            assert hart.requests == requests
            lab.routine("warm", record, POINTS_PER_SAMPLE)
        assert hart.requests == requests + 1


def test_what_an_optimised_region_leads_to_is_hot_sooner(lab: TranslatedLab) -> None:
    """Than what a quick one leads to, though not as soon as where samples are."""
    left = START + 0x100
    lab.place(START, asm("addi", rd=A0, rs1=0, imm=1), asm("bne", rs1=A1, rs2=0, imm=left - START - 4))
    lab.place(left, asm("addi", rd=A0, rs1=0, imm=2))
    assert lab.done(START, x11=0).x[A0] == 1
    assert lab.translate(START) == 1 and left not in lab.translated([left])
    lab.hart().hotness = POINTS_PER_SAMPLE
    lab.hart().heat[:] = [0] * HEAT
    for _ in range(3):
        assert lab.done(START, x11=1).x[A0] == 2
    points = POINTS_PER_QUICK_EXIT if lab.hart().first_tier == QUICK else POINTS_PER_EXIT
    assert sum(lab.hart().heat) % POINTS_PER_SAMPLE == 3 * points  # and a sample where each run ended
