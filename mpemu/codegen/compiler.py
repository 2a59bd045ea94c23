"""LLVM itself: IR text in, object file out. The only module that imports llvmlite."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import llvmlite.binding as llvm

from mpemu.codegen import fp_x86

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_native_asmparser()  # for inline assembly


ARCHITECTURE = "x86_64"
NEEDED = (*fp_x86.FEATURES, "cx16")
"""Host features without which LLVM would call a library that the blob doesn't have; cx16 is amocas.q."""


class UnsupportedHost(Exception):
    """Generated code can't run on this machine."""


def check_host(architecture: str | None = None, features: Mapping[str, bool] | None = None) -> None:
    """UnsupportedHost unless this machine (or the one that is described) has what generated code needs."""
    architecture = architecture or platform.machine()
    if architecture != ARCHITECTURE:
        raise UnsupportedHost(f"this machine is {architecture}; mpemu generates code for {ARCHITECTURE} only")
    if features is None:
        features = llvm.get_host_cpu_features()
    if missing := [name for name in NEEDED if not features.get(name)]:
        raise UnsupportedHost(
            f"this machine's CPU ({llvm.get_host_cpu_name()}) lacks {', '.join(missing)}, which mpemu's generated code "
            "needs: use a CPU of 2013 or later or, in a virtual machine, pass the host's CPU through"
        )


def compile_object(ir: str) -> bytes:
    """Compile a module to position-independent code. RuntimeError, with LLVM's message, if the IR is not valid.

    Three passes: stack slots become values, branches and expressions are tidied. A whole pipeline takes three times
    as long and makes handlers no faster; neither does a higher level of instruction selection (docs/log.md).
    """
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=1,
        reloc="pic",
        codemodel="small",
    )
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
