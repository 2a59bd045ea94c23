"""LLVM IR as text: modules, functions and the builder that guest values compute with.

Text made with f-strings costs a tenth of what an object model of the IR costs (docs/log.md). A :class:`Builder` appends
to one function; it implements :class:`mpemu.isa.value.Ops`, so arithmetic on :class:`Value` lands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpemu.codegen.host import Host, native
from mpemu.isa.value import Value

_INTRINSICS = {"ctlz": "ctlz", "cttz": "cttz", "ctpop": "ctpop", "bswap": "bswap", "bitreverse": "bitreverse"}

LIKELY = ", !prof !0"
UNLIKELY = ", !prof !1"
_METADATA = '!0 = !{!"branch_weights", i32 100000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 100000}\n!2 = !{}\n'
_FUNCTION, _FIRST_PLACE = 6, 16
PLACES = f" !dbg !{_FUNCTION}"
"""Behind the attributes of a function whose instructions have places."""
_DEBUG = f"""\
!llvm.module.flags = !{{!3}}
!llvm.dbg.cu = !{{!4}}
!3 = !{{i32 2, !"Debug Info Version", i32 3}}
!4 = distinct !DICompileUnit(language: DW_LANG_C, file: !5, isOptimized: true, emissionKind: LineTablesOnly)
!5 = !DIFile(filename: "guest", directory: "")
!{_FUNCTION} = distinct !DISubprogram(name: "region", file: !5, type: !7, unit: !4, spFlags: DISPFlagDefinition)
!7 = !DISubroutineType(types: !2)
"""
"""Places of the guest travel through LLVM as line numbers, less one."""


class Module:
    """An LLVM module in the making: declarations (each once) and function definitions."""

    def __init__(self, host: Host | None = None) -> None:
        """``host``: the architecture that it is for, this machine's if there is none."""
        self.host = host or native()
        self._declarations: dict[str, None] = {}
        self._definitions: list[str] = []
        self._places: dict[int, int] = {}
        self.known_frm = ""
        """Where set, the value that holds frm throughout the function being made."""
        self.leave_for_exact_fp: Callable[[bool], None] | None = None
        """Where set, floating point that the host can't do exactly is not computed here: it is called (with whether
        this is one of two branches) to leave for somewhere else."""

    def declare(self, text: str) -> None:
        """Add a module-level declaration or global, unless the same text is there already."""
        self._declarations[text] = None

    def define(self, builder: Builder) -> None:
        self._definitions.append(builder.text())

    def place(self, number: int) -> str:
        """What an instruction has behind it to come from ``number`` (0 or more): linker.py tells where that went."""
        return f", !dbg !{self._places.setdefault(number, _FIRST_PLACE + len(self._places))}"

    def text(self) -> str:
        places = [
            f"!{name} = !DILocation(line: {number + 1}, scope: !{_FUNCTION})" for number, name in self._places.items()
        ]
        debug = [_DEBUG, *places] if places else []
        return "\n".join([*self._declarations, *self._definitions, _METADATA, *debug])


