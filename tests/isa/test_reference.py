"""The reference model: predication, routines, traps, interrupts, small programs."""

from __future__ import annotations

import pytest
from small_machine import DATA, RAM, cause, execute, machine, place

from mpemu.isa.hart import Hart, Routine
from mpemu.isa.reference_core import Core, GuestTrap
from mpemu.isa.value import Value

TRUE, FALSE = Value(1, 1), Value(0, 1)


@pytest.fixture
def hart() -> Core:
    return machine()[0]


# -- predication


def test_effects_happen_only_where_the_conditions_hold(hart: Core) -> None:
    log = hart.local(0)
    for outer, inner in ((TRUE, TRUE), (TRUE, FALSE), (FALSE, TRUE), (FALSE, FALSE)):
        log.set(0)
        with hart.when(outer):
            with hart.when(inner):
                log.set(log.get() | 1)
            with hart.otherwise():
                log.set(log.get() | 2)
            log.set(log.get() | 4)
        with hart.otherwise():
            log.set(log.get() | 8)
        expected = (5 if inner.raw else 6) if outer.raw else 8
        assert log.get().raw == expected


def test_nothing_happens_in_a_when_that_does_not_hold(hart: Core) -> None:
    before = list(hart.x.values), dict(hart.s.values)
    with hart.when(FALSE):
        hart.x[5] = Value(1, 64)
        hart.s.mepc = 4
        hart.jump(Value(8, 64))
        hart.trap(2)
        hart.illegal()
    assert (list(hart.x.values), dict(hart.s.values)) == before
    assert hart.target is None


def test_accesses_in_a_when_that_does_not_hold_are_not_made() -> None:
    (hart,) = machine()
    nowhere = Value(0, 64)
    with hart.when(FALSE):
        hart.store(nowhere, Value(1, 64))
        assert hart.load(nowhere, 32).raw == 0
        assert hart.amo("add", nowhere, nowhere, 0, 0).raw == 0
        assert hart.load_reserved(nowhere, 64, 0, 0).raw == 0
        hart.zero_block(nowhere)
    assert not hart.bus.reservations


def make_routine(function: object, *parameters: str) -> Routine:
    return Routine("test", function, parameters, "")  # type: ignore[arg-type]


def test_ret_ends_a_routine_from_inside_a_when(hart: Core) -> None:
    def body(h: Hart, a: Value) -> None:
        with h.when(a == 1):
            h.ret(10)
            h.s.mepc = 99
        h.s.mtval = 7
        h.ret(20)

    made = make_routine(body, "a")
    assert hart.call(made, 1).raw == 10
    assert (hart.s.values["mepc"], hart.s.values["mtval"]) == (0, 0)
    assert hart.call(made, 2).raw == 20
    assert hart.s.values["mtval"] == 7


def test_a_routine_that_falls_off_its_end_gives_zero_and_its_caller_goes_on(hart: Core) -> None:
    made = make_routine(lambda h: None)
    with hart.when(TRUE):
        assert hart.call(made).raw == 0
        hart.s.mepc = 4
    assert hart.s.values["mepc"] == 4


def test_a_routine_under_a_false_condition_is_not_called(hart: Core) -> None:
    made = make_routine(lambda h: h.trap(2))
    with hart.when(FALSE):
        assert hart.call(made).raw == 0


def test_a_trap_in_a_routine_leaves_the_hart_usable(hart: Core) -> None:
    def body(h: Hart) -> None:
        with h.when(TRUE):
            h.trap(13, 0x123)

    with pytest.raises(GuestTrap, match="cause 13, tval 0x123"), hart.when(TRUE):
        hart.call(make_routine(body))
    assert hart.live


def test_mistakes_in_bodies_are_named(hart: Core) -> None:
    hart.name = "example"
    with pytest.raises(TypeError, match=r"example: when\(\) takes a 1-bit condition, not 64 bits"), hart.when(hart.pc):
        pass
    with pytest.raises(TypeError, match="example: registers have 64 bits, not 32"):
        hart.x[1] = Value(0, 32)
    with pytest.raises(TypeError, match="example: test takes 1 arguments"):
        hart.call(make_routine(lambda h, a: None, "a"))
    with pytest.raises(AttributeError, match="no state field 'mepcc'"):
        hart.s.mepcc = 1


# -- programs


def test_a_loop() -> None:
    """Sum of 1 to 100."""
    (hart,) = machine()
    place(
        hart,
        ("addi", {"rd": 10, "rs1": 0, "imm": 100}),
        ("add", {"rd": 11, "rs1": 11, "rs2": 10}),
        ("addi", {"rd": 10, "rs1": 10, "imm": -1}),
        ("bne", {"rs1": 10, "rs2": 0, "imm": -8}),
    )
    assert hart.run(301) == 301
    assert hart.x.values[11] == 5050
    assert (hart.s.values["pc"], hart.retired) == (RAM + 16, 301)


