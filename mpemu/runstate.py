"""The run states of a machine and the legal ways between them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from mpemu.errors import StateError


class RunState(Enum):
    """``value`` is the name that users see."""

    CREATED = "created"
    """Processes exist, nothing has run yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """The harts have been asked to park; not all have."""
    PAUSED = "paused"
    """All harts are parked; may go on."""
    RESETTING = "resetting"
    """All harts are parked; devices and memory are brought to their power-on state."""
    SHUTDOWN = "shutdown"
    """The end: the guest powered off, or the user ended it."""
    CRASHED = "crashed"
    """The end: a vCPU process died or gave up."""


TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.CREATED: frozenset({RunState.RESETTING, RunState.SHUTDOWN, RunState.CRASHED}),
    RunState.RUNNING: frozenset({RunState.STOPPING, RunState.CRASHED}),
    RunState.STOPPING: frozenset({RunState.PAUSED, RunState.CRASHED}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.RESETTING, RunState.SHUTDOWN, RunState.CRASHED}),
    RunState.RESETTING: frozenset({RunState.PAUSED, RunState.CRASHED}),
    RunState.SHUTDOWN: frozenset(),
    RunState.CRASHED: frozenset(),
}

PARKED = frozenset({RunState.CREATED, RunState.PAUSED, RunState.RESETTING, RunState.SHUTDOWN})
"""States in which no hart executes anything."""


class RunStates:
    """The present state; every change is checked against the table and told to the listeners."""

    def __init__(self) -> None:
        self.now = RunState.CREATED
        self.listeners: list[Callable[[RunState, RunState], None]] = []

    @property
    def ended(self) -> bool:
        """Whether no other state can follow."""
        return not TRANSITIONS[self.now]

    def go(self, new: RunState) -> None:
        """Change the state. :class:`StateError` if there is no such way."""
        old = self.now
        if new not in TRANSITIONS[old]:
            ways = ", ".join(sorted(s.value for s in TRANSITIONS[old])) or "nothing"
            raise StateError(f"the machine is {old.value}, which can become {ways}, but not {new.value}")
        self.now = new
        for listener in list(self.listeners):
            listener(old, new)
