"""UART ns16550a (National Semiconductor PC16550D data sheet), the board's console.

The chip is near: vCPUs handle its registers in native code (codegen/uart.py) on words of layout.MACHINE. Here is the
rest: place, reset, device tree, snapshot, and the way between the two rings of characters there and the backend.
Nothing is dropped: input waits in the backend until its ring has room; while the backend is congested, output waits in
its ring, and then in the guest.
"""

from __future__ import annotations

from mpemu.addresses import UART, UART_IRQ, UART_SIZE
from mpemu.devices.chardev import Chardev
from mpemu.devices.device import Device, DeviceContext, DeviceProperties, State
from mpemu.devices.regions import MemoryRegion
from mpemu.devicetree import PLIC_LABEL, Node, Property, Ref, cells64

CLOCK_HZ = 3_686_400
_REGISTERS = ("ier", "fcr", "lcr", "mcr", "msr", "scr", "divisor", "errors", "empty_pending")
_ATTEMPTS = 100


class UartProperties(DeviceProperties):
    """``ns16550a``: the serial console."""


class Uart(Device):
    type_name = "ns16550a"
    Properties = UartProperties

    def __init__(self, context: DeviceContext, properties: UartProperties) -> None:
        super().__init__(context, properties)
        self._chardev = Chardev()

    def attach_chardev(self, chardev: Chardev) -> None:
        """Where the characters go and come from; before realize(). The board opens and closes it."""
        self._chardev = chardev

    def regions(self) -> list[tuple[int, MemoryRegion]]:
        return [(UART, MemoryRegion.near(self.id, UART_SIZE, frozenset({1, 2, 4}), self._write))]

    def realize(self) -> None:
        near = self.context.near
        self._chardev.attach(near.uart_receive, near.uart_room, self._send)
        self._chardev.input_wanted()

    def reset(self) -> None:
        """Only while the harts are parked, like :meth:`state` and :meth:`load_state`."""
        self._make_room()
        self.context.near.uart_reset()

    # -- between the rings and the backend
    def doorbell(self) -> None:
        """There is output in an empty ring, or room in a full one."""
        self._send()
        self._chardev.input_wanted()

    def flush(self) -> None:
        """Give the backend all that the guest has sent so far, congested or not."""
        self._chardev.write(self.context.near.uart_take(not self.context.deterministic))

    def _send(self) -> None:
        if not self._chardev.congested:
            self.flush()

    def _make_room(self) -> None:
        """Empty the ring at a moment that is the same in every run."""
        if self.context.deterministic and self._chardev.congested:
            self._chardev.flush()  # the guest's time stands still meanwhile
        self._chardev.write(self.context.near.uart_take(True))

    def _write(self, offset: int, size: int, value: int) -> None:
        """A character for a full ring: from a guest that does not wait for the transmitter, or in deterministic mode.

        In a parallel machine other harts may fill the ring again at once. Against all of them a character is lost in
        the end, as the chip would lose it.
        """
        for _ in range(_ATTEMPTS):
            self._make_room()
            if self.context.near.store(UART + offset, size, value):
                return

    def fdt_nodes(self) -> list[Node]:
        properties: dict[str, Property] = {
            "compatible": "ns16550a",
            "reg": cells64(UART, UART_SIZE),
            "interrupts": UART_IRQ,
            "interrupt-parent": Ref(PLIC_LABEL),
            "clock-frequency": CLOCK_HZ,
        }
        return [Node(f"serial@{UART:x}", properties)]

    def state(self) -> State:
        """The chip. Characters in the rings belong to the host; ``room`` says when a deterministic guest's next far
        store is due."""
        self.flush()
        machine = self.context.memory.machine
        first, count = machine.uart_fifo_first, machine.uart_fifo_count
        fifo = bytes(machine.uart_fifo)
        waiting = (fifo[first:] + fifo[:first])[:count]
        room = machine.uart_tx_limit - machine.uart_tx_tail
        return {"fifo": waiting, "room": room, **{name: getattr(machine, f"uart_{name}") for name in _REGISTERS}}

    def load_state(self, state: State) -> None:
        self.flush()
        machine = self.context.memory.machine
        waiting = state["fifo"]
        if len(waiting) > len(machine.uart_fifo):
            raise ValueError(f"{self.id}: {len(waiting)} characters don't fit in a FIFO of {len(machine.uart_fifo)}")
        machine.uart_fifo[: len(waiting)] = waiting
        machine.uart_fifo_first, machine.uart_fifo_count = 0, len(waiting)
        for name in _REGISTERS:
            setattr(machine, f"uart_{name}", state[name])
        machine.uart_tx_limit = machine.uart_tx_tail + state["room"]
        self.context.near.uart_take(False)  # sets the interrupt line as the registers are now
