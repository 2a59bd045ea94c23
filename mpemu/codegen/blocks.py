"""Loops of native routines: over indices, and over host memory in blocks of 64 bytes, a vector at a time."""

from __future__ import annotations

from collections.abc import Callable

from mpemu.codegen.routines import Native
from mpemu.isa.value import Value

LANES = 8
"""Elements of u64 in a block."""
BLOCK_SHIFT = 6
BLOCK = 1 << BLOCK_SHIFT
VECTOR = f"<{LANES} x i64>"


def for_each(h: Native, count: int | Value, body: Callable[[Value], None]) -> None:
    """``body(i)`` for i in 0 .. count-1."""
    index = h.local(0)
    with h.loop() as done:
        i = index.get()
        with h.when(i == count):
            done()
        body(i)
        index.set(index.get() + 1)


def each_block(h: Native, size: int | Value, body: Callable[[Value], None]) -> None:
    """``body(offset)`` for each block of ``size`` bytes, a multiple of 64."""
    for_each(h, size // BLOCK if isinstance(size, int) else size >> BLOCK_SHIFT, lambda i: body(i << BLOCK_SHIFT))


def constant_vector(element: int) -> str:
    return "<" + ", ".join([f"i64 {element}"] * LANES) + ">"


def fill_block(h: Native, start: str, size: int | Value, byte: int) -> None:
    """memset to 0 or 0xFF; ``size`` a multiple of 64. (No libc in generated code: it would be a relocation.)"""
    vector = constant_vector(-1 if byte else 0)
    each_block(h, size, lambda o: h.b.line(f"store {VECTOR} {vector}, ptr {h.b.pointer(start, o)}, align 8"))


assert BLOCK == 8 * LANES
