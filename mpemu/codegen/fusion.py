"""Pairs of handlers that are joined into one: the most frequent pairs of a Linux boot (see docs/log.md)."""

PAIRS: tuple[tuple[str, str], ...] = ()
