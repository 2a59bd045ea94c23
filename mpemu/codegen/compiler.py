"""LLVM itself: IR text in, object file out. The only module that imports llvmlite."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping

import llvmlite.binding as llvm

from mpemu.codegen.host import Host, UnsupportedHost, host_of, native


def check_host(architecture: str | None = None, features: Mapping[str, bool] | None = None) -> None:
    """UnsupportedHost unless this machine (or the one that is described) has what generated code needs."""
    architecture = architecture or platform.machine()
    host = host_of(architecture)
    if features is None:
        features = llvm.get_host_cpu_features()
    if missing := [name for name in host.NEEDED if not features.get(name)]:
        raise UnsupportedHost(
            f"this machine's CPU ({llvm.get_host_cpu_name()}) lacks {', '.join(missing)}, which mpemu's generated code "
            f"needs: {host.ADVICE}"
        )


@functools.cache
def _set_options() -> None:
    """Options of the whole process, which LLVM takes once.

    No strength reduction of loops: it takes time, and in a region it finds more induction variables than registers, one
    per guest register and window (docs/log.md).
    """
    llvm.set_option("", "--disable-lsr")


@functools.cache
def _target_machine(architecture: str, reloc: str = "pic") -> llvm.TargetMachine:
    """For this very CPU; for another architecture, a plain CPU that has what is needed."""
    host = host_of(architecture)
    _set_options()
    if architecture == platform.machine():
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # for inline assembly
        target = llvm.Target.from_default_triple()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(host.TRIPLE)
        cpu, features = "generic", ",".join(f"+{name}" for name in host.NEEDED)
    return target.create_target_machine(cpu=cpu, features=features, opt=1, reloc=reloc, codemodel="small")


def compile_object(ir: str, host: Host | None = None, reloc: str = "pic") -> bytes:
    """Compile a module to position-independent code. RuntimeError, with LLVM's message, if the IR is not valid.

    With ``reloc`` "static" addresses of symbols may be constants in instructions (codegen/stencils.py).

    Three passes: stack slots become values, branches and expressions are tidied. A whole pipeline takes three times
    as long and makes handlers no faster; neither does a higher level of instruction selection (docs/log.md).
    """
    machine = _target_machine((host or native()).ARCHITECTURE, reloc)
    module = llvm.parse_assembly(ir)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    result: bytes = machine.emit_object(module)
    return result
