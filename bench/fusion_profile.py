"""Counts which handlers follow each other when a guest runs: how mpemu/codegen/fusion_pairs.txt was made.

Run: ``python -m bench.fusion_profile [CONFIG]``. The guest runs on one hart, on an interpreter without pairs whose fast
handlers count (the one before, this one). What is reached by a jump, and what comes behind a slow handler, begins a new
sequence, since the decoder joins only what it decodes in a row. The counts are in memory of their own, shared with the
vCPU's process, at an address that is in the code.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, TextIO

import click

from mpemu.assembly import assemble
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.handlers import HandlerEmitter
from mpemu.codegen.interpreter import build_interpreter
from mpemu.codegen.linker import link_interpreter
from mpemu.config import load_config
from mpemu.errors import MpemuError
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.value import Value
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.blob_file import BlobFile

NUMBERS = 1024
"""Handlers that can be told apart; number 0 stands for none."""
WORD = 8
TRAINING = ("linux", "boot.append=console=ttyS0 mpemu.run=true")
"""The config that fusion_pairs.txt is trained with: to the shell of the initramfs, and off."""


class Pair(NamedTuple):
    times: int
    first: str
    second: str


class Profile:
    """The counts: a word for the number of the handler before, then a matrix of NUMBERS * NUMBERS words."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, WORD * (1 + NUMBERS * NUMBERS))  # shared with processes forked later
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._numbers: dict[str, int] = {}

    def number(self, symbol: str) -> int:
        """The number of a handler; it gets one if it has none."""
        number = self._numbers.setdefault(symbol, len(self._numbers) + 1)
        if number >= NUMBERS:
            raise ValueError(f"more than {NUMBERS - 1} handlers: raise NUMBERS in {__file__}")
        return number

    def pairs(self) -> list[Pair]:
        """What was counted, most frequent first."""
        return sorted(self._counted(), reverse=True)

    def _counted(self) -> Iterator[Pair]:
        symbols = {number: symbol for symbol, number in self._numbers.items()}
        with memoryview(self._memory) as view, view.cast("Q") as words:
            for first, name in symbols.items():
                row = words[1 + first * NUMBERS : 1 + (first + 1) * NUMBERS].tolist()
                yield from (Pair(count, name, symbols[second]) for second, count in enumerate(row) if second and count)


class CountingEmitter(HandlerEmitter):
    """Compiles handlers that count before they work."""

    def __init__(self, profile: Profile, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._profile = profile
        self._before = self.b.to_pointer(self.b.value(profile.address))

    def emit(self) -> None:
        b = self.b
        number = self._profile.number(self.variant.symbol) if self.fast else 0
        if self.fast:
            counter = b.pointer(self._before, (b.load(self._before) * NUMBERS + (1 + number)) * WORD)
            b.store(counter, b.load(counter) + 1)
        b.store(self._before, number)
        super().emit()

    def jump(self, target: Value) -> None:
        self.b.store(self._before, 0)
        super().jump(target)


def counting_interpreter(isa: IsaSpec, profile: Profile) -> Blob:
    """An interpreter of single instructions that counts into ``profile``."""
    made = build_interpreter(isa, (), partial(CountingEmitter, profile))
    linked = link_interpreter(compile_object(made.text), made.handlers)
    return Blob(BlobFile(linked.data, linked.symbols))


@click.command()
@click.argument("config_file", metavar="[CONFIG]", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the config.")
@click.option("--count", default=256, show_default=True, help="Pairs to list.")
@click.option("--output", type=click.File("w", lazy=True), default="-", help="Write the pairs there.")
def main(config_file: str | None, settings: tuple[str, ...], count: int, output: TextIO) -> None:
    """Run CONFIG (by default Linux to its shell and off) and list the pairs of handlers that follow each other most."""
    if config_file is None:
        config_file, settings = TRAINING[0], (*TRAINING[1:], *settings)
    forced = [("harts.count", 1, "one hart"), ("engine.mode", "interp", "the interpreter")]
    try:
        config = load_config(config_file, ("console=none", *settings), forced)
        profile = Profile()
        with assemble(config, code=counting_interpreter(IsaSpec.parse(config.harts.isa), profile)).machine as machine:
            code = machine.run(config.timeout, signals=True)
            retired = machine.statistics().instructions
    except MpemuError as error:
        print(f"fusion_profile: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    pairs = profile.pairs()
    in_sequence = sum(pair.times for pair in pairs)
    print(f"exit code {code}, {retired:,} instructions, {in_sequence:,} pairs in sequence", file=sys.stderr)
    for size in (64, 128, 256, 512, 1024):
        covered = sum(pair.times for pair in pairs[:size])
        print(f"the first {size:4} are {covered / max(in_sequence, 1):.1%}", file=sys.stderr)
    for pair in pairs[:count]:
        print(pair.first, pair.second, file=output)


if __name__ == "__main__":
    main()
