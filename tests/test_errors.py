"""Errors: the tree in the docstring is the tree in the code."""

from __future__ import annotations

import re

import pytest

from mpemu import errors
from mpemu.errors import MpemuError, guest_exit_code


def tree(cls: type[MpemuError] = MpemuError, depth: int = 0) -> list[tuple[str, int, int]]:
    rows = [(cls.__name__, depth, cls.exit_code)]
    for sub in sorted(cls.__subclasses__(), key=lambda c: c.__name__):
        if sub.__module__ == errors.__name__:
            rows += tree(sub, depth + 1)
    return rows


def test_docstring_draws_the_tree() -> None:
    drawn = re.findall(r"^    ([| `-]*)(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE)
    assert sorted((name, len(prefix) // 4, int(code)) for prefix, name, code in drawn) == sorted(tree())


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (255, 255), (256, 1), (0x1_0000, 1), (0x1FF, 255)])
def test_a_failing_guest_never_looks_successful(code: int, expected: int) -> None:
    assert guest_exit_code(code) == expected
