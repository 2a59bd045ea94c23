"""ACLINT: software interrupts and timers of the harts (RISC-V ACLINT specification 1.0, laid out as SiFive's CLINT).

mswi and mtimer, and sswi for supervisor software interrupts. The registers are near: vCPUs handle them in native code
(codegen/near.py) on words of layout.HART. Here is the rest: place, reset, device tree, snapshot.
"""

from __future__ import annotations

from mpemu.addresses import CLINT, CLINT_SIZE, SSWI, SSWI_SIZE
from mpemu.devices.device import Device, DeviceContext, DeviceProperties, State
from mpemu.devices.regions import MemoryRegion
from mpemu.devicetree import Cell, Node, Ref, cells64, hart_label
from mpemu.layout import LINES

NEVER = (1 << 64) - 1
M_SOFTWARE, S_SOFTWARE, M_TIMER = 3, 1, 7
_TIMER_SIZES = frozenset({4, 8})


class AclintProperties(DeviceProperties):
    """``aclint``: inter-processor interrupts and timers."""


class Aclint(Device):
    type_name = "aclint"
    Properties = AclintProperties

    def __init__(self, context: DeviceContext, properties: AclintProperties) -> None:
        super().__init__(context, properties)

    def regions(self) -> list[tuple[int, MemoryRegion]]:
        return [
            (CLINT, MemoryRegion.near(f"{self.id} mswi, mtimer", CLINT_SIZE, _TIMER_SIZES)),
            (SSWI, MemoryRegion.near(f"{self.id} sswi", SSWI_SIZE, frozenset({4}))),
        ]

    def reset(self) -> None:
        """No interrupt pending, no timer set. Only while the harts are parked."""
        for index in range(self.context.memory.harts):
            hart = self.context.memory.hart(index)
            hart.mtimecmp = NEVER
            for line in ("msip", "ssip", "mtip", "stip"):
                hart.lines[LINES.index(line)] = 0

    def fdt_nodes(self) -> list[Node]:
        machine: list[Cell] = []
        supervisor: list[Cell] = []
        for index in range(self.context.memory.harts):
            controller = Ref(hart_label(index))
            machine += [controller, M_SOFTWARE, controller, M_TIMER]
            supervisor += [controller, S_SOFTWARE]
        return [
            Node(
                f"clint@{CLINT:x}",
                {
                    "compatible": ["sifive,clint0", "riscv,clint0"],
                    "reg": cells64(CLINT, CLINT_SIZE),
                    "interrupts-extended": machine,
                },
            ),
            Node(
                f"sswi@{SSWI:x}",
                {
                    "compatible": "riscv,aclint-sswi",
                    "reg": cells64(SSWI, SSWI_SIZE),
                    "interrupts-extended": supervisor,
                    "interrupt-controller": None,
                    "#interrupt-cells": 0,
                    "#address-cells": 0,
                },
            ),
        ]

    def state(self) -> State:
        """mtimecmp of each hart; its lines are part of the hart's own state."""
        memory = self.context.memory
        return {"mtimecmp": [memory.hart(i).mtimecmp for i in range(memory.harts)]}

    def load_state(self, state: State) -> None:
        memory = self.context.memory
        if len(state["mtimecmp"]) != memory.harts:
            raise ValueError(f"{self.id}: a state of {len(state['mtimecmp'])} harts, this machine has {memory.harts}")
        for index, value in enumerate(state["mtimecmp"]):
            memory.hart(index).mtimecmp = value
