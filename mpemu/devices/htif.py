"""HTIF, the host-target interface of Spike: exit code, console and write through the words tohost and fromhost.

It has no registers: the guest stores to ordinary RAM, at the ELF's symbols ``tohost`` and ``fromhost``, and the host
looks there now and then. The device polls from a timer of the context's clock, often while the guest uses it and rarely
otherwise; in deterministic mode that makes it deterministic too. Machine reset leaves it alone: the words are RAM.

A command is device << 56 | command << 48 | payload. Device 0: payload with bit 0 set is exit with payload >> 1, else
the address of eight words (system call number, arguments) that the result replaces. Device 1: 0 getchar, 1 putchar.
"""

from __future__ import annotations

from collections import deque

from mpemu.devices.chardev import Chardev
from mpemu.devices.device import Device, DeviceContext, DeviceProperties, State, dma

BUSY_NS, IDLE_NS = 100_000, 2_000_000
"""Time between looks while commands come, and otherwise."""
PATIENCE = 100
"""Looks in vain until a busy interface counts as idle."""

SYSCALL_DEVICE, CONSOLE_DEVICE = 0, 1
GETCHAR, PUTCHAR, IDENTIFY = 0, 1, 0xFF
SYS_WRITE, SYS_EXIT = 64, 93
LARGEST_WRITE = 64 * 1024
_PAYLOAD = (1 << 48) - 1
_EBADF, _EFAULT, _ENOSYS = 9, 14, 38
_NAMES = {SYSCALL_DEVICE: b"syscall_proxy\0", CONSOLE_DEVICE: b"bcd\0"}


class HtifProperties(DeviceProperties):
    """``htif``: attached by itself where the ELF has the symbols. Addresses of 8-byte words in RAM; 0: no fromhost."""

    tohost: int
    fromhost: int = 0


class Htif(Device):
    type_name = "htif"
    Properties = HtifProperties

    def __init__(self, context: DeviceContext, properties: HtifProperties) -> None:
        super().__init__(context, properties)
        self._words = context.memory.ram.cast("Q")
        self._tohost = self._index(properties.tohost)
        self._fromhost = self._index(properties.fromhost)
        self._chardev = Chardev()
        self._input: deque[int] = deque()
        self._replies: deque[int] = deque()
        self._readers = 0
        self._vain = PATIENCE
        self._timer = context.timer(self.poll)

    def _index(self, address: int) -> int | None:
        """Which word of RAM ``address`` is, or None if it is none."""
        offset = address - self.context.memory.ram_base
        if offset % 8 or not 0 <= offset <= self.context.memory.ram_size - 8:
            return None
        return offset // 8

    def attach_chardev(self, chardev: Chardev) -> None:
        """The console, unless a UART has it."""
        self._chardev = chardev

    def realize(self) -> None:
        self._chardev.attach(self._receive, lambda: 16 - len(self._input))
        self._chardev.input_wanted()
        self._timer.arm(self.context.clock() + BUSY_NS)

    def reset(self) -> None:
        self._replies.clear()
        self._readers = 0

    def close(self) -> None:
        self._timer.cancel()

    def _receive(self, data: bytes) -> None:
        self._input.extend(data)

    def poll(self) -> None:
        """Look at tohost, and answer."""
        busy = self.look()
        self._vain = 0 if busy else min(self._vain + 1, PATIENCE)
        self._timer.arm(self.context.clock() + (BUSY_NS if self._vain < PATIENCE else IDLE_NS))

    def look(self) -> bool:
        """Carry out the command in tohost, if there is one; whether there was."""
        if self._tohost is None:
            return False
        command = self._words[self._tohost]
        if command:
            self._set(self._tohost, 0)
            self._command(command)
        while self._readers and self._input:
            self._readers -= 1
            self._replies.append(CONSOLE_DEVICE << 56 | GETCHAR << 48 | 0x100 | self._input.popleft())
            self._chardev.input_wanted()
        if self._replies and self._fromhost is not None and not self._words[self._fromhost]:
            self._set(self._fromhost, self._replies.popleft())
        return command != 0

    def _set(self, index: int, value: int) -> None:
        with dma(self.context.near, [(self.context.memory.ram_base + 8 * index, 8)]):
            self._words[index] = value

    def _command(self, command: int) -> None:
        device, code, payload = command >> 56, command >> 48 & 0xFF, command & _PAYLOAD
        if device == SYSCALL_DEVICE and code == 0:
            if payload & 1:
                self.context.request_shutdown(payload >> 1)
            else:
                self._system_call(payload)
                self._replies.append(1)
        elif device == CONSOLE_DEVICE and code == PUTCHAR:
            self._chardev.write(bytes((payload & 0xFF,)))
        elif device == CONSOLE_DEVICE and code == GETCHAR:
            self._readers = min(self._readers + 1, 16)
        elif code == IDENTIFY:
            self._identify(device, payload)
        if len(self._replies) > 16:  # the guest never reads them
            self._replies.popleft()

    def _system_call(self, address: int) -> None:
        first = self._index(address)
        if first is None or self._index(address + 56) is None:
            return
        number, *arguments = self._words[first : first + 8]
        result = -_ENOSYS
        if number == SYS_EXIT:
            self.context.request_shutdown(arguments[0] & 0xFFFF_FFFF)
            result = 0
        elif number == SYS_WRITE:
            result = self._write(*arguments[:3])
        self._set(first, result & ((1 << 64) - 1))

    def _write(self, fd: int, address: int, length: int) -> int:
        offset = address - self.context.memory.ram_base
        if fd not in {1, 2}:
            return -_EBADF
        if offset < 0 or length > self.context.memory.ram_size or offset + length > self.context.memory.ram_size:
            return -_EFAULT
        length = min(length, LARGEST_WRITE)
        self._chardev.write(bytes(self.context.memory.ram[offset : offset + length]))
        return length

    def _identify(self, device: int, payload: int) -> None:
        """Command 0xff: the name of the device, at the address in the payload's upper bits."""
        name, address = _NAMES.get(device, b"\0"), payload >> 8
        offset = address - self.context.memory.ram_base
        if 0 <= offset <= self.context.memory.ram_size - len(name):
            with dma(self.context.near, [(address, len(name))]):
                self.context.memory.ram[offset : offset + len(name)] = name
        self._replies.append(device << 56 | IDENTIFY << 48 | 1)

    def state(self) -> State:
        return {"input": bytes(self._input), "replies": list(self._replies), "readers": self._readers}

    def load_state(self, state: State) -> None:
        self._input, self._replies = deque(state["input"]), deque(state["replies"])
        self._readers = state["readers"]
