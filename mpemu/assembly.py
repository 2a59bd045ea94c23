"""From a config to a machine that is ready to run: memory, vCPU processes, board, console.

The order matters: shared memory and doorbells first, then the fork of the vCPUs (nothing of asyncio and no thread
exists by then, and the processes stay small), then everything that only the coordinator needs.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mpemu.addresses import BOOT_ROM, FLASH_BANK
from mpemu.board import Board, placed_devices
from mpemu.boot.rom import ROM_SIZE
from mpemu.config import EngineConfig, MachineConfig, cache_limit
from mpemu.devices.bus import BusError
from mpemu.devices.chardev import Chardev, EscapeActions, make_chardev
from mpemu.devices.device import DeviceContext, Near, Timer
from mpemu.devices.pflash import Pflash, PflashProperties
from mpemu.devices.virtio.console import VirtioConsole, VirtioConsoleProperties
from mpemu.devices.virtio.mmio import VirtioProperties
from mpemu.errors import ConfigError
from mpemu.isa.profiles import IsaSpec
from mpemu.loop import MainLoop
from mpemu.machine import Machine, Parts, Start
from mpemu.memory import MachineMemory
from mpemu.notifier import Notifier
from mpemu.paths import code_dir
from mpemu.timers import SteppedClock
from mpemu.vcpu.blob import Blob, Progress, load_blob
from mpemu.vcpu.engine import Engine
from mpemu.vcpu.near import NearDevices
from mpemu.vcpu.pool import VCpuPool
from mpemu.vcpu.sampling import Sampling, count_tiers
from mpemu.vcpu.translation import Translation, TranslationSettings

DETERMINISTIC_EPOCH_NS = 1_577_836_800 * 10**9
"""The wall clock of a deterministic machine at its start: 2020-01-01."""


def _warn(message: str) -> None:
    print(f"mpemu: {message}", file=sys.stderr)


@dataclass
class Assembled:
    """A machine and its board. Use ``machine`` as a context manager: it closes everything."""

    machine: Machine
    board: Board
    console: Chardev
    code: Blob
    sampling: Sampling | None = None
    """With ``profile`` only."""


def assemble(
    config: MachineConfig,
    progress: Progress | None = None,
    warn: Callable[[str], None] = _warn,
    monitor: Callable[[str], str] | None = None,
    code: Blob | None = None,
    profile: Path | None = None,
) -> Assembled:
    """Make the machine. ``monitor`` executes lines typed after Ctrl-A c. ``code`` is another interpreter than that of
    the cache. ``profile``: where harts are is sampled, and translations are kept in this directory, with their origins.
    Raises errors of mpemu/errors.py."""
    isa = IsaSpec.parse(config.harts.isa)
    blob = code or load_blob(isa, progress)
    deterministic = config.execution == "deterministic"
    with ExitStack() as kept, ExitStack() as until_machine:
        memory = MachineMemory(config.harts.count, config.memory)
        kept.callback(memory.close)
        rom = _executable(memory, BOOT_ROM, ROM_SIZE)
        flash = {
            properties.address: _executable(memory, properties.address, FLASH_BANK)
            for _, properties in placed_devices(config)
            if isinstance(properties, PflashProperties)
        }
        bells = {} if deterministic else _doorbells(config, memory, kept)
        uart_bell = _bell(kept)
        memory.machine.uart_doorbell = uart_bell.fileno() + 1
        keep = [bell.fileno() for bell in (uart_bell, *bells.values())]
        translation = None
        sampling = Sampling(memory, blob) if profile else None
        if sampling:
            kept.callback(sampling.close)
        if config.engine.translates:
            if not sampling:
                count_tiers(memory, blob)
            translation = Translation(blob, memory, isa, _translation_settings(config.engine, profile))
            kept.callback(translation.close)
            keep.append(translation.doorbell)
        pool = VCpuPool(
            memory,
            lambda shared, hart: Engine(blob, shared, hart, isa),
            deterministic,
            config.seed,
            config.engine.quantum,
        )
        until_machine.callback(pool.close)
        pool.start(keep)
        loop = MainLoop(SteppedClock() if deterministic else None)
        until_machine.callback(loop.close)
        if translation:
            translation.attach(loop, warn)
        context = _context(config, loop, memory, NearDevices(blob, memory), warn)
        board = Board(config, context, memory.ram, memoryview(rom))
        kept.callback(board.close)
        for device in board.devices:
            if isinstance(device, Pflash) and device.address in flash:
                device.use_storage(flash[device.address])

        def load() -> Start:
            rom[:] = board.plan.rom
            board.plan.load(memory)
            return Start(board.plan.start, board.plan.dtb_address, board.plan.info_address)

        machine = Machine(Parts(memory, pool, loop, board.bus, (BusError,), load, list(board.devices)))
        context.request_reboot = machine.request_reboot
        until_machine.pop_all()
        machine.closing.push(kept.pop_all())
    try:
        console = make_chardev(
            config.console, loop, EscapeActions(lambda: machine.request_shutdown(0), lambda text: None, monitor)
        )
        context.request_shutdown = _shutdown(machine, board, console)
        board.connect(console)
        _extra_consoles(board, config, loop, machine, warn)
        board.realize()
        for slot, bell in bells.items():
            loop.on_notify(bell, board.virtio[slot].doorbell, f"doorbell of {board.virtio[slot].id}")
        loop.on_notify(uart_bell, board.uart.doorbell, "doorbell of the UART")
        if config.console == "stdio":
            loop.on_signal(signal.SIGCONT, console.continued)
        _open(console, config.console, machine, warn)
        machine.closing.callback(board.uart.flush)  # before the console is closed
    except BaseException:
        machine.close()
        raise
    return Assembled(machine, board, console, blob, sampling)


def _translation_settings(engine: EngineConfig, profile: Path | None) -> TranslationSettings:
    cache = profile or (code_dir() if engine.cache else None)
    heat = engine.hotness, engine.very_hot
    return TranslationSettings(*heat, engine.translators, cache, cache_limit(engine.cache_limit), bool(profile))


def _executable(memory: MachineMemory, address: int, size: int) -> mmap.mmap:
    """Shared memory outside RAM from which harts can execute, at guest physical ``address``; filled in later."""
    rom = mmap.mmap(-1, size)
    machine = memory.machine
    free = list(machine.rom_size).index(0)
    machine.rom_base[free], machine.rom_size[free] = address, size
    machine.rom_host[free] = ctypes.addressof(ctypes.c_char.from_buffer(rom))
    return rom


def _doorbells(config: MachineConfig, memory: MachineMemory, kept: ExitStack) -> dict[int, Notifier]:
    """An eventfd for each virtio slot with a device, which vCPUs ring by themselves."""
    bells: dict[int, Notifier] = {}
    for _, properties in placed_devices(config):
        if isinstance(properties, VirtioProperties) and properties.slot is not None:
            bell = bells[properties.slot] = _bell(kept)
            memory.machine.virtio_doorbell[properties.slot] = bell.fileno() + 1
    return bells


def _bell(kept: ExitStack) -> Notifier:
    bell = Notifier()
    kept.callback(bell.close)
    return bell


class _ShiftedTimer:
    """A timer of the virtual clock with deadlines in the deterministic machine's wall clock."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def arm(self, deadline_ns: int) -> None:
        self._timer.arm(deadline_ns - DETERMINISTIC_EPOCH_NS)

    def cancel(self) -> None:
        self._timer.cancel()


