"""The machine's device tree: harts, memory, what the devices say of themselves, and the boot's own part, /chosen.

Bindings: Devicetree Specification v0.4, Linux Documentation/devicetree/bindings (riscv/cpus.yaml, syscon-poweroff),
laid out as QEMU's virt has it, so that firmware and kernels find what they look for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mpemu.addresses import TIMEBASE_HZ
from mpemu.devicetree import (
    SYSCON_LABEL,
    Cell,
    DeviceTreeError,
    Node,
    Property,
    Ref,
    cells64,
    flatten,
    hart_label,
    parse,
)
from mpemu.errors import GuestImageError

CACHE_BLOCK = 64
POWEROFF, REBOOT = 0x5555, 0x7777
LARGEST_DTB = 4 << 20


class HartIsa(Protocol):
    """What the tree says of a hart's instruction set (mpemu/isa/profiles.py)."""

    @property
    def isa_string(self) -> str: ...
    @property
    def extensions_list(self) -> list[str]: ...
    @property
    def paging(self) -> str: ...
    def has(self, extension: str) -> bool: ...


@dataclass(frozen=True)
class Chosen:
    """What the boot adds: the command line, the initrd's addresses (start, end), 32 bytes of entropy."""

    bootargs: str = ""
    initrd: tuple[int, int] | None = None
    rng_seed: bytes = b""

    def properties(self) -> dict[str, Property]:
        """Those that are not empty, as properties of /chosen."""
        found: dict[str, Property] = {}
        if self.bootargs:
            found["bootargs"] = self.bootargs
        if self.initrd:
            found["linux,initrd-start"] = cells64(self.initrd[0])
            found["linux,initrd-end"] = cells64(self.initrd[1])
        if self.rng_seed:
            found["rng-seed"] = self.rng_seed
        return found


def machine_tree(
    harts: int, isa: HartIsa, ram: tuple[int, int], devices: Iterable[Node], chosen: Chosen, model: str = "mpemu,virt"
) -> Node:
    """The whole tree. ``ram`` is (address, bytes), ``devices`` are the nodes of all devices, in any order."""
    soc = list(devices)
    soc.sort(key=lambda node: int(node.name.partition("@")[2] or "0", 16))
    root = Node(
        "",
        {"#address-cells": 2, "#size-cells": 2, "compatible": "riscv-virtio", "model": model},
        [
            _chosen_node(chosen, soc),
            Node(f"memory@{ram[0]:x}", {"device_type": "memory", "reg": cells64(*ram)}),
            _cpus_node(harts, isa),
        ],
    )
    if any(node.label == SYSCON_LABEL for node in soc):
        for name, value in (("poweroff", POWEROFF), ("reboot", REBOOT)):
            compatible = f"syscon-{name}"
            root.children.append(
                Node(name, {"compatible": compatible, "regmap": Ref(SYSCON_LABEL), "offset": 0, "value": value})
            )
    flash = [node for node in soc if node.name.startswith("flash@")]  # at the root, where EDK2 and QEMU have it
    root.children += flash
    soc = [node for node in soc if node not in flash]
    root.children.append(
        Node("soc", {"#address-cells": 2, "#size-cells": 2, "compatible": "simple-bus", "ranges": None}, soc)
    )
    return root


def _chosen_node(chosen: Chosen, soc: list[Node]) -> Node:
    node = Node("chosen", chosen.properties())
    serial = next((n.name for n in soc if n.name.startswith("serial@")), "")
    if serial:
        node.properties["stdout-path"] = f"/soc/{serial}"
    return node


def with_chosen(dtb: bytes, chosen: Chosen, name: str) -> bytes:
    """A device tree that the user brings, with the boot's properties put into its /chosen.

    Raises :class:`GuestImageError` if it isn't one.
    """
    if len(dtb) > LARGEST_DTB:
        raise GuestImageError(f"{name}: a device tree of {len(dtb)} bytes; at most {LARGEST_DTB} are possible")
    try:
        root, reservations = parse(dtb)
        properties = chosen.properties()
        if not properties:
            return dtb
        node = root.find("chosen")
        if node is None:
            node = Node("chosen")
            root.children.append(node)
        node.properties |= properties
        return flatten(root, reservations)
    except DeviceTreeError as error:
        raise GuestImageError(f"{name}: {error}") from error


def _cpus_node(harts: int, isa: HartIsa) -> Node:
    cpus = Node("cpus", {"#address-cells": 1, "#size-cells": 0, "timebase-frequency": TIMEBASE_HZ})
    cores = []
    for index in range(harts):
        cpu = Node(
            f"cpu@{index:x}",
            {
                "device_type": "cpu",
                "reg": index,
                "status": "okay",
                "compatible": "riscv",
                "riscv,isa": isa.isa_string,
                "riscv,isa-base": "rv64i",
                "riscv,isa-extensions": isa.extensions_list,
                "mmu-type": f"riscv,{isa.paging}",
            },
            [
                Node(
                    "interrupt-controller",
                    {
                        "compatible": "riscv,cpu-intc",
                        "interrupt-controller": None,
                        "#interrupt-cells": 1,
                        "#address-cells": 0,
                    },
                    label=hart_label(index),
                )
            ],
            label=f"cpu{index}",
        )
        for extension, name in (("Zicbom", "cbom"), ("Zicboz", "cboz"), ("Zicbop", "cbop")):
            if isa.has(extension):
                cpu.properties[f"riscv,{name}-block-size"] = CACHE_BLOCK
        cpus.children.append(cpu)
        core: list[Cell] = [Ref(f"cpu{index}")]
        cores.append(Node(f"core{index}", {"cpu": core}))
    cpus.children.append(Node("cpu-map", {}, [Node("cluster0", {}, cores)]))
    return cpus
