"""Puts the interpreter's module together: handlers of every instruction, routines, decoder, entry and exits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpemu.codegen import (  # noqa: F401  (their routines)
    hot,
    interrupts,
    lrsc,
    marking,
    marks,
    memory,
    near,
    refit,
    tight,
    tlb,
)
from mpemu.codegen.decoder import DECODE, SPECIAL_HANDLERS, DecoderEmitter, define_fact_tables, define_fusion_table
from mpemu.codegen.facts import facts
from mpemu.codegen.fusion import pairs as fusion_pairs
from mpemu.codegen.handlers import (
    ARGUMENTS,
    CC,
    EmitterFactory,
    HandlerEmitter,
    compile_fused,
    compile_handler,
    compile_slow,
)
from mpemu.codegen.host import Host
from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.records import WAYS, Variant, specialisations
from mpemu.codegen.refill import define_data_addresses
from mpemu.codegen.region_exits import HANDLED, Handled
from mpemu.codegen.routines import Native, compile_routine
from mpemu.codegen.sampler import compile_sampler
from mpemu.codegen.tlb_entries import probe_code
from mpemu.isa import instructions  # noqa: F401  (fills the instruction table)
from mpemu.isa.hart import ROUTINES, Routine
from mpemu.isa.profiles import IsaSpec
from mpemu.isa.registry import COMPRESSED, INSNS, Insn
from mpemu.isa.value import Value
from mpemu.layout import HART, POINTS_PER_SAMPLE, REGION_EXITS

FIRST_SECTION = ".text.first"
"""The section that the linker puts at offset 0, so that a zeroed record means "not decoded"."""


@dataclass(frozen=True)
class Interpreter:
    """The module's text, and the symbols of the handlers by number."""

    text: str
    handlers: tuple[str, ...]


class _Special(Native):
    """The language for the handlers that are no instruction's: routines' verbs, and tail calls."""

    def tail(self, symbol: str, rp: str = "null", cnt: str = "0") -> None:
        result = self.b.op(f"musttail call {CC} i64 {symbol}(ptr %st, ptr {rp}, i64 {cnt}, ptr %tlb, ptr %tbl)")
        self.b.terminate(f"ret i64 {result}")

    def failed(self, status: Value) -> None:
        with self.when(status == 2):
            self.tail("@h_exit")
        self.tail("@h_raise")

    def enter_page(self, delta: Value) -> None:
        """Continue at the record of pc, its page's ``delta`` known."""
        b = self.b
        self.s.delta = delta
        rp = b.to_pointer(delta + (self.s.pc << 3))
        cnt = self.s.instret - self.s.slice_end
        regime = b.to_pointer(self.s.regime)
        offset = b.load(rp, 32).zext(64)
        target = b.pointer("%tbl", offset)
        result = b.op(f"musttail call {CC} i64 {target}(ptr %st, ptr {rp}, i64 {cnt.raw}, ptr {regime}, ptr %tbl)")
        b.terminate(f"ret i64 {result}")

    def go_on(self) -> None:
        """At pc, which is exact as instret is, unless somebody wants attention or the slice is over."""
        lines = self.get(self.hart("lines"), order="monotonic") & self.s.line_mask
        with self.when((lines != 0) | self.s.instret.geu(self.s.slice_end)):
            self.tail("@h_service")
        self.tail("@h_goto")

    def left_region(self, why: str) -> None:
        """For the statistics."""
        self.count("region_exits", REGION_EXITS.index(why))

    def exact(self) -> None:
        """Make pc and instret exact from %rp and %cnt."""
        rp = self.b.from_pointer("%rp")
        self.s.pc = (rp - self.s.delta).sra(3)
        self.s.instret = self.s.slice_end + Value("%cnt", 64, self.b)


def _h_undecoded(h: _Special) -> None:
    h.call("decode_run", h.b.from_pointer("%rp"))
    offset = h.b.load("%rp", 32).zext(64)
    h.tail(h.b.pointer("%tbl", offset), "%rp", "%cnt")


def _h_goto_record(h: _Special) -> None:
    """The end of a page: code that never jumps back passes only here."""
    h.exact()
    h.go_on()


def _h_straddle(h: _Special) -> None:
    h.exact()
    h.call("straddling", h.s.pc)
    offset = h.b.load(h.hart("scratch"), 32).zext(64)
    h.tail(h.b.pointer("%tbl", offset), h.hart("scratch"), "%cnt")


def _h_illegal(h: _Special) -> None:
    h.exact()
    h.s.exc_cause = 2
    h.s.exc_tval = h.call("current_instruction")
    h.tail("@h_raise")


