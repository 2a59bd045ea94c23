"""The arithmetic of the report, on made-up samples."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench.goals import GROUPS, Measure
from bench.report import Comparison, Row
from bench.samples import BenchError, Sample, once, parse
from bench.table import duration, human, show


def sample(kernel: str, rate: float, *, harts: int = 1, mode: str = "M", first: float = 0, check: str = "c") -> Sample:
    """``rate`` units in one second; ``first`` a second in the first pass."""
    share = int(rate * 1000) // harts
    first_work = int((first or rate) * 1000)
    return Sample(kernel, "units", mode, harts, int(rate * 1000), 1000, share, share, check, first_work, 1000)


def comparison(kernel: str, harts: int = 1, **rates: list[float]) -> Comparison:
    """One row with these rates by side and round."""
    made = Comparison()
    for side, values in rates.items():
        for number, rate in enumerate(values):
            made.add(side.replace("_", "-"), "alone", number, [sample(kernel, rate, harts=harts)])
    return made


def printed(made: Comparison, sides: tuple[str, ...] = ("mpemu", "qemu", "native")) -> str:
    output = io.StringIO()
    show(Console(file=output, width=240), made, sides)
    return output.getvalue()


def test_a_line_becomes_a_sample() -> None:
    [found] = parse("hello\nbench a b|unit|M|2|10|20000000|4|6|ff|3|5000000\n")
    assert found == Sample("a b", "unit", "M", 2, 10, 2.0, 4, 6, "ff", 3, 0.5)
    assert (found.rate, found.first_rate, found.key) == (5.0, 6.0, ("a b", "M", 2))


@pytest.mark.parametrize("line", ["bench a|b", "bench a|b|M|x|10|20|4|6|ff|3|5", "bench a|b|M|1|9|0|9|9|f|3|5"])
def test_a_broken_line_is_an_error_that_keeps_what_came_before(line: str) -> None:
    with pytest.raises(BenchError, match="not a line") as error:
        parse(f"bench a|u|M|1|1|10|1|1|f|1|10\n{line}\n")
    assert [s.kernel for s in error.value.samples] == ["a"]


def test_ratios_are_taken_within_rounds() -> None:
    """The host ran at half speed in the second round: each round says 2x, whatever the medians of the sides are."""
    row = comparison("sort", mpemu=[200, 100, 200], qemu=[100, 50]).rows["sort", "M", 1]
    assert row.ratio("mpemu", "qemu") == 2
    assert row.rate("mpemu") == 200
    assert row.spread("mpemu") == pytest.approx(0.5)
    assert row.ratio("mpemu", "native") is None


def test_where_nothing_happened_there_is_no_ratio() -> None:
    made = comparison("sort", mpemu=[0, 0], qemu=[100, 50])
    row = made.rows["sort", "M", 1]
    assert row.ratio("mpemu", "qemu") is row.ratio("qemu", "mpemu") is row.spread("mpemu") is None
    assert "sort" in printed(made)


def test_one_round_has_no_spread() -> None:
    assert comparison("sort", mpemu=[5]).rows["sort", "M", 1].spread("mpemu") is None


def test_fairness_is_of_several_harts_only() -> None:
    row = Row("units", "smp", {"mpemu": {1: Sample("spin lock", "u", "M", 2, 30, 1, 10, 20, "", 1, 1)}})
    assert row.fairness("mpemu") == 0.5
    assert comparison("sort", mpemu=[5]).rows["sort", "M", 1].fairness("mpemu") is None


def test_from_cold_compares_first_passes() -> None:
    made = Comparison()
    made.add("mpemu-cold", "alone", 1, [sample("sort", 100, first=30)])
    made.add("qemu", "alone", 1, [sample("sort", 10, first=60)])
    assert made.value(("sort", "M", 1), Measure.COLD) == 0.5


def test_native_is_the_limit_of_both_modes() -> None:
    made = Comparison()
    for mode, rate in (("M", 8.0), ("S", 4.0)):
        made.add("mpemu", "alone", 1, [sample("sort", rate, mode=mode)])
    made.add("native", "alone", 1, [sample("sort", 16, mode="native")])
    assert [made.value(("sort", mode, 1), Measure.NATIVE) for mode in "MS"] == [0.5, 0.25]


def test_native_threads_are_harts_in_m_mode() -> None:
    made = Comparison()
    made.add("native", "smp", 1, [sample("spin lock", 16, harts=2, mode="native")])
    assert list(made.rows) == [("spin lock", "M", 2)]


def test_geometric_means_by_group() -> None:
    made = Comparison()
    for kernel, over in (("sort", 2.0), ("crc", 8.0), ("n-body", 3.0), ("scaling", 9.0)):
        made.add("mpemu", "alone", 1, [sample(kernel, 10 * over)])
        made.add("qemu", "alone", 1, [sample(kernel, 10)])
    values = {mean.group: mean.values for mean in made.means()}
    assert values.keys() == {"integer", "floating point"}
    assert values["integer"] == {Measure.QEMU: pytest.approx(4)}
    assert values["floating point"][Measure.QEMU] == pytest.approx(3)


@pytest.mark.parametrize("count", [7, 6])
def test_only_the_mean_of_a_whole_group_is_held_against_its_goal(count: int) -> None:
    made = Comparison()
    for kernel in GROUPS["integer"][:count]:
        made.add("mpemu", "alone", 1, [sample(kernel, 30)])
        made.add("qemu", "alone", 1, [sample(kernel, 10)])
    [mean] = made.means()
    assert mean.values[Measure.QEMU] == pytest.approx(3)
    assert [v.reached for v in mean.verdicts()] == [True if count == 7 else None, None]  # the second: over native


@pytest.mark.parametrize(("rate", "reached"), [(50, True), (49, False)])
def test_a_goal_over_qemu(rate: float, reached: bool) -> None:
    made = comparison("Dhrystone-like", mpemu=[rate], qemu=[10])
    assert [v.reached for v in made.verdicts(("Dhrystone-like", "M", 1))] == [reached]


def test_a_goal_without_the_other_side_is_open() -> None:
    made = comparison("Dhrystone-like", mpemu=[50])
    assert [v.reached for v in made.all_verdicts()] == [None]


def test_scaling_is_measured_against_one_hart() -> None:
    made = Comparison()
    for harts, rate in ((1, 10.0), (2, 19.6)):
        made.add("mpemu", "scaling", 1, [sample("scaling", rate, harts=harts)])
    assert made.scaling("mpemu")[2] == pytest.approx(1.96)
    assert [v.reached for v in made.verdicts(("scaling", "M", 2))] == [True]


def test_linux_goals_are_times() -> None:
    """0.8 of QEMU's time with a warm cache, 1.5 times with a cold one."""
    made, key = Comparison(), ("Linux: boot to the shell", "S", 4)
    for side, seconds in (("mpemu", 0.79), ("mpemu-cold", 1.6), ("qemu", 1.0)):
        made.add(side, "linux", 1, [once(*key[:1], "run", "S", 4, seconds)])
    assert [v.reached for v in made.verdicts(key)] == [True, False]


