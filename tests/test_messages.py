"""Messages: every one round-trips; whatever else the bytes are gives a clear error."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.errors import ProtocolError
from mpemu.messages import MESSAGES, VERSION, MmioRead, Quit, decode, encode

VALUES = {int: st.integers(0, (1 << 64) - 1), bool: st.booleans(), str: st.text(max_size=200)}


@pytest.mark.parametrize("entry", MESSAGES.values(), ids=lambda entry: entry.cls.__name__)
def test_round_trip(entry: object) -> None:
    @given(st.tuples(*(VALUES[t] for t in entry.types)))  # type: ignore[attr-defined]
    def check(values: tuple[object, ...]) -> None:
        message = entry.cls(*values)  # type: ignore[attr-defined]
        back = decode(encode(message))
        assert back == message and type(back) is type(message)

    check()


@given(st.binary(max_size=64))
def test_hostile_bytes(data: bytes) -> None:
    try:
        decode(data)
    except ProtocolError as error:
        assert str(error)


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.lists(NESTED, max_size=5), st.sampled_from(sorted(MESSAGES)))
def test_right_code_with_wrong_fields(fields: list[object], code: int) -> None:
    try:
        message = decode(msgpack.packb([VERSION << 8 | code, *fields]))
    except ProtocolError as error:
        assert str(error)
    else:
        assert decode(encode(message)) == message


def test_errors_name_the_trouble() -> None:
    with pytest.raises(ProtocolError, match="protocol version 7, this process speaks 1"):
        decode(msgpack.packb([7 << 8 | 1]))
    with pytest.raises(ProtocolError, match="unknown message code 200"):
        decode(msgpack.packb([VERSION << 8 | 200]))
    with pytest.raises(ProtocolError, match=r"MmioRead wants \(int, int, int\), got \(1, 'x', True\)"):
        decode(msgpack.packb([VERSION << 8 | 1, 1, "x", True]))
    with pytest.raises(ProtocolError, match="no message"):
        decode(encode(Quit()) + b"more")
    with pytest.raises(ProtocolError):
        decode(encode(MmioRead(0, 1, 2))[:-1])


def test_the_docstring_lists_them_all() -> None:
    from mpemu import messages

    assert all(f":class:`{entry.cls.__name__}`" in (messages.__doc__ or "") for entry in MESSAGES.values())
