"""Channels between the coordinator and its vCPU processes: requests up, one reply slot, commands down.

Each vCPU has in a shared segment a ring of requests (it writes), a ring of commands (the coordinator writes) and a slot
for the one reply it can be waiting for. Both ends spin for a moment before they sleep, and who publishes something
rings an eventfd only if the other end has announced that it sleeps. No wake-up is lost (Dekker's order):

    publisher: publish; full fence; does the other end sleep? then ring its eventfd
    sleeper:   announce sleep; full fence; look once more; only then block on the eventfd

Whichever fence comes first, the party behind it sees what the other one wrote before its own. Commands take no such
care, they are rare: the coordinator always rings. They are read while the vCPU is parked; the ``stop`` line of its
harts gets it there.

All vCPUs share the doorbell and the sleep word of the coordinator, which looks at all request rings when it is awake.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from time import monotonic_ns

from mpemu.errors import ProtocolError
from mpemu.fence import full_fence, order_fence
from mpemu.layout import LINES
from mpemu.memory import MachineMemory
from mpemu.messages import Message, Reply, decode, encode
from mpemu.notifier import Notifier
from mpemu.ring import DATA, Ring
from mpemu.shm import PAGE, Segment
from mpemu.spin import AdaptiveSpin

RING_BYTES = 4 * PAGE - DATA * 8
"""Capacity of a ring: a failure report and more fits."""

STOP_LINE = LINES.index("stop")

# Words of the reply slot: how many replies there were, bytes of the last, does the vCPU sleep; then the payload.
SEQUENCE, LENGTH, ASLEEP, PAYLOAD = 0, 1, 8, 16
SLOT_BYTES = PAGE
BLOCK_BYTES = 8 * PAGE + SLOT_BYTES

SERVE_NS = 1_000_000
"""Requests are served in one go for at most this long; then other callbacks of the loop have their turn."""


class ChannelSegment:
    """The shared memory and the eventfds of all channels; made before the fork.

    ``harts_of[i]`` are the harts that vCPU process i runs: their ``stop`` lines and eventfds reach it.
    """

    def __init__(self, memory: MachineMemory, harts_of: list[list[int]]) -> None:
        self.memory, self.harts_of = memory, harts_of
        self._segment = Segment("message rings", PAGE + len(harts_of) * BLOCK_BYTES)
        self._view = memoryview(self._segment.map)
        self.sleep_word = self._view[:PAGE].cast("Q")
        self.sleep_word[0] = 1  # the coordinator only looks when it is rung
        self.doorbell = Notifier()
        self.reply_bells = [Notifier() for _ in harts_of]

    def requests(self, vcpu: int) -> Ring:
        return Ring(self._part(vcpu, 0, 4 * PAGE))

    def commands(self, vcpu: int) -> Ring:
        return Ring(self._part(vcpu, 4 * PAGE, 4 * PAGE))

    def slot(self, vcpu: int) -> memoryview:
        return self._part(vcpu, 8 * PAGE, SLOT_BYTES)

    def _part(self, vcpu: int, offset: int, size: int) -> memoryview:
        start = PAGE + vcpu * BLOCK_BYTES + offset
        return self._view[start : start + size]

    def descriptors_of(self, vcpu: int) -> list[int]:
        """What vCPU process ``vcpu`` needs of them."""
        return [self.doorbell.fileno(), self.reply_bells[vcpu].fileno()]

    def close(self) -> None:
        self.doorbell.close()
        for bell in self.reply_bells:
            bell.close()
        self._segment.close()


class VCpuPort:
    """The vCPU's end: :meth:`call` and :meth:`send` upwards, :meth:`receive` commands, :meth:`wait` for them."""

    def __init__(self, segment: ChannelSegment, vcpu: int) -> None:
        self._requests, self._commands = segment.requests(vcpu), segment.commands(vcpu)
        slot = segment.slot(vcpu)
        self._slot, self._slot_bytes = slot.cast("Q"), slot[PAYLOAD * 8 :]
        self._coordinator_asleep = segment.sleep_word
        self._doorbell, self._bell = segment.doorbell, segment.reply_bells[vcpu]
        self._spin = AdaptiveSpin()
        self._bell_poll = select.poll()
        self._bell_poll.register(self._bell.fileno(), select.POLLIN)
        self._wake_fds = [segment.memory.wake_fds[h] for h in segment.harts_of[vcpu]]
        self._wake_poll = select.poll()
        for fd in self._wake_fds:
            self._wake_poll.register(fd, select.POLLIN)

    def send(self, message: Message) -> None:
        """A message that has no reply."""
        self._requests.push(encode(message))
        full_fence()
        if self._coordinator_asleep[0]:
            self._doorbell.notify()

    def call(self, message: Message) -> Reply:
        """Send a request and wait for its reply, however long that takes."""
        slot = self._slot
        seen = slot[SEQUENCE]
        self.send(message)
        if not self._spin.until(lambda: slot[SEQUENCE] != seen):
            began = monotonic_ns()
            slot[ASLEEP] = 1
            full_fence()
            while slot[SEQUENCE] == seen:
                self._bell_poll.poll()
                self._bell.clear()
            slot[ASLEEP] = 0
            self._spin.learn(monotonic_ns() - began + self._spin.budget_ns)
        order_fence()
        reply = decode(bytes(self._slot_bytes[: slot[LENGTH]]))
        if not isinstance(reply, Reply):
            raise ProtocolError(f"{type(reply).__name__} in the reply slot")
        return reply

    def receive(self) -> Message | None:
        """The next command, or None."""
        data = self._commands.pop()
        return None if data is None else decode(data)

    def wait(self, timeout_ms: int | None = None) -> None:
        """Sleep until some hart's eventfd is rung (a command, an interrupt) or the time is up; take the rings back."""
        for fd, _ in self._wake_poll.poll(timeout_ms):
            try:
                os.eventfd_read(fd)
            except BlockingIOError:
                continue


