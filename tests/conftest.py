"""Random inputs are new in every local run; CI repeats the same ones, so that its verdict is about the change."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
