"""What a device is: properties, two-phase construction, regions, interrupt line, device-tree node, state.

Building goes in two steps, as in QEMU's qdev. *Create* (the constructor) takes validated properties and the context and
has no effect outside; *realize* opens files, connects to the loop and may fail with a message for the user. In between
the board places regions and connects the interrupt line. Devices are used by the coordinator only, one callback at a
time. Nothing that a guest writes may raise out of ``read`` and ``write`` of a region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mpemu.devices.regions import MemoryRegion
from mpemu.devicetree import PLIC_LABEL, Node, Property, Ref, cells64
from mpemu.layout import PLIC_SOURCES

LAST_SOURCE = PLIC_SOURCES - 1

State = dict[str, Any]
"""A snapshot of a device: ints, strings, bytes, lists and dicts of them; nothing else."""

T = TypeVar("T")


def _plic_source(value: int) -> int:
    if not 0 <= value <= LAST_SOURCE:
        raise ValueError(f"{value} is not a PLIC source (1..{LAST_SOURCE} on this machine)")
    return value


Address = Annotated[int, Field(ge=0, lt=1 << 56, description="guest physical address")]


class DeviceProperties(BaseModel):
    """Properties that every device has; subclasses add theirs. The config schema is made from these models."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field("", description="name of this device in messages, statistics and the control socket")


class Timer(Protocol):
    """A one-shot timer of the loop."""

    def arm(self, deadline_ns: int) -> None: ...
    def cancel(self) -> None: ...


class BottomHalf(Protocol):
    """Work for later, when the loop comes around; scheduled twice before that, it runs once."""

    def schedule(self) -> None: ...