def _h_goto_counted(h: _Special) -> None:
    """pc is set, instret is slice_end + %cnt."""
    h.s.instret = h.s.slice_end + Value("%cnt", 64, h.b)
    h.tail("@h_goto")


def _h_attend_counted(h: _Special) -> None:
    """The same behind a jump that may close a loop."""
    h.s.instret = h.s.slice_end + Value("%cnt", 64, h.b)
    h.go_on()


def _h_interpret(h: _Special) -> None:
    """Execute the instruction of the record %rp by its own handler, also where the record leads to a region."""
    b = h.b
    with h.when(b.load("%rp", 32) == 0):
        h.call("decode_run", b.from_pointer("%rp"))
    offset = b.load("%rp", 32).zext(64)
    with h.when(offset.ltu(h.s.regions_start), likely=True):
        h.tail(b.pointer("%tbl", offset), "%rp", "%cnt")
    own = h.call("own_handler", b.from_pointer("%rp"))
    h.tail(b.pointer("%tbl", own), "%rp", "%cnt")


def _h_goto(h: _Special) -> None:
    """pc and instret are exact: go on there."""
    pc = h.s.pc
    known, delta = probe_code(h.b, h.at(h.s.regime), pc)
    with h.when(known, likely=True):
        h.enter_page(h.get(delta))
    h.enter_page(h.call("fetch_page", pc))


def _h_poll(h: _Special) -> None:
    h.exact()
    h.tail("@h_service")


def _h_slice(h: _Special) -> None:
    """The same at the end of a slice. (With one symbol for both, LLVM would join the two tests into a slower one.)"""
    h.exact()
    with h.when(h.s.translator != 0):
        h.call("warm", h.b.from_pointer("%rp"), POINTS_PER_SAMPLE)
    h.tail("@h_service")


def _h_leave(h: _Special) -> None:
    """A region leads to code that has none."""
    h.left_region("interpreter")
    h.call("warm_behind", h.b.from_pointer("%rp"))
    offset = h.b.load("%rp", 32).zext(64)
    h.tail(h.b.pointer("%tbl", offset), "%rp", "%cnt")


def _h_jumped(h: _Special) -> None:
    """A computed jump has led out of a region, as it often does."""
    h.call("ask_anew", h.b.from_pointer("%rp"))
    offset = h.b.load("%rp", 32).zext(64)
    h.tail(h.b.pointer("%tbl", offset), "%rp", "%cnt")


def _h_held_up(h: _Special) -> None:
    """A region was not entered, or left, for an access that it can't do."""
    h.call("held_up")
    h.tail("@h_interpret", "%rp", "%cnt")


def _h_refit(h: _Special) -> None:
    """A region for a window was not entered, as there is none."""
    h.call("refit", h.b.from_pointer("%rp"))
    h.tail("@h_interpret", "%rp", "%cnt")


def _left_region(exit: Handled) -> Callable[[_Special], None]:
    """What a region leads to where it neither goes on in another one nor in code that has none."""

    def define(h: _Special) -> None:
        h.left_region(exit.reason)
        h.tail(f"@{exit.then}", "%rp", "%cnt")

    return define


def _h_spin(h: _Special) -> None:
    """A spin loop has turned a few times: let others run, then look around."""
    h.exact()
    h.call("give_way")
    h.tail("@h_service")


def _h_service(h: _Special) -> None:
    h.call("service")
    h.tail("@h_goto")


def _h_resync(h: _Special) -> None:
    """pc and instret are exact; what decides about interrupts or translation may have changed."""
    h.call("take_due_interrupt")
    h.go_on()  # a loop may be closed by xRET


def _h_raise(h: _Special) -> None:
    """pc and instret are exact, exc_cause and exc_tval say what to raise."""
    h.call("raise_exception")
    h.go_on()


def _h_exit(h: _Special) -> None:
    h.b.terminate(f"ret i64 {h.s.exit_reason.raw}")


_SPECIAL: dict[str, Callable[[_Special], None]] = {
    define.__name__[1:]: define
    for define in (
        _h_undecoded,
        _h_goto_record,
        _h_straddle,
        _h_illegal,
        _h_goto_counted,
        _h_attend_counted,
        _h_interpret,
        _h_goto,
        _h_poll,
        _h_slice,
        _h_leave,
        _h_jumped,
        _h_held_up,
        _h_refit,
        _h_spin,
        _h_service,
        _h_resync,
        _h_raise,
        _h_exit,
    )
} | {exit.symbol: _left_region(exit) for exit in HANDLED.values()}
"""By symbol."""


def _compile_special(module: Module, isa: IsaSpec) -> None:
    for symbol, define in _SPECIAL.items():
        section = f' section "{FIRST_SECTION}"' if symbol == SPECIAL_HANDLERS[0] else ""
        b = Builder(module, f"dso_local {CC} i64 @{symbol}({ARGUMENTS})", f"nounwind{section}")
        h = _Special(b, isa, symbol)
        define(h)
        module.define(b)


