"""Compiles every floating-point operation, each in a function of its own, and calls them with a hart's state around."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator, Sequence

import llvmlite.binding as llvm
from elftools.elf.elffile import ELFFile
from fp_cases import Operation, kinds

from mpemu.codegen import fp
from mpemu.codegen.host import Host, native
from mpemu.codegen.ir import Builder, Module
from mpemu.isa.fp import FORMATS, INTEGERS
from mpemu.layout import HART


def width(kind: str) -> int:
    return (INTEGERS[kind] if kind in INTEGERS else FORMATS[kind]).width


def target_machine(opt: int = 1) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # inline assembly
    features = llvm.get_host_cpu_features()
    missing = [f for f in native().NEEDED if not features.get(f)]
    assert not missing, f"this host has no {', '.join(missing)}"
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=opt, reloc="pic", codemodel="small"
    )


def symbol(operation: Operation, rm: int | None) -> str:
    return "_".join([*filter(None, operation), "any" if rm is None else str(rm)])


def build(variants: Sequence[tuple[Operation, int | None]], host: Host | None = None) -> str:
    """IR with ``u64 f(hart, u64 *in, u64 rm, u64 *flags)`` per variant; its rm is static or the argument (None)."""
    module = Module(host)
    for operation, rm in variants:
        b = Builder(module, f"i64 @{symbol(operation, rm)}(ptr %st, ptr %in, i64 %rm, ptr %flags)", "nounwind strictfp")
        operands = [b.load(b.pointer("%in", 8 * i)).lo(width(k)) for i, k in enumerate(kinds(operation))]
        frm = b.load(b.pointer("%st", HART.offset["frm"]))
        module.host.emit_enter(b, "%st")
        module.host.emit_set_flags(b, "%st", b.load("%flags"))
        module.host.emit_set_rounding(b, "%st", frm)
        op, fmt, to = operation
        result = fp.emit_fp(b, "%st", op, fmt, tuple(operands), b.value("%rm") if rm is None else rm, to)
        b.store("%flags", module.host.emit_flags(b, "%st").zext(64))
        module.host.emit_leave(b, "%st")
        b.terminate(f"ret i64 {result.zext(64).raw}")
        module.define(b)
    return module.text()


class Native:
    """The compiled variants."""

    def __init__(self, variants: Sequence[tuple[Operation, int | None]]) -> None:
        module = llvm.parse_assembly(build(variants))
        module.verify()
        machine = target_machine()
        self.object = machine.emit_object(module)
        self.assembly = machine.emit_assembly(module)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        pointer = ctypes.POINTER(ctypes.c_uint64)
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, pointer, ctypes.c_uint64, pointer)
        self._functions = {v: prototype(self._engine.get_function_address(symbol(*v))) for v in variants}
        self._buffer = ctypes.create_string_buffer(HART.size)
        self.hart = HART.view(self._buffer)
        self._state = ctypes.addressof(self._buffer)
        self._operands = (ctypes.c_uint64 * 3)()
        self._flags = ctypes.c_uint64()

    def call(
        self, operation: Operation, variant: int | None, operands: Sequence[int], rm: int, frm: int, flags: int = 0
    ) -> tuple[int, int]:
        """(result, fflags behind it) with frm and fflags as given; ``rm`` is what a variant without static rm gets."""
        self._operands[: len(operands)] = list(operands)
        self.hart.frm = frm
        self._flags.value = flags
        function = self._functions[operation, variant]
        result = function(self._state, self._operands, rm, ctypes.byref(self._flags))
        return result, self._flags.value


def undefined_symbols(machine_object: bytes) -> Iterator[str]:
    """What the object wants from outside."""
    table = ELFFile(io.BytesIO(machine_object)).get_section_by_name(".symtab")
    for entry in table.iter_symbols():
        if entry.name and entry["st_shndx"] == "SHN_UNDEF":
            yield entry.name