def test_compressed_and_full_instructions_mix() -> None:
    (hart,) = machine()
    place(hart, 0x4529 | 0x0513 << 16, 0x0015 | 0x952A << 16)  # c.li a0, 10; addi a0, a0, 1; c.add a0, a0
    assert hart.run(3) == 3
    assert (hart.x.values[10], hart.s.values["pc"]) == (22, RAM + 8)


def test_stores_to_code_are_executed() -> None:
    """Without FENCE.I a hart may see them, and here it does: nothing is cached."""
    (hart,) = machine()
    place(hart, ("sw", {"rs1": 6, "rs2": 7, "imm": 8}), ("fence.i", {}), ("addi", {"rd": 5, "rs1": 0, "imm": 1}))
    hart.x.values[6:8] = RAM, 0x0020_0293  # addi t0, zero, 2
    hart.run(3)
    assert hart.x.values[5] == 2


@pytest.mark.parametrize(("word", "bits"), [(0, 0), (0xFFFF_FFFF, 0xFFFF_FFFF), (0x1234_0000, 0)])
def test_illegal_instructions_report_their_bits(word: int, bits: int) -> None:
    (hart,) = machine()
    place(hart, word)
    hart.step()
    assert cause(hart) == (2, bits)


def test_a_trapping_instruction_does_not_retire() -> None:
    (hart,) = machine()
    execute(hart, "ecall")
    assert cause(hart) == (11, 0)
    assert hart.s.values["mepc"] == RAM
    assert hart.retired == 0


def test_a_misaligned_load_across_pages_faults_at_the_page_that_is_missing() -> None:
    (hart,) = machine()
    place(hart, ("ld", {"rd": 5, "rs1": 6, "imm": 0}))
    root, middle, leaf = RAM + 0x8000, RAM + 0x9000, RAM + 0xA000
    pte = lambda pa, flags: pa >> 12 << 10 | flags  # noqa: E731
    hart.bus.write(root, 8, pte(middle, 1), 0)
    hart.bus.write(middle, 8, pte(leaf, 1), 0)
    hart.bus.write(leaf + 8 * 4, 8, pte(DATA, 0xC7), 0)
    hart.bus.write(root + 8 * 2, 8, pte(RAM & -(1 << 30), 0xCF), 0)  # 0x8000_0000 maps itself
    hart.s.values.update(satp=8 << 60 | root >> 12, priv=1)
    hart.s.values.update({"pmpcfg_0": 0x1F, "pmpaddr_0": (1 << 54) - 1, "pmp_first_0": 0, "pmp_end_0": 1 << 52})
    hart.s.values["pmp_count"] = 1
    hart.x.values[5:7] = 77, 0x4FFC
    hart.step()
    assert cause(hart) == (13, 0x5000)
    assert hart.x.values[5] == 77


def test_a_misaligned_store_across_the_end_of_ram_faults_at_what_is_behind_it() -> None:
    (hart,) = machine()
    place(hart, ("sd", {"rs1": 6, "rs2": 7, "imm": 0}))
    end = RAM + len(hart.bus.ram)
    before = bytes(hart.bus.ram[-8:])
    hart.x.values[6:8] = end - 4, 77
    hart.step()
    assert cause(hart) == (7, end)
    assert hart.bus.ram[-8:] == before


# -- interrupts


def test_an_interrupt_is_taken_before_the_next_instruction() -> None:
    (hart,) = machine()
    place(hart, *[("addi", {"rd": 5, "rs1": 5, "imm": 1})] * 2)
    place(hart, ("addi", {"rd": 6, "rs1": 6, "imm": 1}), at=RAM + 0x1000)
    hart.s.values.update(mie=1 << 7, mstatus=1 << 3)
    hart.step()
    hart.lines = 1 << 7
    hart.step()
    assert (hart.s.values["mcause"], hart.s.values["mepc"]) == (1 << 63 | 7, RAM + 4)
    assert hart.x.values[5:7] == [1, 1], "the handler's first instruction has run"


def test_waiting_ends_with_an_interrupt_even_if_it_is_not_taken() -> None:
    (hart,) = machine()
    place(hart, ("wfi", {}), ("addi", {"rd": 5, "rs1": 0, "imm": 1}))
    hart.s.values["mie"] = 1 << 3
    assert hart.run(10) == 1
    hart.lines = 1 << 3
    assert hart.step()
    assert hart.x.values[5] == 1


def test_the_supervisor_timer_follows_the_clock() -> None:
    (hart,) = machine()
    now = 0
    hart.clock = lambda: now
    hart.s.values.update(menvcfg=1 << 63, stimecmp=100)
    assert not hart.irq_lines().raw & 1 << 5
    now = 100
    assert hart.irq_lines().raw & 1 << 5
