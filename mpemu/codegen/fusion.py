"""Pairs of handlers that are joined into one, so that two instructions cost one dispatch.

The pairs are the most frequent ones of a Linux boot, counted by an instrumented interpreter (numbers in docs/log.md);
their handlers are derived from the same definitions as all others. The file holds "first second" per line, handlers by
Variant.symbol, most frequent first; lines that name a handler that this ISA lacks are passed over.
"""

from __future__ import annotations

from pathlib import Path

_FILE = Path(__file__).with_name("fusion_pairs.txt")


def pairs() -> list[tuple[str, str]]:
    """The pairs to join."""
    rows = (line.split() for line in _FILE.read_text(encoding="ascii").splitlines())
    return [(row[0], row[1]) for row in rows]
