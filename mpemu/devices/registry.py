"""The device types by name: one line per device. Modules are imported when their device is used."""

from __future__ import annotations

from importlib import import_module

from mpemu.devices.device import Device

DEVICES: dict[str, str] = {
    "aclint": "mpemu.devices.aclint:Aclint",
    "goldfish-rtc": "mpemu.devices.rtc:GoldfishRtc",
    "htif": "mpemu.devices.htif:Htif",
    "ns16550a": "mpemu.devices.uart:Uart",
    "pflash": "mpemu.devices.pflash:Pflash",
    "plic": "mpemu.devices.plic:Plic",
    "sifive-test": "mpemu.devices.test_finisher:TestFinisher",
    "virtio-blk": "mpemu.devices.virtio.blk:VirtioBlk",
    "virtio-console": "mpemu.devices.virtio.console:VirtioConsole",
    "virtio-rng": "mpemu.devices.virtio.rng:VirtioRng",
}


def device_class(name: str) -> type[Device]:
    """The class of a device type. KeyError if there is none."""
    module, _, attribute = DEVICES[name].partition(":")
    found: type[Device] = getattr(import_module(module), attribute)
    return found


def device_classes() -> dict[str, type[Device]]:
    """All of them, for listings and the config schema."""
    return {name: device_class(name) for name in DEVICES}
