"""What rows are to be compared with: the groups that kernels belong to, and the speed that each is to reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bench.linux import BOOT


class Measure(Enum):
    """The number of a row (or of a group's geometric mean) that a goal is about; more is better for all of them."""

    QEMU = "mpemu/QEMU"
    NATIVE = "mpemu/native"
    COLD = "cold/QEMU"  # first passes, with nothing translated
    RATE = "per second"
    SCALING = "over one hart"


@dataclass(frozen=True)
class Goal:
    measure: Measure
    least: float
    text: str


GROUPS = {
    "integer": ("CoreMark-like", "sort", "crc", "state machine", "list", "strings", "matmul int"),
    "floating point": ("matmul float", "matmul double", "n-body", "Mandelbrot"),
    "calls": ("Dhrystone-like", "recursive calls", "indirect calls"),
    "memory": ("memcpy", "fill", "triad", "pointer chase"),
    "system": ("system calls", "page faults", "satp switches"),
    "atomics": ("spin lock", "ticket lock", "amoadd shared", "amoadd private", "LR/SC shared", "LR/SC private"),
    "waiting": ("barrier", "flag ping-pong", "IPI polled", "IPI WFI"),
    "scaling": ("scaling",),
    "machine": ("start and end", "far MMIO, asleep", "far MMIO, burst", f"Linux: {BOOT}"),
}
"""Kernels by what they are about; the guest's are in guests/bench. Programs in Linux are a group of their own."""
_GROUP = {kernel: group for group, kernels in GROUPS.items() for kernel in kernels}
LINUX_PROGRAMS = "Linux programs"
CONTENDED = "contended"
WITHOUT_MEAN = ("machine", "scaling")
"""Groups of which a mean says nothing."""


def group_of(kernel: str, harts: int) -> str:
    """The group; KeyError for an unknown kernel. Atomics and waits are contended as soon as there are two harts."""
    if kernel not in _GROUP and kernel.startswith("Linux: "):
        return LINUX_PROGRAMS
    group = _GROUP[kernel]
    return CONTENDED if group in ("atomics", "waiting") and harts > 1 else group


def _over_qemu(ratio: float) -> Goal:
    return Goal(Measure.QEMU, ratio, f">= {ratio:g}x QEMU")


_ONE_HART = {
    "Dhrystone-like": _over_qemu(5),
    "matmul double": _over_qemu(4),
    "n-body": _over_qemu(4),
    "Mandelbrot": _over_qemu(4),
}
_OTHERS = {
    ("scaling", 2): (Goal(Measure.SCALING, 1.95, ">= 1.95x one hart"),),
    ("IPI polled", 2): (Goal(Measure.RATE, 3e6, ">= 3 M/s"),),
    ("IPI WFI", 2): (Goal(Measure.RATE, 20e3, ">= 20 k/s"),),
    (f"Linux: {BOOT}", 4): (
        Goal(Measure.QEMU, 1 / 0.8, "<= 0.8x QEMU's time"),
        Goal(Measure.COLD, 1 / 1.5, "cold <= 1.5x QEMU's time"),
    ),
}


def goals_of(kernel: str, harts: int) -> tuple[Goal, ...]:
    """What a row is to reach."""
    if (kernel, harts) in _OTHERS:
        return _OTHERS[kernel, harts]
    if harts == 1 and kernel in _ONE_HART:
        return (_ONE_HART[kernel],)
    group = group_of(kernel, harts)
    if group == CONTENDED and not kernel.startswith("IPI"):
        return (_over_qemu(1),)
    return (_over_qemu(1.3),) if group == LINUX_PROGRAMS else ()


def goals_of_group(group: str, harts: int) -> tuple[Goal, ...]:
    """What the geometric mean of a group's rows is to reach."""
    if (group, harts) == ("integer", 1):
        return _over_qemu(2.5), Goal(Measure.NATIVE, 0.7, ">= 0.7x native")
    return ()
