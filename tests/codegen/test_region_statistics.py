"""What harts count about regions, polls and timers."""

from __future__ import annotations

from typing import Any

from mpemu.layout import REGION_EXITS, REGION_VISIT
from tests.codegen.lab import A0, A1, A3, EBREAK, asm
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab, lab_fixture

CODE, DATA = RAM + 0x2_0000, RAM + 0x3_0000
ALL_ONES = (1 << 64) - 1


lab = lab_fixture(TranslatedLab)


def place(lab: TranslatedLab, *code: bytes, at: int = CODE) -> None:
    lab.memory.write(at, b"".join(code) + EBREAK.to_bytes(4, "little"))


def counts(hart: Any) -> tuple[int, int, dict[str, int]]:
    """Visits and instructions of the slice so far, and the exits by reason."""
    visits, instructions = divmod(hart.region_work, REGION_VISIT)
    exits = {why: n for why, n in zip(REGION_EXITS, hart.region_exits, strict=True) if n}
    return visits, instructions, exits


def run(lab: TranslatedLab, address: int = CODE, quantum: int = 5000) -> None:
    hart = lab.hart()
    hart.pc = address
    lab.resume(quantum=quantum)


LOOP = (asm("addi", rd=A0, rs1=A0, imm=-1), asm("bne", rs1=A0, rs2=0, imm=-4))


def test_instructions_in_a_region(lab: TranslatedLab) -> None:
    place(lab, *LOOP)
    assert lab.translate(CODE) == 1
    lab.hart().x[A0] = 1000
    before = lab.hart().instret
    run(lab)
    visits, instructions, exits = counts(lab.hart())
    assert lab.hart().x[A0] == 0 and visits == 1 and instructions == 2000
    assert lab.hart().instret - before > 2000  # the handler's loop is interpreted
    assert sum(exits.values()) == 1 and set(exits) <= {"slow instruction", "interpreter"}


def test_a_miss_is_told_from_a_slow_instruction(lab: TranslatedLab) -> None:
    load = asm("ld", rd=A1, rs1=A3, imm=0)
    place(lab, asm("sub", rd=A3, rs1=A3, rs2=0), load, load)
    assert lab.translate(CODE) == 1
    lab.hart().x[A3] = DATA
    run(lab)
    _, _, exits = counts(lab.hart())
    assert "miss" not in exits  # the region fills the TLB in itself
    lab.hart().x[A3] = 8
    run(lab)
    _, _, exits = counts(lab.hart())
    assert exits["miss"] == 1  # no memory is there


def test_the_end_of_a_slice_sums_up(lab: TranslatedLab) -> None:
    place(lab, *LOOP)
    lab.translate(CODE)
    hart = lab.hart()
    hart.x[A0] = 10_000
    hart.pc, hart.slice_end, hart.quantum_end = CODE, hart.instret, hart.instret + 20_000
    before = sum(hart.poll_distance)
    assert lab.engines[0].run()
    assert hart.region_visits >= 2 and hart.region_instructions >= 16_000
    assert hart.region_exits[REGION_EXITS.index("poll")] >= 2
    assert sum(hart.poll_distance) - before == 3  # one slice was over at once
    assert sum(hart.poll_distance[3:]) == 0  # this loop looks around at every other instruction


def test_a_timer_is_late_by_the_ticks_behind_its_deadline(lab: TranslatedLab) -> None:
    place(lab, *LOOP)
    hart = lab.hart()
    hart.x[A0] = 10
    hart.mtimecmp = 1000
    lab.routine("update_timers")
    lab.memory.machine.clock_value = 1005
    hart.pc, hart.slice_end, hart.quantum_end = CODE, hart.instret, hart.instret + 100
    lab.engines[0].run()
    assert hart.lines[1] == 1
    assert [bucket for bucket, n in enumerate(hart.timer_lateness) if n] == [3]  # 4 to 7
    assert hart.deadline == ALL_ONES
