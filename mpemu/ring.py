"""A ring of messages in shared memory with one writer and one reader, in different processes.

Words of 8 bytes: ``head`` (bytes ever written; the writer's), ``tail`` (bytes ever read; the reader's), each on a cache
line of its own, then the data. A record is a word with the payload's length and the payload padded to whole words; it
may wrap around the end of the data. The writer moves ``head`` after the data, the reader moves ``tail`` after it has
copied them, with fences between (fence.py): neither sees bytes that aren't there. The writer needs none between its
look at ``tail`` and the data: a store never overtakes the load that decides about it.
"""

from __future__ import annotations

from mpemu.errors import InternalError, ProtocolError
from mpemu.fence import order_fence

WORD = 8
HEAD, TAIL, DATA = 0, 8, 16
"""Word indices."""


class Ring:
    """One end of a ring over ``buffer`` (writable bytes, zeroed at first; a multiple of 8, its start aligned)."""

    def __init__(self, buffer: memoryview) -> None:
        self._words = buffer.cast("Q")
        self._data = buffer[DATA * WORD :]
        self.capacity = len(self._data)
        assert self.capacity > 0 and self.capacity % WORD == 0

    def empty(self) -> bool:
        words = self._words
        return words[HEAD] == words[TAIL]

    def push(self, payload: bytes) -> None:
        """Append a record. Writer only. :class:`InternalError` if it doesn't fit: the reader doesn't keep up."""
        words, length = self._words, len(payload)
        head = words[HEAD]
        padded = -(-length // WORD) * WORD
        if head - words[TAIL] + WORD + padded > self.capacity:
            raise InternalError(f"a ring of {self.capacity} bytes is full: {length} bytes more don't fit")
        words[DATA + head % self.capacity // WORD] = length
        start = (head + WORD) % self.capacity
        first = min(length, self.capacity - start)
        self._data[start : start + first] = payload[:first]
        if first < length:
            self._data[: length - first] = payload[first:]
        order_fence()
        words[HEAD] = head + WORD + padded

    def pop(self) -> bytes | None:
        """Take the oldest record, or None. Reader only. :class:`ProtocolError` if the ring is damaged."""
        words = self._words
        tail, head = words[TAIL], words[HEAD]
        if tail == head:
            return None
        order_fence()
        length = words[DATA + tail % self.capacity // WORD]
        used = WORD + -(-length // WORD) * WORD
        if not used <= head - tail <= self.capacity or head % WORD or tail % WORD:
            raise ProtocolError(f"a damaged ring: head {head:#x}, tail {tail:#x}, record of {length:#x} bytes")
        start = (tail + WORD) % self.capacity
        first = min(length, self.capacity - start)
        payload = bytes(self._data[start : start + first])
        if first < length:
            payload += bytes(self._data[: length - first])
        order_fence()
        words[TAIL] = tail + used
        return payload
