"""PLIC: external interrupts (RISC-V PLIC specification 1.0, as sifive,plic-1.0.0). Contexts 2h (M), 2h+1 (S) of hart h.

The registers and the choice of interrupts are near: native code (codegen/near.py) on words of layout.MACHINE, under
plic_lock. Here is the rest: place, reset, device tree, snapshot. Devices drive it by ``Near.set_irq``.
"""

from __future__ import annotations

from mpemu.addresses import PLIC, PLIC_SIZE
from mpemu.devices.device import Device, DeviceContext, DeviceProperties, State
from mpemu.devices.regions import MemoryRegion
from mpemu.devicetree import PLIC_LABEL, Cell, Node, Ref, cells64, hart_label
from mpemu.layout import LINES, PLIC_SOURCES

M_EXTERNAL, S_EXTERNAL = 11, 9
_REGISTERS = ("plic_pending", "plic_claimed", "plic_priority", "plic_threshold", "plic_enable")


class PlicProperties(DeviceProperties):
    """``plic``: the interrupt controller."""


class Plic(Device):
    type_name = "plic"
    Properties = PlicProperties

    def __init__(self, context: DeviceContext, properties: PlicProperties) -> None:
        super().__init__(context, properties)

    def regions(self) -> list[tuple[int, MemoryRegion]]:
        return [(PLIC, MemoryRegion.near(self.id, PLIC_SIZE, frozenset({4})))]

    def reset(self) -> None:
        """Nothing enabled, pending or claimed; input lines keep their levels. Only while the harts are parked."""
        machine = self.context.memory.machine
        for name in _REGISTERS:
            array = getattr(machine, name)
            array[:] = [0] * len(array)
        machine.plic_lock = 0
        for index in range(self.context.memory.harts):
            hart = self.context.memory.hart(index)
            for line in ("meip", "seip"):
                hart.lines[LINES.index(line)] = 0
        for source in range(1, PLIC_SOURCES):
            if machine.plic_level[source]:
                self.context.near.set_irq(source, 1)

    def fdt_nodes(self) -> list[Node]:
        contexts: list[Cell] = []
        for index in range(self.context.memory.harts):
            controller = Ref(hart_label(index))
            contexts += [controller, M_EXTERNAL, controller, S_EXTERNAL]
        return [
            Node(
                f"plic@{PLIC:x}",
                {
                    "compatible": ["sifive,plic-1.0.0", "riscv,plic0"],
                    "reg": cells64(PLIC, PLIC_SIZE),
                    "interrupts-extended": contexts,
                    "interrupt-controller": None,
                    "#interrupt-cells": 1,
                    "#address-cells": 0,
                    "riscv,ndev": PLIC_SOURCES - 1,
                },
                label=PLIC_LABEL,
            )
        ]

    def state(self) -> State:
        machine = self.context.memory.machine
        return {name: list(getattr(machine, name)) for name in (*_REGISTERS, "plic_level")}

    def load_state(self, state: State) -> None:
        machine = self.context.memory.machine
        for name in (*_REGISTERS, "plic_level"):
            array = getattr(machine, name)
            if len(state[name]) != len(array):
                raise ValueError(f"{self.id}: {name} has {len(state[name])} entries, not {len(array)}")
            array[:] = state[name]
