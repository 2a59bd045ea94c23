"""The machine's memory: shared with children, without names, with a clear error where it doesn't fit."""

from __future__ import annotations

import ctypes
import os

import pytest

from mpemu import shm
from mpemu.errors import ConfigError, SharedMemoryError
from mpemu.layout import HART
from mpemu.memory import RAM_BASE, MachineMemory

MIB = 1 << 20


def names() -> set[str]:
    return {name for name in os.listdir(shm.SHM_DIRECTORY) if name.startswith(shm.NAME_PREFIX[1:])}


def test_segments_have_no_names() -> None:
    before = names()
    memory = MachineMemory(2, MIB)
    assert names() <= before
    memory.close()


def test_children_share_it_at_the_same_addresses() -> None:
    memory = MachineMemory(2, MIB)
    pid = os.fork()
    if pid == 0:
        memory.write(RAM_BASE + 100, b"from the child")
        ctypes.c_uint64.from_address(memory.hart_address(1) + HART.offset["pc"]).value = 0x1234
        os._exit(0)
    os.waitpid(pid, 0)
    assert memory.read(RAM_BASE + 100, 14) == b"from the child"
    assert memory.hart(1).pc == 0x1234 and memory.hart(0).pc == 0
    assert memory.words(1)[HART.offset["pc"] // 8] == 0x1234
    memory.close()


def test_views_say_where_everything_is() -> None:
    memory = MachineMemory(3, MIB)
    machine = memory.machine
    assert (machine.harts, machine.ram_base, machine.ram_size) == (3, RAM_BASE, MIB)
    assert machine.ram == memory.ram_address and machine.hart0 == memory.hart_address(0)
    assert machine.hart0 % 4096 == 0 and ctypes.addressof(memory.hart(2)) == memory.hart_address(2)
    assert [memory.hart(i).hartid for i in range(3)] == [0, 1, 2]
    memory.close()


def test_reset_gives_zeros_and_the_pages_back() -> None:
    memory = MachineMemory(1, 64 * MIB)
    memory.ram[:] = b"\xff" * (64 * MIB)
    full = os.statvfs(shm.SHM_DIRECTORY).f_bfree
    memory.reset_ram()
    assert os.statvfs(shm.SHM_DIRECTORY).f_bfree > full
    assert not any(memory.ram[:: MIB - 1])
    memory.close()


def test_accesses_outside_ram_are_refused() -> None:
    memory = MachineMemory(1, MIB)
    memory.write(RAM_BASE + MIB - 4, b"1234")
    for address in (RAM_BASE - 1, RAM_BASE + MIB - 3, 0):
        with pytest.raises(ValueError, match="is not RAM"):
            memory.write(address, b"1234")
        with pytest.raises(ValueError, match="is not RAM"):
            memory.read(address, 4)
    memory.close()


def test_too_much_ram_is_a_clear_error() -> None:
    with pytest.raises(SharedMemoryError, match=r"1048576 MiB of RAM needs .* MiB free: give the guest less memory"):
        MachineMemory(1, 1 << 40)


def test_no_shared_memory_directory() -> None:
    with pytest.raises(SharedMemoryError, match="needs a tmpfs there"):
        shm.check_room(1, "a test", "/nonexistent")


@pytest.mark.parametrize(("harts", "size"), [(0, MIB), (65, MIB), (1, 0), (1, MIB + 1), (1, -4096)])
def test_impossible_machines(harts: int, size: int) -> None:
    with pytest.raises(ConfigError):
        MachineMemory(harts, size)


def test_closing_gives_memory_and_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    free = os.statvfs(shm.SHM_DIRECTORY).f_bfree
    for _ in range(8):
        memory = MachineMemory(4, 16 * MIB)
        memory.ram[: 16 * MIB] = b"\1" * (16 * MIB)
        memory.close()
        del memory
    assert len(os.listdir("/proc/self/fd")) == before
    assert free - os.statvfs(shm.SHM_DIRECTORY).f_bfree < 8 * 16 * MIB // 4096 // 2
