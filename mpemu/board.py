"""The `virt` board: which devices a config means, where they are, and what is loaded.

:class:`Board` is the hardware without anything that runs: `mpemu dtb` and `mpemu mtree` need no more. assembly.py adds
shared memory and vCPU processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpemu.addresses import BOOT_ROM, FLASH, FLASH_BANK, RAM, VIRTIO_SLOTS
from mpemu.boot.fdt import Chosen, machine_tree
from mpemu.boot.plan import BootFiles, BootPlan, plan_boot
from mpemu.boot.rom import ROM_SIZE
from mpemu.config import MachineConfig
from mpemu.devices.bus import Bus
from mpemu.devices.chardev import Chardev
from mpemu.devices.device import Device, DeviceContext, DeviceProperties
from mpemu.devices.htif import Htif, HtifProperties
from mpemu.devices.pflash import Pflash, PflashProperties
from mpemu.devices.regions import MemoryRegion
from mpemu.devices.registry import device_class
from mpemu.devices.uart import Uart
from mpemu.devices.virtio.mmio import VirtioDevice, VirtioProperties, fill_slots
from mpemu.devicetree import flatten
from mpemu.errors import ConfigError
from mpemu.isa.profiles import IsaSpec

ADDRESS_SPACE = 1 << 56
FLASH_BANKS = 2
FIXED = ("aclint", "plic", "ns16550a", "goldfish-rtc", "sifive-test")
"""Device types of which every machine has one, without properties of its own."""


class Board:
    """All devices, the memory tree, the bus, and the plan of what is loaded. Nothing is opened but the boot files.

    ``ram`` and ``rom`` are the memory behind those regions. Raises ConfigError and GuestImageError.
    """

    def __init__(self, config: MachineConfig, context: DeviceContext, ram: memoryview, rom: bytearray | memoryview):
        self.config, self._context = config, context
        self.devices = [_make(name, context) for name in FIXED]
        for kind, properties in placed_devices(config):
            self.devices.append(device_class(kind)(context, properties))
        self.devices += fill_slots(context, self.devices)
        self.devices += _free_flash_banks(context, self.devices)
        self.uart = next(device for device in self.devices if isinstance(device, Uart))
        self.virtio = {d.slot: d for d in self.devices if isinstance(d, VirtioDevice) and d.device_id}
        self.root = _memory_tree(self.devices, ram, rom)
        self.bus = Bus(self.root)
        self.plan = self._plan()
        self.htif = self._attach_htif()

    def _plan(self) -> BootPlan:
        boot = self.config.boot
        files = BootFiles(*(_text(boot.path(which)) for which in ("firmware", "kernel", "initrd", "dtb")))
        chosen = Chosen(boot.append, rng_seed=self._context.random(32))
        return plan_boot(files, chosen, RAM, self.config.memory, self.device_tree)

    def device_tree(self, chosen: Chosen) -> bytes:
        """The blob of the machine's own device tree."""
        nodes = [node for device in self.devices for node in device.fdt_nodes()]
        isa = IsaSpec.parse(self.config.harts.isa)
        return flatten(machine_tree(self.config.harts.count, isa, (RAM, self.config.memory), nodes, chosen))

    def _attach_htif(self) -> Htif | None:
        """Where the ELF has the symbol, as Spike does."""
        tohost = self.plan.symbols.get("tohost")
        if tohost is None:
            return None
        htif = Htif(self._context, HtifProperties(tohost=tohost, fromhost=self.plan.symbols.get("fromhost", 0)))
        self.devices.append(htif)
        return htif

    def connect(self, console: Chardev) -> None:
        """Wires: interrupt lines to the PLIC, ``console`` to the UART. HTIF writes to it too, but does not read."""
        for device in self.devices:
            device.connect_irq(self._context.near.set_irq)
        self.uart.attach_chardev(console)
        if self.htif is not None:
            self.htif.attach_chardev(_OutputOnly(console))

    def realize(self) -> None:
        """Open what the devices need. On an error the caller closes all devices, realized or not."""
        for device in self.devices:
            device.realize()

    def close(self) -> None:
        for device in reversed(self.devices):
            device.close()


class _OutputOnly(Chardev):
    """A second writer on a console whose input belongs to somebody else."""

    def __init__(self, console: Chardev) -> None:
        super().__init__()
        self._console = console

    @property
    def congested(self) -> bool:
        return self._console.congested

    def write(self, data: bytes) -> None:
        self._console.write(data)


def _make(name: str, context: DeviceContext) -> Device:
    kind = device_class(name)
    return kind(context, kind.Properties.model_validate({}))


def _text(path: object) -> str | None:
    return None if path is None else str(path)


def placed_devices(config: MachineConfig) -> list[tuple[str, DeviceProperties]]:
    """(type, properties) of the config's devices, virtio slots and flash banks given out. ConfigError if too many."""
    entries = [(entry.type, entry.properties) for entry in config.devices]
    slots = _Places("virtio-mmio slot", list(range(VIRTIO_SLOTS)))
    banks = _Places("flash bank", [FLASH + i * FLASH_BANK for i in range(FLASH_BANKS)])
    for index, (_, properties) in enumerate(entries):
        if isinstance(properties, VirtioProperties) and properties.slot is not None:
            slots.take(index, properties.slot)
        elif isinstance(properties, PflashProperties) and "address" in properties.model_fields_set:
            banks.take(index, properties.address)
    for index, (kind, properties) in enumerate(entries):
        update: Mapping[str, Any] = {}
        if isinstance(properties, VirtioProperties) and properties.slot is None:
            update = {"slot": slots.next(index)}
        elif isinstance(properties, PflashProperties) and "address" not in properties.model_fields_set:
            update = {"address": banks.next(index)}
        entries[index] = (kind, properties.model_copy(update=update))
    return entries


class _Places:
    """Places of one kind, each for one device."""

    def __init__(self, what: str, free: list[int]) -> None:
        self._what, self._free, self._count = what, free, len(free)

    def take(self, index: int, place: int) -> None:
        if place not in self._free:
            raise ConfigError(f"devices[{index}]: {self._what} {place:#x} does not exist or is taken")
        self._free.remove(place)

    def next(self, index: int) -> int:
        if not self._free:
            raise ConfigError(f"devices[{index}]: no {self._what} is left; the board has {self._count}")
        return self._free.pop(0)


def _free_flash_banks(context: DeviceContext, devices: list[Device]) -> list[Device]:
    """Volatile flash where the config puts none."""
    taken = {device.address for device in devices if isinstance(device, Pflash)}
    banks = (FLASH + i * FLASH_BANK for i in range(FLASH_BANKS))
    return [Pflash(context, PflashProperties(id="", address=bank, file=None)) for bank in banks if bank not in taken]


def _memory_tree(devices: list[Device], ram: memoryview, rom: bytearray | memoryview) -> MemoryRegion:
    root = MemoryRegion.container("system", ADDRESS_SPACE)
    root.add(BOOT_ROM, MemoryRegion.rom("boot ROM", rom, ROM_SIZE))
    root.add(RAM, MemoryRegion.ram("RAM", ram))
    for device in devices:
        for address, region in device.regions():
            root.add(address, region)
    return root
