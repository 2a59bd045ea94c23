"""Guest code being laid out: bytes at positions, labels, and jumps to labels that may come later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Fixup:
    at: int
    label: str
    size: int
    encode: Callable[[int], int]


class CodeImage:
    """``image`` is as long as the filler; :meth:`emit` writes at ``position``. ``labels``: position by name."""

    def __init__(self, filler: bytes) -> None:
        self.image, self.position = bytearray(filler), 0
        self.labels: dict[str, int] = {}
        self._fixups: list[_Fixup] = []

    def emit(self, code: bytes) -> None:
        self.image[self.position : self.position + len(code)] = code
        self.position += len(code)

    def label(self, name: str) -> None:
        assert name not in self.labels
        self.labels[name] = self.position

    def refer(self, label: str, size: int, encode: Callable[[int], int]) -> None:
        """``size`` bytes that depend on the distance to the label."""
        self._fixups.append(_Fixup(self.position, label, size, encode))
        self.position += size

    def resolve(self) -> None:
        for f in self._fixups:
            value = f.encode(self.labels[f.label] - f.at)
            self.image[f.at : f.at + f.size] = value.to_bytes(f.size, "little")
