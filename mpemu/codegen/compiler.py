"""LLVM itself: IR text in, object file out. The only module that imports llvmlite."""

from __future__ import annotations

import llvmlite
import llvmlite.binding as llvm

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_native_asmparser()  # for inline assembly


def host_signature() -> str:
    """What generated code depends on besides mpemu: the host's CPU and features, and LLVM's version."""
    features = llvm.get_host_cpu_features().flatten()
    version = ".".join(map(str, llvm.llvm_version_info))
    return f"{llvm.get_host_cpu_name()} {features} llvm {version} llvmlite {llvmlite.__version__}"


def compile_object(ir: str) -> bytes:
    """Compile a module to position-independent code. RuntimeError, with LLVM's message, if the IR is not valid.

    Three passes: stack slots become values, branches and expressions are tidied. A whole pipeline takes five times as
    long and makes handlers no faster; neither does a higher level of instruction selection (docs/log.md).
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
