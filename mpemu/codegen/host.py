"""The host instructions that generated code needs by name, for x86-64. The floating-point part is in fp_x86.py.

On x86-64 (TSO) relaxed atomics are plain moves, and of the orders that RVWMO fences ask for only store -> load needs an
instruction (unprivileged spec, RVWMO; docs/design).
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder
from mpemu.isa.hart import Operand
from mpemu.isa.value import Value

_INPUT, _OUTPUT, _READ, _WRITE = 8, 4, 2, 1
_TSO = 8


def _value(operand: Operand) -> Value:
    return Value(operand, 64) if isinstance(operand, int) else operand


def guest_fence(b: Builder, predecessors: Operand, successors: Operand, fm: Operand) -> None:
    """FENCE: a full host fence if writes or outputs come before and reads or inputs behind, but for FENCE.TSO."""
    before, behind = _value(predecessors), _value(successors)
    store_load = ((before & (_WRITE | _OUTPUT)) != 0) & ((behind & (_READ | _INPUT)) != 0)
    with b.when(store_load & (_value(fm) != _TSO)):
        b.fence()


def pause(b: Builder) -> None:
    """Tell the core that this is a spin loop."""
    b.line('call void asm sideeffect "pause", ""()')
