"""Why a vCPU's native loop returns to Python: one table, used by the generator, the run loop and the statistics."""

from __future__ import annotations

from enum import IntEnum

OK, TRAP, EXIT = 0, 1, 2
"""Status of a native routine: it has a result; the guest takes an exception; leave the native loop."""


class ExitReason(IntEnum):
    """``doc`` (the member's comment in EXIT_DOCS) says who handles it."""

    NONE = 0
    MMIO = 1
    KICK = 2
    STOP = 3
    WFI = 4
    QUANTUM = 5
    BREAKPOINT = 6
    INTERNAL = 7


EXIT_DOCS: dict[ExitReason, str] = {
    ExitReason.NONE: "not exited yet",
    ExitReason.MMIO: "a far MMIO access: sent to the coordinator, the reply is latched and the instruction runs again",
    ExitReason.KICK: "somebody asked for attention: the vCPU reads its messages",
    ExitReason.STOP: "the machine stops: the vCPU parks until it is told to go on",
    ExitReason.WFI: "the hart waits for an interrupt and slept long enough to look at its messages",
    ExitReason.QUANTUM: "deterministic mode: the hart's turn is over",
    ExitReason.BREAKPOINT: "a debugger's breakpoint",
    ExitReason.INTERNAL: "the native loop met something that it can't handle; a bug, reported with the hart's state",
}