class DeviceLoop(Protocol):
    """What devices use of the coordinator's main loop (mpemu/loop.py)."""

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_reader(self, fd: int) -> None: ...
    def add_writer(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_writer(self, fd: int) -> None: ...
    def bottom_half(self, callback: Callable[[], None]) -> BottomHalf: ...

    def submit(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run ``work`` in a worker; then ``done`` with its result, or with what it raised, in the loop."""
        ...


class DeviceMemory(Protocol):
    """Guest RAM as devices see it, and the shared state of near devices (mpemu/memory.py)."""

    harts: int
    machine: Any

    def hart(self, index: int) -> Any: ...

    ram: memoryview
    ram_base: int
    ram_size: int


class Near(Protocol):
    """Native helpers over the state in layout.MACHINE that harts and coordinator both change."""

    def set_irq(self, source: int, level: int) -> None:
        """An input line of the PLIC."""
        ...

    def virtio_interrupt(self, slot: int, bits: int) -> None:
        """Set bits of a slot's InterruptStatus, and raise its line."""
        ...

    def virtio_ack(self, slot: int, bits: int) -> None:
        """Clear bits of a slot's InterruptStatus; the line falls when none is left."""
        ...

    def store(self, address: int, size: int, value: int) -> bool:
        """A hart's store to a near register. False: nothing was done, the device has to do something first."""
        ...

    def uart_reset(self) -> None:
        """The UART's registers and FIFO as after power-on."""
        ...

    def uart_take(self, free: bool) -> bytes:
        """The UART's output so far. ``free``: the guest has the room again."""
        ...

    def uart_room(self) -> int:
        """How many characters uart_receive takes; if 0, the UART's doorbell rings when that has changed."""
        ...

    def uart_receive(self, data: bytes) -> None:
        """Input for the UART, not more than there is room for."""
        ...

    def dma_begins(self, address: int, length: int) -> None:
        """A device is about to write guest RAM; see :func:`dma`."""
        ...

    def dma_ends(self, address: int, length: int) -> None:
        """It has done so. From any thread."""
        ...


@contextmanager
def dma(near: Near, areas: Iterable[tuple[int, int]]) -> Iterator[None]:
    """Around a device's writes to these areas of guest RAM, (address, bytes) each: LR reservations there are lost, and
    none is made on these pages before all is written. May be left in another thread than it is entered in."""
    areas = list(areas)
    for address, length in areas:
        near.dma_begins(address, length)
    try:
        yield
    finally:
        for address, length in areas:
            near.dma_ends(address, length)


@dataclass
class DeviceContext:
    """The machine around a device.

    ``clock()`` is the guest's wall clock in ns since 1970 (virtual in deterministic mode); ``timer(callback)`` makes a
    one-shot timer whose deadlines are in that clock; ``random(n)`` gives n bytes, seeded in deterministic mode.
    """

    loop: DeviceLoop
    memory: DeviceMemory
    near: Near
    request_shutdown: Callable[[int], None]
    request_reboot: Callable[[], None]
    clock: Callable[[], int]
    timer: Callable[[Callable[[], None]], Timer]
    random: Callable[[int], bytes]
    deterministic: bool = False
    warn: Callable[[str], None] = field(default=lambda message: None)
    """Tell the user something about the guest or the host side; must not be called once per guest access."""


class IrqLine:
    """A device's interrupt output: a level. Changes reach ``sink(level)``, and raising it again while it is high: for
    the PLIC that is a new request (codegen/near.py)."""

    def __init__(self, sink: Callable[[int], None] | None = None) -> None:
        self.level = 0
        self._sink = sink

    def connect(self, sink: Callable[[int], None]) -> None:
        """Drive ``sink`` from now on, beginning with the present level."""
        self._sink = sink
        sink(self.level)

    def set(self, level: int | bool) -> None:
        level = int(level)
        if level or self.level:
            self.level = level
            if self._sink is not None:
                self._sink(level)

    def pulse(self) -> None:
        """Up and down again: an edge."""
        self.set(1)
        self.set(0)


class Device:
    """Base of all devices. A subclass states ``type_name`` and ``Properties`` and overrides what it has."""

    type_name: ClassVar[str]
    Properties: ClassVar[type[DeviceProperties]]

    def __init__(self, context: DeviceContext, properties: DeviceProperties) -> None:
        self.context = context
        self.id = properties.id or self.type_name

    def regions(self) -> list[tuple[int, MemoryRegion]]:
        """(physical address, region) of everything that the device answers to."""
        return []

    def connect_irq(self, set_irq: Callable[[int, int], None]) -> None:
        """Connect the interrupt line(s): ``set_irq(source, level)`` is the interrupt controller's input."""

    def realize(self) -> None:
        """Open what the device needs of the host. Raises an error of mpemu/errors.py that names the property."""

    def reset(self) -> None:
        """To the state after power-on; host files stay open."""

    def close(self) -> None:
        """Release what realize() opened; may be called twice, and without realize()."""

    def fdt_nodes(self) -> list[Node]:
        """Nodes for the device tree, under /soc. Empty: not described."""
        return []

    def state(self) -> State:
        """For a snapshot, together with :meth:`load_state`."""
        return {}

    def load_state(self, state: State) -> None:
        """Take over a state that :meth:`state` gave; ValueError or KeyError if it isn't one."""


class MmioProperties(DeviceProperties):
    """A device with registers at an address, and (irq other than 0) an interrupt."""

    address: Address
    irq: Annotated[int, Field(description="PLIC source, 0: none")] = 0

    def model_post_init(self, context: Any, /) -> None:
        _plic_source(self.irq)


class MmioDevice(Device):
    """A device with one register window and at most one interrupt: what most devices are.

    ``size`` is the window's length in bytes, ``sizes`` the access sizes that its registers take.
    """

    size: ClassVar[int] = 0x1000
    sizes: ClassVar[frozenset[int]] = frozenset({4})

    def __init__(self, context: DeviceContext, properties: MmioProperties) -> None:
        super().__init__(context, properties)
        self.address, self.source = properties.address, properties.irq
        self.irq = IrqLine()

    def read(self, offset: int, size: int) -> int:
        raise NotImplementedError

    def write(self, offset: int, size: int, value: int) -> None:
        raise NotImplementedError

    def regions(self) -> list[tuple[int, MemoryRegion]]:
        return [(self.address, MemoryRegion.io(self.id, self.size, self.read, self.write, self.sizes))]

    def connect_irq(self, set_irq: Callable[[int, int], None]) -> None:
        if self.source:
            source = self.source
            self.irq.connect(lambda level: set_irq(source, level))

    def node(self, name: str, compatible: str | list[str], label: str = "") -> Node:
        """The device's node with ``reg`` and, if there is one, its interrupt; the caller may add properties."""
        properties: dict[str, Property] = {"compatible": compatible, "reg": cells64(self.address, self.size)}
        if self.source:
            properties |= {"interrupts": self.source, "interrupt-parent": Ref(PLIC_LABEL)}
        return Node(f"{name}@{self.address:x}", properties, label=label)
