"""The instruction reference page."""

from __future__ import annotations

from pathlib import Path

from mpemu.isa.manual import reference_page
from mpemu.isa.registry import COMPRESSED, INSNS

PAGE = Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference_page(), "run: python -m mpemu.isa.manual > docs/isa.md"


def test_every_instruction_has_a_row() -> None:
    rows = {line.split("`")[1].split()[0] for line in reference_page().splitlines() if line.startswith("| `")}
    assert rows == set(INSNS) | {c.name for c in COMPRESSED}
