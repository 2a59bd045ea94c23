"""The board: places of devices, the memory map, what a config can't have."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpemu.addresses import RAM
from mpemu.board import Board, placed_devices
from mpemu.boot.rom import ROM_SIZE
from mpemu.config import MachineConfig, parse_config
from mpemu.devices.aclint import NEVER, Aclint
from mpemu.devices.chardev import Chardev
from mpemu.devices.htif import Htif
from mpemu.devices.plic import Plic
from mpemu.devices.regions import Kind, flatten
from mpemu.errors import ConfigError
from mpemu.layout import LINES
from tests.boot.test_boot_images import elf
from tests.devices.machine_fakes import FakeMachine


def board(config: MachineConfig) -> Board:
    machine = FakeMachine()
    machine.memory.harts = 2
    return Board(config, machine.context, machine.memory.ram, memoryview(bytearray(ROM_SIZE)))


def test_memory_map_is_qemus() -> None:
    expected = {
        0x1000: (0x1000, Kind.ROM),
        0x10_0000: (0x1000, Kind.IO),
        0x10_1000: (0x1000, Kind.IO),
        0x200_0000: (0x1_0000, Kind.NEAR),
        0x2F0_0000: (0x4000, Kind.NEAR),
        0xC00_0000: (0x60_0000, Kind.NEAR),
        0x1000_0000: (0x100, Kind.NEAR),
        **{0x1000_1000 + 0x1000 * i: (0x1000, Kind.IO) for i in range(8)},
        0x2000_0000: (0x200_0000, Kind.IO),
        0x2200_0000: (0x200_0000, Kind.IO),
        0x8000_0000: (0x1_0000, Kind.RAM),
    }
    found = {r.start: (r.end - r.start, r.region.kind) for r in flatten(board(parse_config("harts: 2")).root)}
    assert found == expected


def test_slots_and_flash_banks_are_given_out_around_those_asked_for() -> None:
    config = parse_config(
        "devices: [{type: virtio-rng}, {type: virtio-rng, slot: 0}, {type: virtio-rng},"
        " {type: pflash, file: a}, {type: pflash, address: 0x20000000}]"
    )
    placed = [properties for _, properties in placed_devices(config)]
    assert [getattr(p, "slot", None) for p in placed[:3]] == [1, 0, 2]
    assert [getattr(p, "address", None) for p in placed[3:]] == [0x2200_0000, 0x2000_0000]
    assert sorted(board(parse_config("devices: [{type: virtio-rng, slot: 5}]")).virtio) == [5]


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ("{type: virtio-rng}, " * 9, r"devices\[8\]: no virtio-mmio slot is left; the board has 8"),
        ("{type: pflash}, " * 3, r"devices\[2\]: no flash bank is left; the board has 2"),
        ("{type: pflash, address: 4096}", r"devices\[0\]: flash bank 0x1000 does not exist or is taken"),
    ],
)
def test_too_many_devices(devices: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        placed_devices(parse_config(f"devices: [{devices}]"))


def test_htif_appears_where_the_elf_has_its_symbol(tmp_path: Path) -> None:
    assert board(parse_config("harts: 2")).htif is None
    kernel = tmp_path / "test.elf"
    kernel.write_bytes(elf([(RAM, b"code" * 4, 0x2000)], RAM, {"tohost": RAM + 0x1000}))
    made = board(parse_config(f"boot: {{kernel: {kernel}}}"))
    assert isinstance(made.htif, Htif) and made.htif in made.devices
    assert made.plan.symbols == {"tohost": RAM + 0x1000}


def test_near_devices_reset_their_shared_state() -> None:
    made = board(parse_config("harts: 2"))
    memory = made._context.memory
    levels: list[tuple[int, int]] = []
    made._context.near.set_irq = lambda source, level: levels.append((source, level))  # type: ignore[method-assign]
    made.connect(Chardev())
    levels.clear()
    hart = memory.hart(1)
    hart.mtimecmp, memory.machine.plic_enable[3], memory.machine.plic_level[11] = 5, 7, 1
    hart.lines[:] = [1] * len(LINES)
    for device in made.devices:
        if isinstance(device, Aclint | Plic):
            device.reset()
    assert hart.mtimecmp == NEVER and memory.machine.plic_enable[3] == 0
    assert [name for i, name in enumerate(LINES) if hart.lines[i]] == ["kick", "stop"]
    assert levels == [(11, 1)], "a line that is still high is pending again"