def test_different_results_are_named() -> None:
    made = Comparison()
    made.add("mpemu", "alone", 1, [sample("sort", 1, check="a"), sample("crc", 1)])
    made.add("qemu", "alone", 1, [sample("sort", 1, check="b"), sample("crc", 1)])
    assert made.wrong_checks() == ["sort (M, 1 hart): a, b"]


def test_the_text_names_what_is_missing_and_what_falls_short() -> None:
    made = comparison("spin lock", harts=2, mpemu=[1.0, 2.0, 3.0])
    made.absent["qemu", "alone"] = "QEMU is not installed"
    made.failures["native", "alone", 2] = "exit code 3"
    text = printed(made)
    assert "not installed" in text and "failed" in text and "QEMU is not installed" in text and "exit code 3" in text
    assert "0 of" not in text
    text = printed(comparison("spin lock", harts=2, mpemu=[1.0], qemu=[2.0]))
    assert "0 of 1 reached" in text and "short of >= 1x QEMU: spin lock (M, 2 harts), 0.50x" in text


def test_sides_that_nobody_asked_for_have_no_column() -> None:
    assert "native" not in printed(comparison("sort", mpemu=[1.0]), ("mpemu", "native")).splitlines()[2].split()


def test_json_has_every_row_and_goal() -> None:
    made = comparison("Dhrystone-like", mpemu=[60.0, 50.0], qemu=[10.0, 10.0])
    made.absent["native", "alone"] = "no compiler"
    read = json.loads(json.dumps(made.as_json()))
    [row], [mean] = read["rows"], read["means"]
    assert row["rates"] == {"mpemu": [60, 50], "qemu": [10, 10]} and row["mpemu/QEMU"] == 5.5
    assert row["goals"] == [{"goal": ">= 5x QEMU", "least": 5, "value": 5.5, "reached": True}]
    assert mean["group"] == "calls" and mean["mpemu/QEMU"] == pytest.approx(5.5)
    assert read["absent"] == [{"side": "native", "set": "alone", "reason": "no compiler"}]


def test_numbers_for_people() -> None:
    assert [human(x) for x in (12.345, 1234, 5_678_000, 2e9)] == ["12.3", "1.23 k", "5.68 M", "2 G"]
    assert [duration(x) for x in (2.5, 0.0123, 4.2e-6)] == ["2.5 s", "12.3 ms", "4.2 us"]
