"""The reference model: instruction definitions executed directly in Python. Slow, plain, the oracle of the tests.

    hart = ReferenceHart(IsaSpec.parse("rv64gc"), PhysicalBus(bytearray(1 << 20)))
    hart.reset(pc=0x8000_0000)
    hart.run(1000)
    hart.x.values[10]

Interrupt lines are :attr:`ReferenceHart.lines`, mip's bits; devices are :class:`MmioRange` on the bus; mtime is what
``clock`` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpemu.isa import instructions, registry  # noqa: F401  (the former fills the table)
from mpemu.isa.fp import DYN, FORMATS, INTEGERS
from mpemu.isa.hart import Hart, Operand
from mpemu.isa.privileged import FS
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference_core import GuestTrap, number
from mpemu.isa.reference_memory import MemoryVerbs, MmioRange, PhysicalBus
from mpemu.isa.softfloat import evaluate
from mpemu.isa.state import STATE
from mpemu.isa.value import Value

__all__ = ["GuestTrap", "MmioRange", "PhysicalBus", "ReferenceHart"]

SSIP, STIP = 1 << 1, 1 << 5
STCE = 1 << 63
INTERRUPT = 1 << 63


class ReferenceHart(MemoryVerbs):
    """A hart. It implements the Hart protocol for bodies, and :meth:`step` and :meth:`run` for its user."""

    isa: IsaSpec

    def __init__(self, isa: IsaSpec, bus: PhysicalBus, hartid: int = 0, clock: Callable[[], int] | None = None) -> None:
        super().__init__(isa, bus, hartid)
        self.clock = clock or (lambda: self.retired)
        self._decoded: dict[int, tuple[registry.Insn, dict[str, int], int] | None] = {}
        self.reset(0)

    def reset(self, pc: int, **registers: int) -> None:
        """The architectural reset state; ``registers`` by ABI name or number: ``reset(pc, a0=0, x5=1)``."""
        hartid = self.hartid
        self.s.values.update({field.name: field.reset for field in STATE})
        self.s.values.update(pc=pc, hartid=hartid)
        self.x.values[:] = [0] * 32
        self.f.values[:] = [0] * 32
        self.retired = self.fflags = self.lines = 0
        self.waiting = False
        self._begin()
        for name, value in registers.items():
            self.x.values[registry.x_number(name)] = value

    # -- running
    def step(self) -> bool:
        """Take an interrupt that is due, then execute one instruction or take its trap. False: still waiting (WFI)."""
        self._begin()
        pending = self._enabled_and_pending()
        if self.waiting and not pending:
            return False
        self.waiting = False
        if pending:
            cause = number(self.call("pending_interrupt"))
            if cause:
                self._enter_trap(cause, 0)
        self._begin()
        try:
            self._execute()
        except GuestTrap as trap:
            self._begin()
            self._enter_trap(trap.cause, trap.tval)
        return True

    def run(self, steps: int) -> int:
        """Up to ``steps`` steps, fewer if the hart waits for an interrupt; how many were made."""
        for done in range(steps):
            if not self.step():
                return done
        return steps

    def _execute(self) -> None:
        self.bits = self.fetch()
        decoded = self.decode(self.bits)
        if decoded is None:
            self.name = "illegal"
            self.illegal()
            return
        insn, operands, self.length = decoded
        self.name = insn.name
        insn.body(self, *(operands[name] for name in insn.operands))
        self.s.values["pc"] = number(self.next_pc) if self.target is None else self.target
        self.retired += 1

    def decode(self, word: int) -> tuple[registry.Insn, dict[str, int], int] | None:
        if word not in self._decoded:
            self._decoded[word] = registry.decode(word, self.isa.extensions)
        return self._decoded[word]

    def _enter_trap(self, cause: int, tval: int) -> None:
        self.call("take_trap", cause, tval, self.pc)  # sets pc

    def _enabled_and_pending(self) -> bool:
        """What ends WFI: an interrupt that mie enables, whether the current mode takes it or not."""
        pending = number(self.irq_lines()) | self.s.values["mip"]
        return bool(pending & self.s.values["mie"])

    def context_changed(self, target: Value | None = None) -> None:
        """Everything is looked at anew before each instruction."""
        if target is not None:
            self.jump(target)

    # -- time, interrupts, waiting
    def irq_lines(self) -> Value:
        lines = self.lines & ~STIP
        if self.s.values["menvcfg"] & STCE and self.clock() >= self.s.values["stimecmp"]:
            lines |= STIP
        return Value(lines, 64)

    def set_ssip(self, value: Operand) -> None:
        if self.live:
            self.lines = self.lines | SSIP if number(value) & 1 else self.lines & ~SSIP

    def time(self) -> Value:
        return Value(self.clock(), 64)

    def instret(self) -> Value:
        return Value(self.retired, 64)

    def timer_changed(self) -> None:
        """STIP is computed whenever it is read."""

    def wait_for_interrupt(self) -> None:
        if self.live:
            self.waiting = True

    def wait_on_reservation(self, short: bool) -> None:
        """Allowed to be over at once."""

    def pause(self) -> None:
        """A hint."""

    # -- floating point
    def fp(self, op: str, fmt: str, *operands: Value, rm: Operand = 0, to: str = "") -> Value:
        width = 64
        if op not in ("eq", "lt", "le", "class"):
            width = (INTEGERS[to] if to in INTEGERS else FORMATS[to or fmt]).width
        if not self.live:
            return Value(0, width)
        mode = self.s.values["frm"] if number(rm) == DYN else number(rm)
        bits, flags = evaluate(op, fmt, [number(o) for o in operands], mode, to)
        self.fflags |= flags
        return Value(bits, width)

    def fp_flags(self) -> Value:
        return Value(self.fflags, 5)

    def set_fp_flags(self, flags: Value) -> None:
        if self.live:
            self.fflags = number(flags) & 31

    def set_fp_rounding(self, frm: Value) -> None:
        """frm is read from the state where it matters."""

    def fp_dirty(self) -> None:
        self.s.mstatus = self.s.mstatus | FS


if TYPE_CHECKING:

    def _implements_the_protocol(hart: ReferenceHart) -> Hart:
        return hart
