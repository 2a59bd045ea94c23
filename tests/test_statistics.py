"""What is counted becomes numbers that mean what they say, in the table and in JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from mpemu.layout import BUCKETS, REGION_EXITS, REGION_VISIT
from mpemu.memory import MachineMemory
from mpemu.statistics import MachineStatistics, TranslationStatistics, gather, quantile
from mpemu.stats_view import print_statistics


@pytest.fixture
def statistics() -> MachineStatistics:
    memory = MachineMemory(2, 1 << 20)
    for index, hart in enumerate((memory.hart(0), memory.hart(1))):
        hart.instret = 1000
        hart.region_visits, hart.region_instructions = 7, 700 * index
        hart.region_work = 3 * REGION_VISIT + 50  # of the slice that has begun
        hart.region_exits[REGION_EXITS.index("miss")] = 2
        hart.region_exits[REGION_EXITS.index("unfit")] = 5  # not entered: no visit
        hart.poll_distance[0], hart.poll_distance[4] = 98, 2
    found = gather(memory, 1.0, [0, 0])
    del hart
    memory.close()
    return found


def shown(statistics: MachineStatistics) -> str:
    text = io.StringIO()
    print_statistics(statistics, 0, 2.0, text)
    return text.getvalue()


def test_work_of_regions(statistics: MachineStatistics) -> None:
    assert [hart.region_visits for hart in statistics.harts] == [10, 10]
    assert [hart.region_instructions for hart in statistics.harts] == [50, 750]
    assert statistics.harts[0].region_exits == {"miss": 2, "unfit": 5}
    assert statistics.translated_share == pytest.approx(0.4)
    assert statistics.chained_share == pytest.approx(0.8)


def test_without_translation_nothing_is_said_about_it(statistics: MachineStatistics) -> None:
    assert "region" not in shown(statistics)
    assert "chained_share" not in statistics.as_dict()


def test_with_translation(statistics: MachineStatistics) -> None:
    translation = TranslationStatistics(3, 4, 120, 1_500_000, 9_000, 0, 9, 1, 0)
    found = replace(statistics, translation=translation)
    text = shown(found)
    assert "3 regions of 120 instructions made in 1.50 s of CPU, 4 from the cache" in text
    assert "40.0% of all instructions" in text and "a region 80.0%" in text and "miss 20.0%; 10 entries refused" in text
    content = json.loads(json.dumps(found.as_dict()))
    assert content["translated_share"] == 0.4 and content["chained_share"] == 0.8
    assert content["harts"][0]["poll_distance"][:5] == [98, 0, 0, 0, 2]


def test_how_soon_interrupts_are_seen(statistics: MachineStatistics) -> None:
    line = next(line for line in shown(statistics).splitlines() if line.startswith("instructions, to the next look"))
    assert line.split()[-6:] == ["1", "1", "16", "16", "16", "200"]
    assert "-" in shown(statistics)  # no timer was due


def test_quantiles() -> None:
    assert quantile([0] * BUCKETS, 0.5) is None
    assert quantile([1, 0, 0], 1.0) == 1
    assert quantile([1, 1, 1, 1], 0.5) == 2
    assert quantile([1, 1, 1, 1], 0.51) == 4
