"""The engine: native code bound to one hart. Made in the process that runs the hart; Python sees only exits."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from mpemu.isa.profiles import IsaSpec
from mpemu.isa.state import STATE
from mpemu.layout import HART, LINES, PAGE, RECORD_PAGE_SIZE, RECORD_PAGES
from mpemu.memory import MachineMemory
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.exits import ExitReason
from mpemu.vcpu.hostcalls import HOST_FUNCTIONS
from mpemu.vcpu.sampler import RUNNING

ALL_ONES = (1 << 64) - 1


def host_table() -> Any:
    """The C library functions that generated code calls, in the order of HOST_FUNCTIONS."""
    libc = ctypes.CDLL(None)
    table = (ctypes.c_uint64 * len(HOST_FUNCTIONS))()
    for i, name in enumerate(HOST_FUNCTIONS):
        table[i] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
    return table


def _anonymous(size: int) -> tuple[mmap.mmap, int]:
    """Private zeroed memory, committed as it is touched: (mapping, address)."""
    mapping = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mapping, ctypes.addressof(ctypes.c_char.from_buffer(mapping))


class Engine:
    """Runs hart ``index``. ``hart`` is the view of its struct in shared memory."""

    def __init__(self, blob: Blob, memory: MachineMemory, index: int, isa: IsaSpec | None = None) -> None:
        self.hart = memory.hart(index)
        self._isa = isa
        self._address = memory.hart_address(index)
        self._enter = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(blob.address("enter"))
        self._flush_tlb = blob.routine("flush_tlb", 0)
        self._host = host_table()
        machine = memory.machine
        pages = (memory.ram_size + sum(machine.rom_size)) // PAGE
        self._records, records = _anonymous(RECORD_PAGES * RECORD_PAGE_SIZE)
        self._page_index, page_index = _anonymous(-(-4 * pages // PAGE) * PAGE)
        hart = self.hart
        hart.records, hart.page_index = records, page_index
        hart.code_pages = memory.code_pages_address(index)
        hart.record_pages, hart.record_next, hart.record_high = RECORD_PAGES, 0, 0
        hart.host = ctypes.addressof(self._host)
        hart.handlers, hart.regions_start = blob.base, blob.regions_start

    def reset(self, *, pc: int, a0: int = 0, a1: int = 0, isa: IsaSpec | None = None) -> None:
        """Architectural reset: M-mode at ``pc``. The statistics go on; instret starts anew."""
        hart = self.hart
        hartid = hart.hartid
        for i in range(33):
            hart.x[i] = 0
        for i in range(32):
            hart.f[i] = 0
        for field in STATE:
            setattr(hart, field.name, field.reset)
        if isa := isa or self._isa:
            hart.misa = isa.misa
        hart.hartid, hart.pc = hartid, pc
        hart.x[10], hart.x[11] = a0, a1
        hart.instret = hart.slice_end = 0
        hart.quantum_end = ALL_ONES
        hart.fcsr_host = 0  # that of a reset hart, see codegen/host_x86_64.py
        hart.reservation = ALL_ONES
        hart.tight_due = hart.tight_distrust = hart.marked_updates = 0
        hart.locked_version = hart.mmio_latch = hart.spins = hart.turn_count = hart.pause_count = 0
        hart.mtimecmp = ALL_ONES
        hart.deadline = 0
        for i in range(len(LINES)):
            hart.lines[i] = 0
        # TLBs: all ones is "nothing"
        start = HART.offset["regimes"]
        ctypes.memset(self._address + start, 0xFF, HART.item["regimes"].count)
        self._flush_tlb(self._address)
        hart.record_next = 0
        ctypes.memset(hart.page_index, 0, len(self._page_index))
        hart.scratch_key = ALL_ONES

    def run(self) -> ExitReason:
        """Run until something needs Python."""
        RUNNING.value = self._address
        reason = ExitReason(self._enter(self._address))
        self.hart.exits[reason] += 1
        return reason
