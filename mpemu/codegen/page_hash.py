"""The hash of a code page that harts and the translator compute alike. It only finds candidates; bytes are compared."""

from __future__ import annotations

import struct

from mpemu.layout import PAGE

HASH_FACTOR = 0x9E37_79B9_7F4A_7C15
_WORDS = struct.Struct(f"<{PAGE // 8}Q")


def page_hash(page: bytes) -> int:
    """As :func:`mpemu.codegen.hot.hash_page` computes it natively."""
    value = 0
    for word in _WORDS.unpack(page):
        value = (value ^ word) * HASH_FACTOR & (1 << 64) - 1
    return value
