"""How long to spin before sleeping, learned from how long the last waits were."""

from __future__ import annotations

from os import sched_yield
from time import monotonic_ns
from typing import Protocol

LONGEST_NS = 50_000
"""About what going to sleep and being woken costs: to spin longer can't pay."""

WORTHWHILE_NS = 150_000
"""A wait this short is traffic. More than LONGEST_NS, as the other end may have slept, which it won't if we don't."""

YIELD_NS = 5_000
"""After this long the core is offered to others, as the other end may be waiting for just this one."""

LOOKS = 8
"""Looks between two looks at the clock."""


class Look(Protocol):
    def __call__(self) -> bool: ...


class AdaptiveSpin:
    """The budget is LONGEST_NS after a wait that was short enough, and halves down to 0 after others."""

    def __init__(self) -> None:
        self.budget_ns = LONGEST_NS

    def until(self, ready: Look) -> bool:
        """Spin until ``ready()`` or the budget is used up; whether it became ready."""
        if ready():
            return True
        if not self.budget_ns:
            return False
        now = monotonic_ns()
        end, offer = now + self.budget_ns, now + YIELD_NS
        while now < end:
            for _ in range(LOOKS):
                if ready():
                    return True
            now = monotonic_ns()
            if now >= offer:
                sched_yield()
                offer = now + YIELD_NS
        return False

    def learn(self, waited_ns: int) -> None:
        """A wait, spinning and sleeping together, took this long."""
        if waited_ns < WORTHWHILE_NS:
            self.budget_ns = LONGEST_NS
        else:
            self.budget_ns = self.budget_ns // 2 if self.budget_ns > 1000 else 0
