"""Parallel NOR flash with the Intel command set (CFI 0x0001): one bank of QEMU's virt, two 16-bit chips side by side.

JEDEC JESD68.01 (query table) and Intel StrataFlash J3 (commands, status). A command goes to both chips at once and both
answer, so status, identification and query values appear in the low and in the high half of a 32-bit word. Programming
can only clear bits; erasing a block sets them. With a file the contents outlive the machine: blocks that changed are
written back by a worker, and on close.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading

from pydantic import Field

from mpemu.addresses import FLASH, FLASH_BANK
from mpemu.devices.device import DeviceContext, MmioDevice, MmioProperties, State
from mpemu.devices.images import open_image
from mpemu.devicetree import Node
from mpemu.errors import GuestImageError

BANK_SIZE = FLASH_BANK
BLOCK = 256 << 10
BUFFER = 4096
"""Bytes that one buffered write may program (2 KiB for each chip); it must stay in one such aligned piece."""
LANES = 2
MANUFACTURER, DEVICE = 0x89, 0x18

READ_ARRAY, READ_ID, QUERY, READ_STATUS, CLEAR_STATUS = 0xFF, 0x90, 0x98, 0x70, 0x50
PROGRAM, PROGRAM_ALT, WRITE_BUFFER, ERASE, LOCK, CONFIRM = 0x40, 0x10, 0xE8, 0x20, 0x60, 0xD0

READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10


def _query_table() -> bytes:
    """The query table of one chip, from index 0x10."""
    chip, block = BANK_SIZE // LANES, BLOCK // LANES
    table = b"QRY" + struct.pack("<HHHH", 0x0001, 0x31, 0, 0)  # command sets and their extended tables
    table += bytes([0x45, 0x55, 0, 0])  # supply voltages
    table += bytes([7, 7, 10, 0, 4, 4, 4, 0])  # typical and maximal times, powers of two
    table += struct.pack("<BHHB", chip.bit_length() - 1, 2, (BUFFER // LANES).bit_length() - 1, 1)
    table += struct.pack("<HH", BANK_SIZE // BLOCK - 1, block >> 8)  # the one erase region
    return table + b"PRI10" + bytes(12)


_QUERY = _query_table()


class PflashProperties(MmioProperties):
    """``pflash``: one bank of NOR flash."""

    address: int = FLASH
    file: str | None = Field(None, description=f"contents, exactly {BANK_SIZE} bytes; without it the bank is volatile")
    readonly: bool = Field(False, description="the guest can't program or erase it")


class Pflash(MmioDevice):
    type_name = "pflash"
    Properties = PflashProperties
    size = BANK_SIZE
    sizes = frozenset({1, 2, 4, 8})

    def __init__(self, context: DeviceContext, properties: PflashProperties) -> None:
        super().__init__(context, properties)
        self._path, self._readonly = properties.file, properties.readonly
        self._data: mmap.mmap | None = None
        self._fd = -1
        self._file_lock = threading.Lock()
        self._write_back_later = context.loop.bottom_half(self._write_back)
        self._dirty: set[int] = set()
        self._in_flight: set[int] = set()
        self._clear()

    def use_storage(self, storage: mmap.mmap) -> None:
        """Keep the contents in ``storage``, BANK_SIZE bytes, from which vCPUs can execute; before realize()."""
        self._data = storage

    def realize(self) -> None:
        if self._data is None:
            self._data = mmap.mmap(-1, BANK_SIZE)
        if self._path is None:
            return
        self._fd, size = open_image(self._path, self._readonly, self.id)
        if size != BANK_SIZE:
            raise GuestImageError(
                f"{self.id}: {self._path} has {size} bytes, a flash bank {BANK_SIZE}; pad it: truncate -s {BANK_SIZE}"
            )
        self._read_file()

    def _read_file(self) -> None:
        """Only what is not zero: pages of zeros, as in a sparse file, take no memory."""
        assert self._data is not None
        for block in range(BANK_SIZE // BLOCK):
            contents = os.pread(self._fd, BLOCK, block * BLOCK)
            if contents.count(0) != len(contents):
                self._data[block * BLOCK : block * BLOCK + len(contents)] = contents

    def reset(self) -> None:
        """Contents stay."""
        self._clear()

    def _clear(self) -> None:
        self._mode = READ_ARRAY
        self._command = 0  # the first cycle of a command of several, or 0
        self._status = READY
        self._remaining = -1  # words that a buffered write still expects, -1: its count
        self._buffer: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        if self._fd >= 0:
            with self._file_lock:
                left = sorted(self._dirty | self._in_flight)
                try:
                    self._pwrite([(block, self._block(block)) for block in left])
                except OSError as error:
                    self.context.warn(f"{self.id}: can't write {self._path}: {error}")
                os.close(self._fd)
                self._fd = -1
            self._dirty.clear()
        if self._data is not None:
            self._data.close()
            self._data = None

    # -- reading
    def read(self, offset: int, size: int) -> int:
        if self._mode == READ_ARRAY:
            return int.from_bytes(self._data[offset : offset + size], "little") if self._data else 0
        index = offset // 4
        if self._mode == READ_ID:
            word = {0: MANUFACTURER, 1: DEVICE}.get(index & 0xFF, 0)
        elif self._mode == QUERY:
            word = _QUERY[index - 0x10] if 0x10 <= index < 0x10 + len(_QUERY) else 0
        else:
            word = self._status
        both = word | word << 16
        return (both | both << 32) >> (8 * (offset & 3)) & ((1 << (8 * size)) - 1)

    # -- writing
    def write(self, offset: int, size: int, value: int) -> None:
        command, self._command = self._command, 0
        code = value & 0xFF
        if command == PROGRAM:
            self._program(offset, size, value)
        elif command == ERASE:
            self._erase(offset) if code == CONFIRM else self._sequence_error()
        elif command == LOCK:
            pass  # block locks are accepted and not modelled
        elif command == WRITE_BUFFER:
            self._buffered(offset, size, value)
        elif code in {READ_ARRAY, READ_ID, QUERY, READ_STATUS}:
            self._mode = code
        elif code == CLEAR_STATUS:
            self._status = READY
        elif code in {PROGRAM, PROGRAM_ALT, ERASE, LOCK, WRITE_BUFFER}:
            self._command = PROGRAM if code == PROGRAM_ALT else code
            self._mode = READ_STATUS
            self._status = READY
            self._remaining = -1
            self._buffer.clear()
        else:
            self._mode = READ_ARRAY

    def _sequence_error(self) -> None:
        self._status |= ERASE_ERROR | PROGRAM_ERROR

    def _program(self, offset: int, size: int, value: int) -> None:
        if self._readonly or self._data is None:
            self._status |= PROGRAM_ERROR
            return
        old = int.from_bytes(self._data[offset : offset + size], "little")
        self._data[offset : offset + size] = (old & value).to_bytes(size, "little")
        self._changed(offset)

    def _erase(self, offset: int) -> None:
        if self._readonly or self._data is None:
            self._status |= ERASE_ERROR
            return
        start = offset & ~(BLOCK - 1)
        self._data[start : start + BLOCK] = b"\xff" * BLOCK
        self._changed(offset)

    def _buffered(self, offset: int, size: int, value: int) -> None:
        """The cycles behind WRITE_BUFFER: the number of words less one, the words, the confirmation."""
        if self._remaining < 0:
            count = (value & 0xFFFF) + 1
            if count * 4 > BUFFER:
                self._sequence_error()
                return
            self._remaining = count
        elif self._remaining:
            self._buffer[offset] = (size, value)
            self._remaining -= 1
        else:
            pieces = {o & ~(BUFFER - 1) for o in self._buffer}
            if value & 0xFF != CONFIRM or len(pieces) != 1:
                self._sequence_error()
            else:
                for at, (length, data) in self._buffer.items():
                    self._program(at, length, data)
            self._buffer.clear()
            return
        self._command = WRITE_BUFFER

    # -- the file
    def _block(self, block: int) -> bytes:
        return self._data[block * BLOCK : (block + 1) * BLOCK] if self._data else b""

    def _changed(self, offset: int) -> None:
        if self._fd >= 0:
            if not self._dirty and not self._in_flight:
                self._write_back_later.schedule()
            self._dirty.add(offset // BLOCK)

    def _write_back(self) -> None:
        """One batch at a time, so that the file ends with the newest contents."""
        if not self._dirty or self._fd < 0:
            return
        blocks = [(block, self._block(block)) for block in sorted(self._dirty)]
        self._in_flight, self._dirty = self._dirty, set()
        self.context.loop.submit(lambda: self._work(blocks), self._written)

    def _work(self, blocks: list[tuple[int, bytes]]) -> None:
        """In a worker; close() may have been quicker, and has then written everything itself."""
        with self._file_lock:
            if self._fd >= 0:
                self._pwrite(blocks)

    def _pwrite(self, blocks: list[tuple[int, bytes]]) -> None:
        for block, data in blocks:
            os.pwrite(self._fd, data, block * BLOCK)

    def _written(self, result: object) -> None:
        self._in_flight = set()
        if isinstance(result, BaseException):
            self.context.warn(f"{self.id}: can't write {self._path}: {result}")
        self._write_back()

    def fdt_nodes(self) -> list[Node]:
        node = self.node("flash", "cfi-flash")
        node.properties["bank-width"] = 4
        return [node]

    def state(self) -> State:
        """The contents are not part of it: they are the file's."""
        return {
            "mode": self._mode,
            "command": self._command,
            "status": self._status,
            "remaining": self._remaining,
            "buffer": [[offset, size, value] for offset, (size, value) in self._buffer.items()],
        }

    def load_state(self, state: State) -> None:
        self._mode, self._command, self._status = state["mode"], state["command"], state["status"]
        self._remaining = state["remaining"]
        self._buffer = {offset: (size, value) for offset, size, value in state["buffer"]}
