"""virtio-rng, the entropy source (virtio 1.2, section 5.4): one queue of buffers to fill."""

from __future__ import annotations

from mpemu.devices.device import DeviceContext, dma
from mpemu.devices.virtio.mmio import VirtioDevice, VirtioProperties
from mpemu.devices.virtio.queue import Chain, Virtqueue, scatter

LARGEST = 64 * 1024
"""Bytes given for one buffer at most, so that a huge one does not hold up the loop; the driver sees how many."""


class VirtioRngProperties(VirtioProperties):
    """``virtio-rng``: entropy from the host; in deterministic mode from the seed."""


class VirtioRng(VirtioDevice):
    type_name = "virtio-rng"
    Properties = VirtioRngProperties
    device_id = 4
    queues = 1

    def __init__(self, context: DeviceContext, properties: VirtioRngProperties) -> None:
        super().__init__(context, properties)

    def handle(self, queue: Virtqueue, chain: Chain) -> None:
        data = self.context.random(min(chain.writable_size, LARGEST))
        with dma(self.context.near, chain.areas):
            written = scatter(chain.writable, data)
        self.complete(queue, chain, written)