def _compile_entry(module: Module, isa: IsaSpec) -> None:
    """``i64 @enter(ptr hart)``: run until an exit; its reason."""
    b = Builder(module, "dso_local i64 @enter(ptr %st)", "nounwind")
    b.line("call { i64, i64 } @r_become_busy(ptr %st)")  # outside, the hart stores nothing: lrsc.py
    module.host.emit_enter(b, "%st")
    table = b.op(f"load ptr, ptr {b.pointer('%st', HART.offset['handlers'])}")
    reason = b.op(f"call {CC} i64 @h_service(ptr %st, ptr null, i64 0, ptr null, ptr {table})")
    module.host.emit_leave(b, "%st")
    b.line("call { i64, i64 } @r_become_idle(ptr %st)")
    b.terminate(f"ret i64 {reason}")
    module.define(b)


class _Handlers:
    """Compiles the handlers of one ISA: ``symbols`` by variant."""

    def __init__(self, module: Module, isa: IsaSpec, emitter: EmitterFactory) -> None:
        self._module, self._isa, self._emitter = module, isa, emitter
        self.symbols: dict[Variant, str] = {}
        short_forms = {c.base for c in COMPRESSED if c.ext in isa.extensions}
        for insn in INSNS.values():
            if insn.ext in isa.extensions:
                for length in (4, 2) if insn.name in short_forms else (4,):
                    self._compile(insn, length)

    def _compile(self, insn: Insn, length: int) -> None:
        """All variants in which ``insn`` exists, and the slow form that they share."""
        general = Variant(insn, length)
        ways = WAYS if facts(self._isa, general).relative_jump else ("",)
        slow_needed = False
        for fixed in (*specialisations(insn), {}):
            for way in ways:
                variant = Variant(insn, length, way, tuple(fixed.items()))
                self.symbols[variant], slow = compile_handler(self._module, self._isa, variant, self._emitter)
                slow_needed |= slow
        slow_symbol = f"s_{general.symbol}"
        if slow_needed and slow_symbol not in self.symbols.values():
            compile_slow(self._module, self._isa, general, slow_symbol, self._emitter)

    def fuse(self, numbers: dict[Variant, int], pairs: Sequence[tuple[str, str]]) -> dict[tuple[int, int], str]:
        """Handlers for those ``pairs`` whose parts have fast forms: symbols by the parts' numbers."""
        by_symbol = {v.symbol: v for v, symbol in self.symbols.items() if symbol.startswith("f_")}
        made: dict[tuple[int, int], str] = {}
        for first, second in pairs:
            a, b = by_symbol.get(first), by_symbol.get(second)
            if a and b:
                made[numbers[a], numbers[b]] = compile_fused(self._module, self._isa, a, b)
        return made


def build_interpreter(
    isa: IsaSpec,
    join: Sequence[tuple[str, str]] | None = None,
    emitter: EmitterFactory = HandlerEmitter,
    host: Host | None = None,
) -> Interpreter:
    """The whole module for one ISA, and ``host`` if it is not this machine.

    For measurements: ``join`` are the pairs to fuse instead of fusion.py's, ``emitter`` compiles the handlers of single
    instructions.
    """
    module = Module(host)
    handlers = _Handlers(module, isa, emitter)
    numbers = {v: i for i, v in enumerate(handlers.symbols, len(SPECIAL_HANDLERS))}
    symbols = [*SPECIAL_HANDLERS, *handlers.symbols.values()]
    fused = handlers.fuse(numbers, fusion_pairs() if join is None else join)
    pairs = {parts: number for number, parts in enumerate(fused, len(symbols))}
    symbols += fused.values()

    define_fusion_table(module, len(symbols), pairs)
    define_fact_tables(module, isa, numbers, len(symbols))
    module.declare(f"@handler_offsets = dso_local global [{len(symbols)} x i32] zeroinitializer")
    _compile_special(module, isa)
    _compile_entry(module, isa)
    define_data_addresses(module, isa)
    compile_routine(module, isa, _decode_routine(numbers, isa))
    compile_sampler(module, isa)
    for made in ROUTINES.values():
        compile_routine(module, isa, made)
    return Interpreter(module.text(), tuple(symbols))


def _decode_routine(numbers: dict[Variant, int], isa: IsaSpec) -> Routine:
    def decode(h: Native, word: Value, record: Value, page_offset: Value) -> None:
        DecoderEmitter(h, numbers, isa.extensions).emit(word, record, page_offset)

    return dataclasses.replace(DECODE, function=decode)
