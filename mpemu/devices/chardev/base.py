"""Character streams between a serial device and the host: the interface and the part that all backends share.

Output never blocks and never waits for the host: it is queued, written when the loop gets to it, and the device is told
when the queue is long (:attr:`Chardev.congested`) and when it is short again. Input is never dropped: a backend reads
from the host only what the device has room for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable

from mpemu.devices.device import DeviceLoop

HIGH_WATER = 64 * 1024
"""Bytes of queued output from which a backend is congested; a device should then hold back."""
HARD_LIMIT = 4 * HIGH_WATER
"""Beyond this, output is dropped: the guest ignored the flow control and nobody reads."""
CHUNK = 4096
_READER_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)
"""A reader that went away, as `head` does, is nothing to tell the user."""
PATIENCE_S = 0.5
"""How long flush() waits for a slow reader to take what is still queued."""


class Chardev:
    """A backend that discards output and has no input; the others override."""

    def __init__(self) -> None:
        self._receive: Callable[[bytes], None] = lambda data: None
        self._room: Callable[[], int] = lambda: 0
        self._drained: Callable[[], None] = lambda: None
        self.warn: Callable[[str], None] = lambda text: None
        """What the user should know, said by whoever opens the backend."""

    def attach(
        self, receive: Callable[[bytes], None], room: Callable[[], int], drained: Callable[[], None] = lambda: None
    ) -> None:
        """The device's side: ``receive(data)`` takes input of at most ``room()`` bytes; ``drained()`` says that a
        congested backend takes output again."""
        self._receive, self._room, self._drained = receive, room, drained

    @property
    def congested(self) -> bool:
        return False

    @property
    def description(self) -> str:
        """Where the stream goes, for messages to the user."""
        return "none"

    def open(self) -> None:
        """Open the host side. OSError if that fails."""

    def write(self, data: bytes) -> None:
        """Queue output."""

    def flush(self) -> None:
        """Write out what is queued, as far as that goes without waiting long."""

    def input_wanted(self) -> None:
        """The device has room again."""

    def continued(self) -> None:
        """This process was stopped (SIGSTOP, SIGTSTP) and goes on."""

    def close(self) -> None:
        """Flush, and give the host side back."""


class FdChardev(Chardev):
    """A backend over file descriptors, either of which may be absent (-1) and come and go."""

    def __init__(self, loop: DeviceLoop) -> None:
        super().__init__()
        self._loop = loop
        self._in = self._out = -1
        self._always_ready = False
        self._queue = bytearray()
        self._flush_later = loop.bottom_half(self._flush)
        self._read_later = loop.bottom_half(self._readable)
        self._waiting_to_write = self._reading = self._was_congested = False

    @property
    def congested(self) -> bool:
        return len(self._queue) >= HIGH_WATER

    def connect(self, input_fd: int, output_fd: int) -> None:
        """Use these descriptors (owned from now on; -1: none). They should not block."""
        self._in, self._out = input_fd, output_fd
        self._always_ready = False
        self.input_wanted()
        self._schedule_flush()

    def disconnect(self) -> None:
        """Stop using the descriptors and close them."""
        self._stop_reading()
        self._stop_waiting_to_write()
        for fd in {self._in, self._out} - {-1}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._in = self._out = -1

    # -- output
    def write(self, data: bytes) -> None:
        if len(self._queue) < HARD_LIMIT:
            self._queue += data
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._waiting_to_write:
            self._flush_later.schedule()

    def _flush(self) -> None:
        was_congested = self.congested or self._was_congested
        if self._out < 0:
            self.no_output()
        else:
            self._write_some()
        self._was_congested = self.congested
        if was_congested and not self.congested:
            self._drained()

    def no_output(self) -> None:
        """Output is queued and there is nowhere to write it."""
        self._queue.clear()

    def _write_some(self) -> None:
        try:
            while self._queue:
                del self._queue[: os.write(self._out, self._queue[:CHUNK])]
        except BlockingIOError:
            if not self._waiting_to_write:
                self._waiting_to_write = True
                self._loop.add_writer(self._out, self._flush)
            return
        except OSError as error:
            self._stop_waiting_to_write()
            self._output_failed(error)
            return
        self._stop_waiting_to_write()

    def _output_failed(self, error: OSError) -> None:
        if error.errno not in _READER_GONE:
            self.warn(f"{self.description}: {error.strerror}; the guest's output is lost from here on")
        self._queue.clear()
        self.hung_up()

    def _stop_waiting_to_write(self) -> None:
        if self._waiting_to_write:
            self._waiting_to_write = False
            self._loop.remove_writer(self._out)

    # -- input
    def input_wanted(self) -> None:
        if self._in < 0 or self._reading or self._room() <= 0:
            return
        self._reading = True
        if not self._always_ready:
            try:
                self._loop.add_reader(self._in, self._readable)
                return
            except PermissionError:  # epoll does not take files and /dev/null, which never let one wait
                self._always_ready = True
        self._read_later.schedule()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            if not self._always_ready:
                self._loop.remove_reader(self._in)

    def _readable(self) -> None:
        if not self._reading:
            return
        room = self._room()
        if room <= 0:
            self._stop_reading()
            return
        try:
            data = os.read(self._in, min(room, CHUNK))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stop_reading()
            self.end_of_input()
            return
        if self._always_ready:
            self._reading = False
        self.incoming(data)
        if self._always_ready:
            self.input_wanted()
        elif self._room() <= 0:
            self._stop_reading()

    def incoming(self, data: bytes) -> None:
        """Input from the host: passed on to the device, or interpreted by a backend that overrides this."""
        self._receive(data)

    def end_of_input(self) -> None:
        """The other side will not send any more."""
        if self._in != self._out:
            with contextlib.suppress(OSError):
                os.close(self._in)
        self._in = -1

    def hung_up(self) -> None:
        """The other side does not take output any more."""
        if self._out != self._in:
            with contextlib.suppress(OSError):
                os.close(self._out)
        self._out = -1

    def flush(self) -> None:
        end = time.monotonic() + PATIENCE_S
        try:
            while self._queue and self._out >= 0 and (left := end - time.monotonic()) > 0:
                if select.select([], [self._out], [], left)[1]:
                    del self._queue[: os.write(self._out, self._queue[:CHUNK])]
        except OSError as error:
            self._output_failed(error)
        except ValueError:  # a descriptor beyond what select() takes
            self._queue.clear()

    def close(self) -> None:
        self.flush()
        self._queue.clear()
        self.disconnect()
