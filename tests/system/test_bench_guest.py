"""The benchmark's kernels compute the same everywhere, and its lines are understood."""

from __future__ import annotations

import pytest

from bench.report import Comparison
from bench.sides import BenchError, Sample, parse, run_side
from tests.system.emulators import missing


def test_kernels_agree_with_the_host() -> None:
    comparison = Comparison()
    comparison.add("native", run_side("native", "alone", 1, 1))
    sides = [side for side in ("mpemu", "qemu") if not missing(side)]
    if not sides:
        pytest.skip("; ".join(map(missing, ("mpemu", "qemu"))))
    for side in sides:
        comparison.add(side, run_side(side, "alone", 1, 1))
    assert comparison.wrong_checks() == []
    assert len(comparison.rows) == 39  # 18 kernels in M- and S-mode, 3 that are about privilege


@pytest.mark.parametrize("side", ["mpemu", "qemu"])
def test_smp_kernels_end_and_count(side: str) -> None:
    if missing(side):
        pytest.skip(missing(side))
    samples = run_side(side, "smp", 2, 1)
    assert [s.kernel for s in samples if s.kernel in ("barrier", "flag ping-pong", "IPI WFI")] and len(samples) == 10
    assert all(s.work > 0 and s.seconds > 0 for s in samples)


def test_a_line_that_is_cut_off_is_an_error() -> None:
    assert parse("hello\nbench a b|unit|M|2|10|20000000|4|6|ff\n") == [
        Sample("a b", "unit", "M", 2, 10, 2.0, 4, 6, "ff")
    ]
    with pytest.raises(BenchError, match="not a line"):
        parse("bench a|b")
