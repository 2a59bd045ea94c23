"""virtio-console with one port (virtio 1.2, section 5.3): a receive and a transmit queue, no control queue."""

from __future__ import annotations

from mpemu.devices.chardev import Chardev
from mpemu.devices.device import DeviceContext, dma
from mpemu.devices.virtio.mmio import VirtioDevice, VirtioProperties
from mpemu.devices.virtio.queue import Chain, Virtqueue, gather, scatter

RECEIVE, TRANSMIT = 0, 1
LARGEST = 64 * 1024
"""Bytes taken from one transmit buffer; a longer one is cut, so that a guest can't make the host copy without end."""
ROOM = 4096
"""Input accepted ahead of the guest's buffers."""


class VirtioConsoleProperties(VirtioProperties):
    """``virtio-console``: a console without a UART."""

    console: str = "none"


class VirtioConsole(VirtioDevice):
    type_name = "virtio-console"
    Properties = VirtioConsoleProperties
    device_id = 3
    queues = 2

    def __init__(self, context: DeviceContext, properties: VirtioConsoleProperties) -> None:
        super().__init__(context, properties)
        self._chardev = Chardev()
        self._input = bytearray()

    def attach_chardev(self, chardev: Chardev) -> None:
        """Where the characters go and come from; before realize(). The board opens and closes it."""
        self._chardev = chardev

    def realize(self) -> None:
        self._chardev.attach(self._receive, self._room, lambda: self.notify(TRANSMIT))
        self._chardev.input_wanted()

    def config(self) -> bytes:
        """cols, rows (unknown), max_nr_ports, emerg_wr."""
        return bytes(4) + (1).to_bytes(4, "little") + bytes(4)

    def reset(self) -> None:
        self._input.clear()
        super().reset()

    def _room(self) -> int:
        return ROOM - len(self._input)

    def _receive(self, data: bytes) -> None:
        self._input += data
        self.notify(RECEIVE)

    def wants(self, index: int) -> bool:
        return bool(self._input) if index == RECEIVE else not self._chardev.congested

    def handle(self, queue: Virtqueue, chain: Chain) -> None:
        if queue is self.queue[TRANSMIT]:
            self._chardev.write(gather(chain.readable, LARGEST))
            self.complete(queue, chain, 0)
            return
        with dma(self.context.near, chain.areas):
            done = scatter(chain.writable, bytes(self._input))
        del self._input[:done]
        self.complete(queue, chain, done)
        self._chardev.input_wanted()
