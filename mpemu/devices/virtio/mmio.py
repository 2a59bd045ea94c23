"""The virtio-mmio transport, version 2 (virtio 1.2, section 4.2), and the base of the devices behind it.

InterruptStatus, InterruptACK and the doorbell QueueNotify are near registers: a vCPU handles them natively, on words of
layout.MACHINE, and this module sees only the doorbell's eventfd. Where they do arrive here (deterministic mode, tests)
they behave the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from mpemu.addresses import VIRTIO, VIRTIO_IRQ, VIRTIO_SIZE, VIRTIO_SLOTS
from mpemu.devices.device import (
    Device,
    DeviceContext,
    DeviceProperties,
    IrqLine,
    MmioDevice,
    MmioProperties,
    State,
    dma,
)
from mpemu.devices.virtio.queue import Chain, QueueError, Virtqueue
from mpemu.devicetree import Node

QUEUE_SIZE = 256

MAGIC, VERSION, DEVICE_ID, VENDOR_ID = 0x000, 0x004, 0x008, 0x00C
DEVICE_FEATURES, DEVICE_FEATURES_SEL = 0x010, 0x014
DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x020, 0x024
QUEUE_SEL, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY, QUEUE_NOTIFY = 0x030, 0x034, 0x038, 0x044, 0x050
INTERRUPT_STATUS, INTERRUPT_ACK, STATUS = 0x060, 0x064, 0x070
QUEUE_DESC_LOW, QUEUE_DRIVER_LOW, QUEUE_DEVICE_LOW = 0x080, 0x090, 0x0A0
SHM_FIRST, SHM_LAST = 0x0B0, 0x0BC
CONFIG_GENERATION, CONFIG = 0x0FC, 0x100

MAGIC_VALUE, VENDOR = 0x7472_6976, 0x554D_4551  # some small kernels insist on QEMU's vendor
FEATURES_OK, DRIVER_OK, NEEDS_RESET = 8, 4, 0x40
INTERRUPT_USED, INTERRUPT_CONFIG = 1, 2
F_INDIRECT_DESC, F_VERSION_1 = 1 << 28, 1 << 32

_LOW = 0xFFFF_FFFF


class VirtioProperties(DeviceProperties):
    """What every virtio device has."""

    slot: Annotated[int, Field(ge=0, lt=VIRTIO_SLOTS)] | None = Field(
        None, description=f"virtio-mmio slot, 0..{VIRTIO_SLOTS - 1}; by default the first free one"
    )


class VirtioDevice(MmioDevice):
    """A device in a slot. Subclasses give ``device_id``, queues, features and configuration, and handle queues."""

    device_id: ClassVar[int] = 0
    queues: ClassVar[int] = 0
    features: int = 0
    size = VIRTIO_SIZE
    sizes = frozenset({1, 2, 4, 8})

    def __init__(self, context: DeviceContext, properties: VirtioProperties) -> None:
        self.slot = properties.slot or 0
        placed = MmioProperties(
            id=properties.id or f"{self.type_name}.{self.slot}",
            address=VIRTIO + VIRTIO_SIZE * self.slot,
            irq=VIRTIO_IRQ + self.slot,
        )
        super().__init__(context, placed)
        self.queue = [Virtqueue(context.memory, QUEUE_SIZE) for _ in range(self.queues)]
        self._later = [context.loop.bottom_half(partial(self.notify, index)) for index in range(self.queues)]
        self._warned = False
        self._clear()

    def connect_irq(self, set_irq: Callable[[int, int], None]) -> None:
        """The line follows InterruptStatus, which is near."""
        self.irq = IrqLine()

    def _clear(self) -> None:
        self._status = self._features_sel = self._driver_sel = self._queue_sel = 0
        self._driver_features = 0
        for queue in self.queue:
            queue.reset()

    def reset(self) -> None:
        self.quiesce()
        self._clear()
        self.context.near.virtio_ack(self.slot, _LOW)

    # -- for subclasses
    def config(self) -> bytes:
        """The configuration space."""
        return b""

    def handle(self, queue: Virtqueue, chain: Chain) -> None:
        """A buffer arrived; it is given back by :meth:`complete`, now or later. What is written to it before that is
        announced (:func:`dma`)."""
        raise NotImplementedError

    def wants(self, index: int) -> bool:
        """Whether buffers of this queue shall be handed to :meth:`handle` now."""
        return True

    def quiesce(self) -> None:
        """Finish or abandon what is in flight: afterwards nothing touches guest memory or gives buffers back."""

    def complete(self, queue: Virtqueue, chain: Chain, written: int) -> None:
        """Give a buffer back with ``written`` bytes in it, and interrupt the driver if it wants that."""
        with dma(self.context.near, [queue.used_area()] if queue.ready else []):
            interrupt = queue.push(chain, written)
        if interrupt:
            self.context.near.virtio_interrupt(self.slot, INTERRUPT_USED)

    def failed(self, reason: str) -> None:
        """The driver broke the rules: nothing more is done until it resets the device."""
        if not self._status & NEEDS_RESET:
            if not self._warned:  # once: the guest decides how often it happens
                self._warned = True
                self.context.warn(f"{self.id}: the guest's driver misbehaves: {reason}; the device waits for a reset")
            self._status |= NEEDS_RESET
            if self._status & DRIVER_OK:
                self.context.near.virtio_interrupt(self.slot, INTERRUPT_CONFIG)

    # -- doorbells
    def doorbell(self) -> None:
        """The slot's eventfd was rung: look at all queues, which costs no more than to ask which one it was."""
        for index in range(len(self.queue)):
            self.notify(index)

    def notify(self, index: int) -> None:
        """Take the buffers of a queue; at most its size at once, then others get their turn."""
        if index >= len(self.queue) or self._status & (DRIVER_OK | NEEDS_RESET) != DRIVER_OK:
            return
        queue = self.queue[index]
        try:
            for _ in range(queue.size):
                if not self.wants(index) or (chain := queue.pop()) is None:
                    return
                self.handle(queue, chain)
        except QueueError as error:
            self.failed(str(error))
            return
        self._later[index].schedule()

    # -- registers
    def read(self, offset: int, size: int) -> int:
        if offset >= CONFIG:
            return int.from_bytes(self.config()[offset - CONFIG : offset - CONFIG + size], "little")
        if size != 4:
            return 0
        if offset == INTERRUPT_STATUS:
            return int(self.context.memory.machine.virtio_isr[self.slot])
        if offset == DEVICE_FEATURES:
            return self._offered() >> (32 * self._features_sel) & _LOW if self._features_sel < 2 else 0
        if offset in {QUEUE_NUM_MAX, QUEUE_READY}:
            if self._queue_sel >= len(self.queue):
                return 0
            queue = self.queue[self._queue_sel]
            return queue.maximum if offset == QUEUE_NUM_MAX else int(queue.ready)
        if SHM_FIRST <= offset <= SHM_LAST:
            return _LOW  # no such shared memory region
        return {
            MAGIC: MAGIC_VALUE,
            VERSION: 2,
            DEVICE_ID: self.device_id,
            VENDOR_ID: VENDOR,
            STATUS: self._status,
        }.get(offset, 0)

    def _offered(self) -> int:
        return self.features | F_VERSION_1 | F_INDIRECT_DESC if self.device_id else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset >= CONFIG or size != 4 or not self.device_id:
            return
        if offset == QUEUE_NOTIFY:
            self.notify(value & 0xFFFF)
        elif offset == INTERRUPT_ACK:
            self.context.near.virtio_ack(self.slot, value)
        elif offset == STATUS:
            self._write_status(value & 0xFF)
        elif offset == DEVICE_FEATURES_SEL:
            self._features_sel = value
        elif offset == DRIVER_FEATURES_SEL:
            self._driver_sel = value
        elif offset == DRIVER_FEATURES:
            if self._driver_sel < 2 and not self._status & FEATURES_OK:
                shift = 32 * self._driver_sel
                self._driver_features = self._driver_features & ~(_LOW << shift) | value << shift
        elif offset == QUEUE_SEL:
            self._queue_sel = value
        elif self._queue_sel < len(self.queue):
            self._write_queue(self.queue[self._queue_sel], offset, value)

    def _write_status(self, value: int) -> None:
        if not value:
            self.reset()
            return
        # Without VERSION_1 we may refuse (6.1), but xv6 does not ask for it, and QEMU lets it pass.
        if not self._status & FEATURES_OK and self._driver_features & ~self._offered():
            value &= ~FEATURES_OK
        started = value & DRIVER_OK and not self._status & DRIVER_OK
        self._status |= value & ~NEEDS_RESET
        if started:  # buffers may have been made available before
            for index in range(len(self.queue)):
                self.notify(index)

    def _write_queue(self, queue: Virtqueue, offset: int, value: int) -> None:
        if offset == QUEUE_READY:
            if not value:
                self.quiesce()
                queue.ready = False
            elif not queue.ready:
                try:
                    queue.start()
                except QueueError as error:
                    self.failed(str(error))
            return
        if queue.ready:
            return  # the layout of a live queue does not change
        if offset == QUEUE_NUM:
            queue.size = value
        for low, name in ((QUEUE_DESC_LOW, "descriptors"), (QUEUE_DRIVER_LOW, "available"), (QUEUE_DEVICE_LOW, "used")):
            if offset == low:
                setattr(queue, name, getattr(queue, name) & ~_LOW | value)
            elif offset == low + 4:
                setattr(queue, name, getattr(queue, name) & _LOW | value << 32)

    def fdt_nodes(self) -> list[Node]:
        return [self.node("virtio_mmio", "virtio,mmio")]

    def state(self) -> State:
        self.quiesce()
        return {
            "status": self._status,
            "selectors": [self._features_sel, self._driver_sel, self._queue_sel],
            "driver_features": self._driver_features,
            "queues": [queue.state() for queue in self.queue],
        }

    def load_state(self, state: State) -> None:
        self.quiesce()
        self._status, self._driver_features = state["status"], state["driver_features"]
        self._features_sel, self._driver_sel, self._queue_sel = state["selectors"]
        for queue, saved in zip(self.queue, state["queues"], strict=True):
            queue.load_state(saved)
        for index in range(len(self.queue)):
            self.notify(index)


class EmptySlot(VirtioDevice):
    """A slot without a device: DeviceID 0, which drivers pass over."""

    type_name = "virtio-empty"
    Properties = VirtioProperties


def fill_slots(context: DeviceContext, devices: list[Device]) -> list[Device]:
    """Empty slots for all that no device of ``devices`` takes."""
    taken = {device.slot for device in devices if isinstance(device, VirtioDevice)}
    return [EmptySlot(context, VirtioProperties(id="", slot=slot)) for slot in range(VIRTIO_SLOTS) if slot not in taken]
