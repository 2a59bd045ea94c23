"""The ring: order, wrapping, being full, and damage."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.errors import InternalError, ProtocolError
from mpemu.ring import DATA, HEAD, WORD, Ring


def make(capacity: int) -> tuple[memoryview, Ring, Ring]:
    """The memory and both ends."""
    buffer = memoryview(bytearray(DATA * WORD + capacity))
    return buffer, Ring(buffer), Ring(buffer)


@given(st.lists(st.none() | st.binary(max_size=70), max_size=200), st.sampled_from([80, 88, 128, 1024]))
def test_it_is_a_queue(operations: list[bytes | None], capacity: int) -> None:
    """None pops, bytes are pushed. Wraps at every offset that records can have."""
    _, writer, reader = make(capacity)
    model: deque[bytes] = deque()
    for operation in operations:
        if operation is None:
            assert reader.pop() == (model.popleft() if model else None)
        else:
            used = sum(8 + -(-len(m) // 8) * 8 for m in (*model, operation))
            if used > capacity:
                with pytest.raises(InternalError, match="full"):
                    writer.push(operation)
            else:
                writer.push(operation)
                model.append(operation)
        assert reader.empty() == (not model)


def test_full_ring_recovers() -> None:
    _, writer, reader = make(64)
    for _ in range(100):
        writer.push(b"x" * 56)
        with pytest.raises(InternalError):
            writer.push(b"")
        assert reader.pop() == b"x" * 56


@given(st.binary(min_size=DATA * WORD + 64, max_size=DATA * WORD + 64))
def test_damage_is_noticed_or_harmless(content: bytes) -> None:
    ring = Ring(memoryview(bytearray(content)))
    try:
        for _ in range(20):
            if ring.pop() is None:
                break
    except ProtocolError as error:
        assert "damaged" in str(error)


def test_absurd_length() -> None:
    buffer, writer, reader = make(64)
    writer.push(b"12345678")
    buffer.cast("Q")[DATA] = 1 << 63
    with pytest.raises(ProtocolError, match="damaged"):
        reader.pop()
    buffer.cast("Q")[HEAD] = 1 << 40
    with pytest.raises(ProtocolError, match="damaged"):
        reader.pop()
