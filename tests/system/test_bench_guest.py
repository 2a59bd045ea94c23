"""The benchmark's kernels compute the same everywhere, and each has its place in the report."""

from __future__ import annotations

import pytest

from bench.goals import group_of
from bench.guest import run_kernels
from bench.report import Comparison
from bench.sides import Settings
from tests.system.emulators import missing

SHORT = Settings(ms=1, warm_ms=1)


@pytest.mark.parametrize("harts", [1, 2])
def test_kernels_agree_with_the_host(harts: int) -> None:
    """18 kernels in M- and S-mode, 3 that are about privilege."""
    sides = [side for side in ("mpemu", "qemu") if not missing(side)]
    if not sides:
        pytest.skip("; ".join(map(missing, ("mpemu", "qemu"))))
    comparison = Comparison()
    for side in ("native", *sides):
        comparison.add(side, "alone", 1, run_kernels(side, "alone", harts, SHORT))
    assert comparison.wrong_checks() == []
    assert len(comparison.rows) == 39
    assert all(group_of(kernel, harts) for kernel, _, _ in comparison.rows)


@pytest.mark.parametrize("harts", [1, 2])
@pytest.mark.parametrize("side", ["mpemu", "qemu"])
def test_smp_kernels_end_and_count(side: str, harts: int) -> None:
    if missing(side):
        pytest.skip(missing(side))
    samples = run_kernels(side, "smp", harts, SHORT)
    assert len(samples) == (10 if harts > 1 else 6)
    assert all(s.work > 0 and s.first_work > 0 and s.seconds > 0 and group_of(s.kernel, harts) for s in samples)
