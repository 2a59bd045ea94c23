"""The console backends: stdio, file:PATH, pty, unix:PATH, none."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import stat
import termios
import tty

from mpemu.devices.chardev.base import HIGH_WATER, Chardev, FdChardev
from mpemu.devices.chardev.escape import EscapeActions, EscapeFilter
from mpemu.devices.chardev.terminal import RawTerminal
from mpemu.devices.device import DeviceLoop


class StdioChardev(FdChardev):
    """Standard input and output, with Ctrl-A commands; a terminal is in raw mode while it is open."""

    def __init__(self, loop: DeviceLoop, actions: EscapeActions) -> None:
        super().__init__(loop)
        actions.show = lambda text: self.write(text.encode())
        self._filter = EscapeFilter(actions)
        self._terminal: RawTerminal | None = None

    @property
    def description(self) -> str:
        return "stdio"

    def open(self) -> None:
        if _is_open(0) and os.isatty(0):
            self._terminal = RawTerminal(os.dup(0))
            self._terminal.enter()
        self.connect(_private(0, os.O_RDONLY), _private(1, os.O_WRONLY))

    def incoming(self, data: bytes) -> None:
        if passed := self._filter.feed(data):
            self._receive(passed)

    def continued(self) -> None:
        if self._terminal is not None:
            self._terminal.continued()

    def close(self) -> None:
        super().close()
        if self._terminal is not None:
            self._terminal.restore()
            self._terminal = None


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _private(fd: int, flags: int) -> int:
    """A descriptor of ours for the same stream. Terminals and pipes are opened anew, so that making them non-blocking
    does not change the ones that we share with other processes; -1 if ``fd`` is closed."""
    if not _is_open(fd):
        return -1
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.dup(fd)


class FileChardev(FdChardev):
    """Output to a file, which is emptied first; no input."""

    def __init__(self, loop: DeviceLoop, path: str) -> None:
        super().__init__(loop)
        self._path = path

    @property
    def description(self) -> str:
        return f"file:{self._path}"

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        self.connect(-1, os.open(self._path, flags, 0o644))


class PtyChardev(FdChardev):
    """A pseudo terminal; :attr:`description` names it once it is open. Output before anybody looks is kept, up to a
    limit, by the kernel and the queue."""

    def __init__(self, loop: DeviceLoop) -> None:
        super().__init__(loop)
        self._slave = -1
        self._name = ""

    @property
    def description(self) -> str:
        return f"pty ({self._name})" if self._name else "pty"

    def open(self) -> None:
        master, self._slave = pty.openpty()  # we keep the slave open, so that users may come and go without a hang-up
        self._name = os.ttyname(self._slave)
        with contextlib.suppress(termios.error):
            tty.setraw(self._slave)
        os.set_blocking(master, False)
        self.connect(master, master)

    def close(self) -> None:
        self._queue.clear()
        super().close()
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


class UnixChardev(FdChardev):
    """A listening Unix socket with one client at a time; output without a client is kept up to the high-water mark."""

    def __init__(self, loop: DeviceLoop, path: str) -> None:
        super().__init__(loop)
        self._path = path
        self._listener: socket.socket | None = None

    @property
    def description(self) -> str:
        return f"unix:{self._path}"

    @property
    def congested(self) -> bool:
        return self._out >= 0 and super().congested

    def open(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._remove_stale()
            listener.bind(self._path)
            listener.listen(1)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._accept)

    def _remove_stale(self) -> None:
        """A socket that nobody listens on is left from a machine that was killed."""
        if not os.path.exists(self._path) or not stat.S_ISSOCK(os.stat(self._path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._out >= 0:
            client.close()
            return
        client.setblocking(False)
        fd = client.detach()
        self.connect(fd, fd)

    def no_output(self) -> None:
        del self._queue[:-HIGH_WATER]

    def end_of_input(self) -> None:
        self.disconnect()

    def hung_up(self) -> None:
        self.disconnect()

    def close(self) -> None:
        super().close()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def make_chardev(spec: str, loop: DeviceLoop, actions: EscapeActions) -> Chardev:
    """The backend that ``spec`` names (see CONSOLES). ValueError if there is none; open() does what can fail."""
    kind, colon, path = spec.partition(":")
    if kind in {"file", "unix"}:
        if not path:
            raise ValueError(f"console {spec!r}: say which path, as in {kind}:console.log")
        return FileChardev(loop, path) if kind == "file" else UnixChardev(loop, path)
    if not colon:
        if kind == "stdio":
            return StdioChardev(loop, actions)
        if kind == "pty":
            return PtyChardev(loop)
        if kind == "none":
            return Chardev()
    raise ValueError(f"console {spec!r}: not one of {', '.join(CONSOLES)}")


CONSOLES = ("stdio", "file:PATH", "pty", "unix:PATH", "none")
