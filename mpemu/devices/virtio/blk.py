"""virtio-blk over a raw file or block device (virtio 1.2, section 5.2).

Requests run in workers, several at once, directly between the file and guest RAM (preadv, pwritev). In deterministic
mode they are done before the notification returns, in the order of the ring. A flush covers the writes that were
completed before it, which is all that the driver may expect.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from mpemu.devices.device import DeviceContext, dma
from mpemu.devices.images import open_image
from mpemu.devices.virtio.mmio import QUEUE_SIZE, VirtioDevice, VirtioProperties
from mpemu.devices.virtio.queue import Chain, Virtqueue, gather, scatter, skip, take

SECTOR = 512
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
F_DISCARD, F_WRITE_ZEROES = 1 << 13, 1 << 14
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IO_ERROR, UNSUPPORTED = 0, 1, 2
ID_SIZE = 20
SEGMENTS = QUEUE_SIZE - 2
LARGEST_REQUEST = 256 << 20
RANGES = 16
"""Ranges that one discard or write-zeroes request may have."""
RANGE_SECTORS = (16 << 20) // SECTOR
"""Sectors that one such range may have."""
ZEROES = bytes(1 << 20)

_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")


class VirtioBlkProperties(VirtioProperties):
    """``virtio-blk``: a disk."""

    file: str = Field(description="raw image or block device")
    readonly: bool = Field(False, description="the guest can't write to it")
    serial: str = Field("", max_length=ID_SIZE, description="what the guest reads as the disk's serial number")


@dataclass
class _Request:
    queue: Virtqueue
    chain: Chain
    status: memoryview
    data: list[memoryview] = field(default_factory=list)
    written: int = 0


class VirtioBlk(VirtioDevice):
    type_name = "virtio-blk"
    Properties = VirtioBlkProperties
    device_id = 2
    queues = 1

    def __init__(self, context: DeviceContext, properties: VirtioBlkProperties) -> None:
        super().__init__(context, properties)
        self._path, self._readonly = properties.file, properties.readonly
        self._serial = (properties.serial or self.id).encode()[:ID_SIZE]
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH
        self.features |= F_RO if self._readonly else F_DISCARD | F_WRITE_ZEROES
        self._fd = -1
        self._capacity = 0
        self._generation = 0
        self._in_flight = 0
        self._idle = threading.Condition()

    def realize(self) -> None:
        self._fd, size = open_image(self._path, self._readonly, self.id)
        self._capacity = size // SECTOR

    def close(self) -> None:
        self.quiesce()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def config(self) -> bytes:
        """struct virtio_blk_config."""
        head = struct.pack("<QIIHBBI", self._capacity, 0, SEGMENTS, 0, 0, 0, SECTOR)
        topology = struct.pack("<BBHIBBH", 0, 0, 0, 0, 0, 0, 0)
        discard = struct.pack("<III", RANGE_SECTORS, RANGES, 8)
        zeroes = struct.pack("<IIB3x", RANGE_SECTORS, RANGES, 1)
        return head + topology + discard + zeroes

    def quiesce(self) -> None:
        """Wait for the workers, then forget what they did: the driver gave its buffers up."""
        self._generation += 1
        with self._idle:
            self._idle.wait_for(lambda: not self._in_flight)

    # -- requests
    def handle(self, queue: Virtqueue, chain: Chain) -> None:
        if not chain.writable_size or chain.readable_size < _HEADER.size:
            self.failed("a block request without header or status byte")
            return
        incoming = chain.writable_size - 1
        request = _Request(queue, chain, skip(chain.writable, incoming)[0])
        kind, _, sector = _HEADER.unpack(gather(chain.readable, _HEADER.size))
        outgoing = skip(chain.readable, _HEADER.size)
        length = chain.readable_size - _HEADER.size
        if kind == IN:
            request.data = take(chain.writable, incoming)
            if self._legal(sector, incoming):
                request.written = incoming
                self._run(request, lambda: self._read(request.data, sector * SECTOR), chain.areas)
            else:
                self._finish(request, IO_ERROR)
        elif kind == OUT:
            if not self._readonly and self._legal(sector, length):
                self._run(request, lambda: self._write(outgoing, sector * SECTOR))
            else:
                self._finish(request, IO_ERROR)
        elif kind == FLUSH:
            self._run(request, lambda: os.fdatasync(self._fd))
        elif kind == GET_ID:
            with dma(self.context.near, chain.areas):
                request.written = scatter(take(chain.writable, incoming), self._serial.ljust(ID_SIZE, b"\0"))
            self._finish(request, OK)
        elif kind in {DISCARD, WRITE_ZEROES} and not self._readonly:
            self._ranges(request, kind, gather(outgoing, RANGES * _RANGE.size + 1))
        else:
            self._finish(request, UNSUPPORTED)

    def _legal(self, sector: int, length: int) -> bool:
        return not length % SECTOR and length <= LARGEST_REQUEST and sector + length // SECTOR <= self._capacity

    def _ranges(self, request: _Request, kind: int, data: bytes) -> None:
        if not data or len(data) % _RANGE.size or len(data) > RANGES * _RANGE.size:
            self._finish(request, IO_ERROR)
            return
        ranges = list(_RANGE.iter_unpack(data))
        for sector, count, flags in ranges:
            if flags & ~1 or (kind == DISCARD and flags):
                self._finish(request, UNSUPPORTED)
                return
            if count > RANGE_SECTORS or sector + count > self._capacity:
                self._finish(request, IO_ERROR)
                return
        if kind == DISCARD:  # a hint, and a file keeps its size and contents without it
            self._finish(request, OK)
        else:
            self._run(request, lambda: self._zero([(sector * SECTOR, count * SECTOR) for sector, count, _ in ranges]))

    def _run(self, request: _Request, work: Callable[[], None], areas: Sequence[tuple[int, int]] = ()) -> None:
        """Do ``work``, which writes to ``areas`` of guest RAM, in a worker; then finish the request."""
        announced = dma(self.context.near, areas)
        if self.context.deterministic:
            with announced:
                status = _attempt(work)
            self._finish(request, status)
            return
        generation = self._generation
        with self._idle:
            self._in_flight += 1
        announced.__enter__()

        def counted() -> int:
            try:
                return _attempt(work)
            finally:
                announced.__exit__(None, None, None)
                with self._idle:
                    self._in_flight -= 1
                    self._idle.notify_all()

        def done(result: int | BaseException) -> None:
            if generation == self._generation:
                self._finish(request, result if isinstance(result, int) else IO_ERROR)

        self.context.loop.submit(counted, done)

    def _finish(self, request: _Request, status: int) -> None:
        with dma(self.context.near, [area for area in request.chain.areas if area[1]][-1:]):
            request.status[0] = status
        self.complete(request.queue, request.chain, (request.written if status == OK else 0) + 1)

    # -- in the worker
    def _read(self, pieces: Sequence[memoryview], offset: int) -> None:
        pieces = [piece for piece in pieces if len(piece)]
        while pieces:
            count = os.preadv(self._fd, pieces, offset)
            if not count:
                raise OSError("the image became shorter")
            offset += count
            pieces = skip(list(pieces), count)

    def _write(self, pieces: Sequence[memoryview], offset: int) -> None:
        pieces = [piece for piece in pieces if len(piece)]
        while pieces:
            count = os.pwritev(self._fd, pieces, offset)
            offset += count
            pieces = skip(list(pieces), count)

    def _zero(self, ranges: list[tuple[int, int]]) -> None:
        for offset, length in ranges:
            while length:
                count = os.pwrite(self._fd, memoryview(ZEROES)[: min(length, len(ZEROES))], offset)
                offset, length = offset + count, length - count


def _attempt(work: Callable[[], None]) -> int:
    try:
        work()
    except OSError:
        return IO_ERROR
    return OK
