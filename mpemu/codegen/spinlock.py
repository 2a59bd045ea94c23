"""Waiting for a word that another process holds for a moment: a device's lock, a granule's version.

The holder may have lost its core, so a waiter gives away its own now and then. It may also have been killed. Harts then
wait on: the coordinator is about to notice and to end the machine. The coordinator itself waits for a bounded time and
then takes what a dead hart holds, or it could never notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mpemu.codegen.routines import Native
from mpemu.isa.value import Value
from mpemu.layout import MAX_HARTS

COORDINATOR = MAX_HARTS
"""hartid of the struct that the coordinator runs native code with (vcpu/near.py)."""
TURNS = 256
"""Pauses between two looks at what else there is to do, some microseconds."""
DEAD_NS = 1_000_000_000
"""Holders need microseconds; who has not come back after a second is dead or stopped by a debugger."""


@contextmanager
def until_held(h: Native) -> Iterator[Callable[[], None]]:
    """``with until_held(h) as held:`` try to take the word, call ``held()`` on success.

    Behind it the word is the caller's, or (coordinator only) was that of a dead hart: whatever releases it does for
    both, since the value that it holds says so.
    """
    turns, began = h.local(0), h.local(0)
    with h.loop() as done:
        yield done
        h.b.module.host.pause(h.b)
        turns.set(turns.get() + 1)
        with h.when((turns.get() & (TURNS - 1)) == 0):
            h.host("sched_yield", "")
            with h.when(h.s.hartid == COORDINATOR):
                now = h.call("host_ns")
                with h.when(began.get() == 0):
                    began.set(now)
                with h.when((now - began.get()).gtu(Value(DEAD_NS, 64))):
                    done()


def take(h: Native, lock: str) -> None:
    """Take the lock that a MACHINE item is: 0, or hart + 1 of the holder."""
    with until_held(h) as held:
        _, mine = h.b.compare_exchange(h.machine(lock), Value(0, 64), h.s.hartid + 1)
        with h.when(mine):
            held()


def release(h: Native, lock: str) -> None:
    h.put(h.machine(lock), 0, order="release")
