"""The documents speak of what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Paths as the documents write them: in backquotes with a slash or an ending, or as the target of a link.
_QUOTED = re.compile(r"`((?:mpemu|tests|docs|configs|guests|bench|scripts|\.ci)/[\w./-]*)`")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
BUILT = ("mpemu/guests/",)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_mentioned_files_exist(document: Path) -> None:
    text = document.read_text()
    for name in _QUOTED.findall(text):
        assert (ROOT / name).exists() or name.startswith(BUILT), f"{document.name} mentions {name}, which is not there"
    for target in _LINK.findall(text):
        assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"


def test_house_documents_are_there() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/log.md"):
        assert (ROOT / name).is_file(), name


def test_every_module_of_the_code_generators_has_its_place() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## The code generators")[2].partition("## Layers")[0]
    named = re.findall(r"`(\w+)`", text)
    modules = [path.stem for path in (ROOT / "mpemu/codegen").glob("*.py") if path.stem != "__init__"]
    assert sorted(named) == sorted(modules)


def test_make_verbs_are_documented() -> None:
    verbs = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert {"run", "test", "check", "bench", "soak", "docs"} <= set(verbs)
    for verb in verbs:
        assert f"make {verb}" in text, f"CONTRIBUTING.md does not mention `make {verb}`"


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "    make test\n" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake test")


def test_adrs_are_numbered_without_gaps_or_twins() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/design").glob("[0-9]*.md"))
    assert len(numbers) == len(set(numbers)), numbers