class Builder:
    """Appends instructions to one function. Blocks end with a terminator; code behind one needs a new label."""

    def __init__(self, module: Module, header: str, attributes: str = "nounwind") -> None:
        """``header`` is what follows ``define``: linkage, convention, type, name, parameters."""
        self.module = module
        # no-builtins: a loop must not become a call of memset, the blob has no libc
        self._header = f'define {header} "no-builtins" {attributes} {{'
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._aside: list[str] = []
        self._is_aside = False
        self._count = 0
        self.terminated = False
        self.muted = 0
        self.origin = ""
        """Behind each instruction: where it comes from (Module.place)."""
        self._behind_when: tuple[int, str, int | None] = (-1, "", None)

    def text(self) -> str:
        return "\n".join([self._header, "entry:", *self._entry, *self._lines, *self._aside, "}"])

    def sibling(self) -> Builder:
        """A builder for code of the same function (its names don't clash with those made so far)."""
        made = Builder(self.module, "")
        made._count = self._count
        return made

    def prologue(self, entry: Builder) -> None:
        """Put what ``entry`` has appended at the beginning of this function."""
        self._entry += entry._entry + entry._lines

    # -- appending
    def line(self, text: str) -> None:
        if not self.terminated and not self.muted:
            self._lines.append(f"  {text}{self.origin}")

    def op(self, expression: str) -> str:
        """Append ``%n = expression`` and return ``%n``."""
        self._count += 1
        name = f"%v{self._count}"
        self.line(f"{name} = {expression}")
        return name

    def declare(self, text: str) -> None:
        self.module.declare(text)

    def alloca(self, kind: str) -> str:
        self._count += 1
        name = f"%a{self._count}"
        self._entry.append(f"  {name} = alloca {kind}")
        return name

    def position(self) -> tuple[int, int]:
        """For :meth:`rewind`. The block must be open."""
        return len(self._lines), len(self._aside)

    def rewind(self, position: tuple[int, int]) -> None:
        """Drop what was appended since."""
        here, aside = position
        del self._lines[here:]
        del self._aside[aside:]
        self.terminated = False

    # -- control flow
    def label(self) -> str:
        self._count += 1
        return f"L{self._count}"

    def place(self, label: str) -> None:
        """Start the block ``label``, falling into it from an open block."""
        if self.muted:
            return
        if not self.terminated:
            self._lines.append(f"  br label %{label}")
        self._lines.append(f"{label}:")
        self.terminated = False

    @contextmanager
    def aside(self, label: str) -> Iterator[None]:
        """Directly behind a terminator: the block ``label`` and what follows it up to a terminator, out of the way of
        what runs often. (LLVM need not find out what that is.)"""
        if self.muted or self._is_aside:
            self.place(label)
            yield
            return
        self._is_aside = True
        self._lines, self._aside = self._aside, self._lines
        self.place(label)
        yield
        if not self.terminated:
            raise TypeError("what stands aside must end in a terminator")
        self._lines, self._aside = self._aside, self._lines
        self._is_aside = False

    def terminate(self, text: str) -> None:
        self.line(text)
        if not self.muted:
            self.terminated = True

    def keep_apart(self) -> None:
        """In a block that only compares: LLVM shall not make one branch of this one and the one before. (No code.)"""
        self.line('fence syncscope("singlethread") acq_rel')

    def branch(self, label: str) -> None:
        self.terminate(f"br label %{label}")

    def branch_if(self, condition: Any, then: str, other: str, likely: bool | None = None) -> None:
        weights = "" if likely is None else LIKELY if likely else UNLIKELY
        self.terminate(f"br i1 {condition}, label %{then}, label %{other}{weights}")

    @contextmanager
    def when(self, condition: Value, likely: bool | None = None) -> Iterator[None]:
        """Code for ``condition`` true. A constant condition emits the code inline, or not at all."""
        known = condition.constant
        if known is not None:
            self.muted += not known
            yield
            self.muted -= not known
            self._behind_when = (len(self._lines), "", known)
            return
        then, other, join = self.label(), self.label(), self.label()
        self.branch_if(condition.raw, then, other, likely)
        self.place(then)
        yield
        if not self.terminated:
            self.branch(join)
        self.place(other)
        self.branch(join)
        self.place(join)
        self._behind_when = (len(self._lines), join, None)

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Directly behind a :meth:`when`: the code for its condition false."""
        if self.muted:
            yield
            return
        position, join, known = self._behind_when
        if position != len(self._lines):
            raise TypeError("otherwise() must stand directly behind a when()")
        if known is not None:
            self.muted += known
            yield
            self.muted -= known
            return
        del self._lines[-2:]  # the empty else branch: `br join`, `join:`
        yield
        self.place(join)

    # -- Ops
    def binary(self, op: str, a: Any, b: Any, width: int) -> str:
        return self.op(f"{op} i{width} {a}, {b}")

    def unary(self, op: str, a: Any, width: int) -> str:
        name = f"llvm.{_INTRINSICS[op]}.i{width}"
        flag = op in ("ctlz", "cttz")
        self.declare(f"declare i{width} @{name}(i{width}{', i1' if flag else ''})")
        return self.op(f"call i{width} @{name}(i{width} {a}{', i1 false' if flag else ''})")

    def compare(self, predicate: str, a: Any, b: Any, width: int) -> str:
        return self.op(f"icmp {predicate} i{width} {a}, {b}")

    def cast(self, kind: str, a: Any, width: int, to: int) -> str:
        return self.op(f"{kind} i{width} {a} to i{to}")

    def select(self, condition: Any, a: Any, b: Any, width: int) -> str:
        return self.op(f"select i1 {condition}, i{width} {a}, i{width} {b}")

    # -- values and host memory
    def value(self, raw: Any, width: int = 64) -> Value:
        return Value(raw, width, self)

    def pointer(self, base: str, offset: Value | int) -> str:
        """``base`` (a ptr) plus bytes."""
        if isinstance(offset, int):
            return base if offset == 0 else self.op(f"getelementptr i8, ptr {base}, i64 {offset}")
        return self.op(f"getelementptr i8, ptr {base}, i64 {offset.raw}")

    def to_pointer(self, address: Value) -> str:
        return self.op(f"inttoptr i64 {address.raw} to ptr")

    def from_pointer(self, pointer: str) -> Value:
        return self.value(self.op(f"ptrtoint ptr {pointer} to i64"))

    def load(self, pointer: str, width: int = 64, order: str = "", align: int = 0, invariant: bool = False) -> Value:
        """``order``: an atomic ordering of LLVM's; or "volatile": one access of the host, in program order with all
        others that are volatile or atomic."""
        align = align or max(width // 8, 1)
        tail = ", !invariant.load !2" if invariant else ""
        if order == "volatile":
            return self.value(self.op(f"load volatile i{width}, ptr {pointer}, align {align}"), width)
        if order:
            return self.value(self.op(f"load atomic i{width}, ptr {pointer} {order}, align {align}{tail}"), width)
        return self.value(self.op(f"load i{width}, ptr {pointer}, align {align}{tail}"), width)

    def store(
        self,
        pointer: str,
        value: Value | int,
        width: int = 64,
        order: str = "",
        align: int = 0,
        volatile: bool = False,
    ) -> None:
        if isinstance(value, Value):
            width = value.width
            raw = value.raw
        else:
            raw = value & ((1 << width) - 1)
        align = align or max(width // 8, 1)
        if order:
            self.line(f"store atomic i{width} {raw}, ptr {pointer} {order}, align {align}")
        else:
            self.line(f"store {'volatile ' * volatile}i{width} {raw}, ptr {pointer}, align {align}")

    def atomic_rmw(self, op: str, pointer: str, value: Value | int, width: int = 64) -> Value:
        """Sequentially consistent; the old value. ``op`` is LLVM's (xchg add and or xor min max umin umax)."""
        raw = value.raw if isinstance(value, Value) else value
        width = value.width if isinstance(value, Value) else width
        return self.value(self.op(f"atomicrmw {op} ptr {pointer}, i{width} {raw} seq_cst"), width)

    def compare_exchange(self, pointer: str, expected: Value, new: Value) -> tuple[Value, Value]:
        """Sequentially consistent; (old value, 1-bit success)."""
        w = expected.width
        pair = self.op(f"cmpxchg ptr {pointer}, i{w} {expected.raw}, i{w} {new.raw} seq_cst seq_cst")
        return (
            self.value(self.op(f"extractvalue {{ i{w}, i1 }} {pair}, 0"), w),
            self.value(self.op(f"extractvalue {{ i{w}, i1 }} {pair}, 1"), 1),
        )

    def fence(self, order: str = "seq_cst") -> None:
        """A fence of LLVM's ``order``. By default a full one, store-to-load included."""
        self.line(f"fence {order}")