class Switchboard:
    """The coordinator's end of all channels.

    ``answer(vcpu, message)`` gives the reply of a request that has one, else None. Call :meth:`serve` whenever the
    doorbell is readable.
    """

    def __init__(self, segment: ChannelSegment, answer: Callable[[int, Message], Reply | None]) -> None:
        self._answer = answer
        self._memory, self._harts_of = segment.memory, segment.harts_of
        count = len(segment.harts_of)
        self._requests = [segment.requests(v) for v in range(count)]
        self._commands = [segment.commands(v) for v in range(count)]
        slots = [segment.slot(v) for v in range(count)]
        self._slots = [slot.cast("Q") for slot in slots]
        self._slot_bytes = [slot[PAYLOAD * 8 :] for slot in slots]
        self._asleep = segment.sleep_word
        self.doorbell, self._bells = segment.doorbell, segment.reply_bells
        self._spin = AdaptiveSpin()
        self._left_at = 0

    def serve(self) -> None:
        """Answer what is there, wait a moment for more, announce sleep. Never lasts much longer than SERVE_NS."""
        began = now = monotonic_ns()
        self._spin.learn(began - self._left_at)
        self.doorbell.clear()
        self._asleep[0] = 0
        try:
            while self._answer_all() and (now := monotonic_ns()) - began < SERVE_NS:
                if not self._spin.until(self._any):
                    break
        finally:
            self._asleep[0] = 1
            full_fence()
            if self._any():
                self.doorbell.notify()
            self._left_at = now

    def command(self, vcpu: int, message: Message) -> None:
        """Send a command; a parked process gets out of its sleep to read it."""
        self._commands[vcpu].push(encode(message))
        for hart in self._harts_of[vcpu]:
            ring_hart(self._memory, hart)

    def raise_stop(self, vcpu: int) -> None:
        """Ask the process to park: its harts leave guest code at the next back edge, or wake from WFI."""
        for hart in self._harts_of[vcpu]:
            self._memory.hart(hart).lines[STOP_LINE] = 1
            ring_hart(self._memory, hart)

    def lower_stop(self, vcpu: int) -> None:
        """Before the command to resume."""
        for hart in self._harts_of[vcpu]:
            self._memory.hart(hart).lines[STOP_LINE] = 0

    def _any(self) -> bool:
        return not all(ring.empty() for ring in self._requests)

    def _answer_all(self) -> bool:
        """Serve one request of every ring that has one, in turn; whether there was any."""
        found = False
        for vcpu, ring in enumerate(self._requests):
            data = ring.pop()
            if data is not None:
                found = True
                reply = self._answer(vcpu, decode(data))
                if reply is not None:
                    self._reply(vcpu, reply)
        return found

    def _reply(self, vcpu: int, reply: Reply) -> None:
        data, slot = encode(reply), self._slots[vcpu]
        self._slot_bytes[vcpu][: len(data)] = data
        slot[LENGTH] = len(data)
        order_fence()
        slot[SEQUENCE] += 1
        full_fence()
        if slot[ASLEEP]:
            self._bells[vcpu].notify()


def ring_hart(memory: MachineMemory, hart: int) -> None:
    """Wake a hart that sleeps in WFI, or in Python."""
    try:
        os.eventfd_write(memory.wake_fds[hart], 1)
    except BlockingIOError:
        return
