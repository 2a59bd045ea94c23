"""Regions that don't fit what they access: after some time one that is made carefully is used (codegen/refit.py).

A loop works on an object that lies across two pages, which are neighbours for the guest but not in RAM, or on a device.
(Windows that are not there: test_windows.py.)
"""

from __future__ import annotations

from mpemu.codegen.refit import OFTEN
from mpemu.layout import HEAT_ROUND, REGION_EXITS
from mpemu.unit import CAREFUL, OPTIMISED, QUICK
from tests.codegen.lab import A0, A2, A3, A4, A, D, R, V, W, asm
from tests.codegen.native_hart import RAM
from tests.codegen.paged_program import CODE, PAGE, SMALL, Program, loop
from tests.codegen.translated import lab_fixture

FIRST = 6
FRAMES = (RAM + 0x8_3000, RAM + 0x8_1000)
ACROSS, WITHIN = SMALL + (FIRST + 1) * PAGE - 8, SMALL + FIRST * PAGE + 64
TURNS = 4 * OFTEN


class Objects(Program):
    def __init__(self) -> None:
        super().__init__()
        # a1 times: a0 += (a2) + (a2 + 8), (a2 + 16) = a0
        self.place(CODE, loop(asm("ld", rd=A3, rs1=A2, imm=0) + asm("ld", rd=A4, rs1=A2, imm=8)
                              + asm("add", rd=A3, rs1=A3, rs2=A4) + asm("add", rd=A0, rs1=A0, rs2=A3)
                              + asm("sd", rs1=A2, rs2=A0, imm=16)), asm("ebreak"))  # fmt: skip
        for index, frame in enumerate(FRAMES):
            self.map(FIRST + index, frame, V | R | W | A | D)
        for address in (FRAMES[0] + 64, FRAMES[0] + PAGE - 8):
            self.store(address, 1)
        for address in (FRAMES[0] + 72, FRAMES[1]):
            self.store(address, 2)
        self.asks_at_exits(False)
        self.work(WITHIN)

    def make(self, tier: int) -> None:
        self.asks_at_exits(True)
        self.hart().first_tier, self.hart().hotness_2 = tier, 1
        assert self.translate(CODE) == 1 and self.units[-1].kind.tier == tier
        self.hart().hotness_2 = HEAT_ROUND
        self.asks_at_exits(False)

    def work(self, va: int, turns: int = TURNS) -> int:
        """How often the region was refused, or left for an access."""
        exits, reasons = self.hart().region_exits, [REGION_EXITS.index(name) for name in ("miss", "unfit")]
        before = sum(exits[n] for n in reasons)
        self.hart().mcause = 0
        self.run(SMALL, priv=1, quantum=100 * turns, x10=0, x11=turns, x12=va)
        assert self.hart().x[A0] == 3 * turns
        return sum(exits[n] for n in reasons) - before


lab = lab_fixture(Objects)


def test_an_object_across_pages(lab: Objects) -> None:
    lab.make(QUICK)
    lab.make(OPTIMISED)
    assert lab.work(WITHIN) <= 2
    assert OFTEN <= lab.work(ACROSS) < 2 * OFTEN
    assert lab.work(ACROSS) <= 2, "the quick one"
    lab.serve()
    assert lab.units[-1].kind.tier == CAREFUL
    assert lab.work(ACROSS) <= 2 and lab.work(WITHIN) <= 2
    assert lab.translated([CODE]) == {CODE}


def test_an_object_across_pages_now_and_then(lab: Objects) -> None:
    """The region stays in use."""
    lab.make(QUICK)
    lab.make(OPTIMISED)
    for _ in range(3):
        assert 0 < lab.work(ACROSS, OFTEN // 2) < OFTEN
        lab.work(WITHIN, TURNS * 4)
    assert lab.work(ACROSS, OFTEN // 2) > 2


def test_a_region_that_never_comes_is_asked_for_less_and_less(lab: Objects) -> None:
    lab.make(OPTIMISED)
    hart = lab.hart()
    before = hart.requests + hart.requests_dropped
    held_up = lab.work(ACROSS, 16 * OFTEN)
    assert held_up > 8 * OFTEN
    assert hart.requests + hart.requests_dropped - before == (held_up // OFTEN).bit_length()


def test_no_quick_region(lab: Objects) -> None:
    """So it stays until there is a careful one."""
    lab.make(OPTIMISED)
    for _ in range(2):
        assert lab.work(ACROSS) > 2 * OFTEN
    lab.serve()
    assert lab.work(ACROSS) < 2 * OFTEN
    assert lab.work(ACROSS) <= 2
