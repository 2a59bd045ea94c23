"""Run states: only legal changes happen, whatever is tried."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.errors import StateError
from mpemu.runstate import PARKED, TRANSITIONS, RunState, RunStates


@given(st.lists(st.sampled_from(RunState)))
def test_any_sequence(wanted: list[RunState]) -> None:
    states = RunStates()
    history = [states.now]
    states.listeners.append(lambda old, new: history.append(new))
    for state in wanted:
        before = states.now
        if state in TRANSITIONS[before]:
            states.go(state)
            assert states.now is state
        else:
            with pytest.raises(StateError, match=before.value):
                states.go(state)
            assert states.now is before
    assert all(new in TRANSITIONS[old] for old, new in pairwise(history))


def test_shape_of_the_table() -> None:
    assert set(TRANSITIONS) == set(RunState)
    ends = {state for state, ways in TRANSITIONS.items() if not ways}
    assert ends == {RunState.SHUTDOWN, RunState.CRASHED}
    for state in set(RunState) - ends:
        assert RunState.CRASHED in TRANSITIONS[state], "a process may die at any time"
    # a running hart is only left by stopping it first
    assert TRANSITIONS[RunState.RUNNING] - {RunState.CRASHED} == {RunState.STOPPING}
    assert RunState.RUNNING not in PARKED and RunState.STOPPING not in PARKED
