"""The native decoder against the reference: which instruction, how long, and every operand in its place."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import pytest

from mpemu.codegen.decoder import ENDS, ID_SHIFT, NOWHERE
from mpemu.codegen.records import IMM, RECORD, operand_slots
from mpemu.isa.registry import COMPRESSED, INSNS, Insn, decode
from mpemu.layout import PAGE
from tests.codegen.lab import Lab
from tests.isa.random_operands import encodings

SINK = 32
PER_INSTRUCTION = 30
RANDOM_WORDS = 20_000


class Decoder:
    def __init__(self) -> None:
        self.lab = Lab()
        blob = self.lab.blob
        self._record = (ctypes.c_uint8 * RECORD)()
        self._address = ctypes.addressof(self._record)
        kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 4)
        self._decode = kind(blob.address("r_decode"))
        self._state = self.lab.memory.hart_address(0)
        self._names = {offset: name for name, offset in blob.symbols.items() if name[:2] in ("f_", "s_", "h_")}
        self._offsets = ctypes.cast(blob.address("handler_offsets"), ctypes.POINTER(ctypes.c_uint32))

    def check(self, word: int, page_offset: int = NOWHERE) -> str:
        """Decode ``word`` both ways and compare; the symbol of the handler."""
        ctypes.memset(self._address, 0, RECORD)
        result = self._decode(self._state, word, self._address, page_offset)
        record = bytes(self._record)
        offset = int.from_bytes(record[:4], "little")
        symbol = self._names[offset]
        what = f"{word:#x}: {symbol}"
        assert self._offsets[result >> ID_SHIFT] == offset, f"{what}: the handler's number"
        expected = decode(word)
        length = 4 if word & 3 == 3 else 2
        assert result & 0xFF == length, f"{what}: length"
        if expected is None:
            assert symbol == "h_illegal" and result & ENDS, what
            return symbol
        insn, operands, _ = expected
        parts = symbol.split("_")
        assert parts[1:3] == [insn.name, str(length)], f"{what}, not {insn.name}"
        operands = {**dict.fromkeys(insn.operands, 0), **operands}  # what an expansion leaves out is 0
        self._compare_operands(what, insn, operands, parts[3:], record, page_offset)
        return symbol

    def _compare_operands(
        self, what: str, insn: Insn, operands: dict[str, int], form: list[str], record: bytes, page_offset: int
    ) -> None:
        way = form.pop(0) if form and form[0] in ("far", "fwd", "back") else ""
        for fixed in form:
            name = fixed.rstrip("0123456789") if not fixed.startswith("rs") else fixed[:3]
            assert operands[name] == int(fixed[len(name) :]), f"{what}: a form for {fixed}"
        for name, slot in operand_slots(insn).items():
            value = operands[name]
            if slot == IMM:
                stored = int.from_bytes(record[IMM : IMM + 8], "little", signed=True)
                if way:
                    near = 0 <= page_offset + value < PAGE
                    assert way == ("far" if not near else "fwd" if value > 0 else "back"), f"{what}: {value}"
                    value = value * RECORD // 2 if near else value
            else:
                stored = record[slot]
                value = SINK if name == "rd" and value == 0 else value
            assert stored == value, f"{what}: {name} is {stored}, not {value}"


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    yield Decoder()


def test_every_instruction(decoder: Decoder) -> None:
    rng = random.Random(1)
    for insn in INSNS.values():
        for _, word in encodings(insn, PER_INSTRUCTION, rng):
            decoder.check(word, rng.choice((0, 0x800, PAGE - 4, NOWHERE)))


def test_every_halfword(decoder: Decoder) -> None:
    for halfword in range(1 << 16):
        if halfword & 3 != 3:
            decoder.check(halfword, 0x7FE)
    assert len(COMPRESSED) > 30


def test_random_words(decoder: Decoder) -> None:
    rng = random.Random(2)
    legal = sum(decoder.check(rng.getrandbits(32) | 3, 0x7FE) != "h_illegal" for _ in range(RANDOM_WORDS))
    assert 0 < legal < RANDOM_WORDS


def test_a_neighbour_of_an_encoding_is_told_apart(decoder: Decoder) -> None:
    """Each fixed bit of each pattern matters."""
    rng = random.Random(3)
    for insn in INSNS.values():
        _, word = next(iter(encodings(insn, 1, rng)))
        for bit in range(2, 32):
            decoder.check(word ^ (1 << bit))


@pytest.mark.parametrize(
    ("page_offset", "distance", "way"),
    [
        (0, 0, "back"),
        (0, -2, "far"),
        (0, PAGE - 2, "fwd"),
        (0, PAGE, "far"),
        (PAGE - 4, 2, "fwd"),
        (PAGE - 4, 4, "far"),
        (PAGE - 4, 4 - PAGE, "back"),
        (NOWHERE, -(1 << 20), "far"),
        (NOWHERE, 2, "far"),
    ],
)
def test_jumps_within_the_page(decoder: Decoder, page_offset: int, distance: int, way: str) -> None:
    word = INSNS["jal"].pattern.encode(rd=1, imm=distance)
    assert decoder.check(word, page_offset) == f"f_jal_4_{way}"
