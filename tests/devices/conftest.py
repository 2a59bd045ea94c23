"""Fixtures for device tests."""

from __future__ import annotations

import pytest

from tests.devices.machine_fakes import FakeMachine


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()