def _context(
    config: MachineConfig, loop: MainLoop, memory: MachineMemory, near: Near, warn: Callable[[str], None]
) -> DeviceContext:
    """Devices' surroundings; requests are connected when there is a machine."""
    deterministic = config.execution == "deterministic"

    def timer(callback: Callable[[], None]) -> Timer:
        return _ShiftedTimer(loop.virtual.timer(callback)) if deterministic else loop.host.timer(callback)

    return DeviceContext(
        loop=loop,
        memory=memory,
        near=near,
        request_shutdown=lambda code: None,
        request_reboot=lambda: None,
        clock=(lambda: DETERMINISTIC_EPOCH_NS + loop.virtual.now()) if deterministic else loop.host.now,
        timer=timer,
        random=random.Random(config.seed).randbytes if deterministic else os.urandom,
        deterministic=deterministic,
        warn=warn,
    )


def _extra_consoles(
    board: Board, config: MachineConfig, loop: MainLoop, machine: Machine, warn: Callable[[str], None]
) -> None:
    """virtio-consoles have backends of their own."""
    properties = {p.slot: p for _, p in placed_devices(config) if isinstance(p, VirtioConsoleProperties)}
    for slot, device in board.virtio.items():
        if isinstance(device, VirtioConsole) and (spec := properties[slot].console) != "none":
            if spec == "stdio" == config.console:
                raise ConfigError(f"{device.id}: stdio is the UART's console already; use file:, unix: or pty")
            actions = EscapeActions(lambda: machine.request_shutdown(0), lambda text: None)
            chardev = make_chardev(spec, loop, actions)
            device.attach_chardev(chardev)
            _open(chardev, spec, machine, warn)


def _shutdown(machine: Machine, board: Board, console: Chardev) -> Callable[[int], None]:
    """The guest's power-off: its last words come before anything that we say."""

    def shutdown(code: int) -> None:
        board.uart.flush()
        console.flush()
        machine.request_shutdown(code)

    return shutdown


def _open(chardev: Chardev, spec: str, machine: Machine, warn: Callable[[str], None]) -> None:
    chardev.warn = warn
    machine.closing.callback(chardev.close)
    try:
        chardev.open()
    except OSError as error:
        raise ConfigError(f"console: {spec} can't be opened: {error.strerror or error}") from error
