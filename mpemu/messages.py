"""The messages between coordinator and vCPU processes: all of them, in one table.

====================  ==================  =========  ================================================================
message               sender              reply      meaning
====================  ==================  =========  ================================================================
:class:`MmioRead`     vCPU                Reply      a far load
:class:`MmioWrite`    vCPU                Reply      a far store
:class:`TimersDue`    vCPU                Reply      deterministic mode: virtual time reached the devices' deadline
:class:`Parked`       vCPU                -          all harts of this process stand still, it waits for commands
:class:`Failed`       vCPU                -          the process gives up and exits; the text says why
:class:`Reply`        coordinator         -          the answer, in the reply slot
:class:`Reset`        coordinator         -          architectural reset of one hart; Parked says that it is done
:class:`Resume`       coordinator         -          run; the `stop` lines have been lowered before
:class:`Quit`         coordinator         -          end the process
====================  ==================  =========  ================================================================

On the wire a message is a msgpack array: ``VERSION << 8 | code``, then the fields in order. Both ends are forks of one
process, but bytes in shared memory can be wrong all the same, so decoding checks everything and raises
:class:`ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

import msgpack  # type: ignore[import-untyped]

from mpemu.errors import ProtocolError

VERSION = 1
MAX_BYTES = 4096
"""No message is longer than this."""

NO_DEADLINE = (1 << 64) - 1


class Sender(Enum):
    VCPU = "vCPU"
    COORDINATOR = "coordinator"


class Message:
    """Base of all messages: small frozen dataclasses of ints, bools and strings."""

    __slots__ = ()


M = TypeVar("M", bound=type[Message])


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    code: int
    cls: type[Message]
    sender: Sender
    replied: bool
    types: tuple[type, ...]
    values: Callable[[Any], tuple[Any, ...]]


MESSAGES: dict[int, Entry] = {}
_BY_CLASS: dict[type[Message], tuple[int, Callable[[Any], tuple[Any, ...]]]] = {}
_KINDS: dict[str, type] = {"int": int, "bool": bool, "str": str}


def _message(code: int, sender: Sender, replied: bool = False) -> Callable[[M], M]:
    """Enter a dataclass in the table."""

    def enter(cls: M) -> M:
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        types = tuple(_KINDS[str(f.type)] for f in fields(cls))  # type: ignore[arg-type]
        MESSAGES[code] = Entry(code, cls, sender, replied, types, _getter(names))
        _BY_CLASS[cls] = (VERSION << 8 | code, MESSAGES[code].values)
        return cls

    return enter


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        one = attrgetter(names[0])
        return lambda message: (one(message),)
    return lambda message: ()


@_message(1, Sender.VCPU, replied=True)
@dataclass(frozen=True, slots=True)
class MmioRead(Message):
    """``size`` bytes at physical ``address``, which is not RAM; ``hart`` asks."""

    hart: int
    address: int
    size: int


@_message(2, Sender.VCPU, replied=True)
@dataclass(frozen=True, slots=True)
class MmioWrite(Message):
    """Store the low ``size`` bytes of ``value`` at physical ``address``; ``hart`` asks."""

    hart: int
    address: int
    size: int
    value: int


@_message(3, Sender.VCPU, replied=True)
@dataclass(frozen=True, slots=True)
class TimersDue(Message):
    """It is ``now`` (virtual ns): run the devices' timers that are due."""

    now: int


@_message(4, Sender.VCPU)
@dataclass(frozen=True, slots=True)
class Parked(Message):
    """Sent once when the process is ready, after each stop, and after each Reset."""


@_message(5, Sender.VCPU)
@dataclass(frozen=True, slots=True)
class Failed(Message):
    """``hart`` can't go on, because of ``text``."""

    hart: int
    text: str


@_message(16, Sender.COORDINATOR)
@dataclass(frozen=True, slots=True)
class Reply(Message):
    """``value`` of a load (else 0); ``error``: nothing answers there, an access fault for the guest.

    ``deadline``: virtual ns of the devices' next timer (deterministic mode), or NO_DEADLINE.
    """

    value: int
    error: bool
    deadline: int


@_message(17, Sender.COORDINATOR)
@dataclass(frozen=True, slots=True)
class Reset(Message):
    """Put ``hart`` in its reset state with these registers."""

    hart: int
    pc: int
    a0: int
    a1: int
    a2: int


@_message(18, Sender.COORDINATOR)
@dataclass(frozen=True, slots=True)
class Resume(Message):
    """``deadline``: as in :class:`Reply`."""

    deadline: int


@_message(19, Sender.COORDINATOR)
@dataclass(frozen=True, slots=True)
class Quit(Message):
    """Exit with code 0."""


_pack = msgpack.Packer(autoreset=True).pack


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    head, values = _BY_CLASS[type(message)]
    packed: bytes = _pack((head, *values(message)))
    return packed


def decode(data: bytes) -> Message:
    """The message that ``data`` holds. Raises :class:`ProtocolError` for anything else."""
    try:
        values = msgpack.unpackb(data, use_list=False, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"{len(data)} bytes that are no message: {error}") from None
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise ProtocolError(f"{len(data)} bytes that are msgpack, but no message: {str(values)[:80]}")
    head = values[0]
    if head >> 8 != VERSION:
        raise ProtocolError(f"a message of protocol version {head >> 8}, this process speaks {VERSION}")
    entry = MESSAGES.get(head & 0xFF)
    if entry is None:
        raise ProtocolError(f"unknown message code {head & 0xFF}")
    if tuple(map(type, values[1:])) != entry.types:
        wanted = ", ".join(t.__name__ for t in entry.types)
        raise ProtocolError(f"{entry.cls.__name__} wants ({wanted}), got {str(values[1:])[:80]}")
    return entry.cls(*values[1:])
