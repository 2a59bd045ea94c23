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


def compile_object(ir: str, optimise: int = 1, codegen: int = 2) -> bytes:
    """Compile a module to position-independent code. RuntimeError, with LLVM's message, if the IR is not valid.

    The interpreter gains nothing from more passes (docs/log.md); stack slots must become values, which level 1 does.
    """
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=codegen,
        reloc="pic",
        codemodel="small",
    )
    module = llvm.parse_assembly(ir)
    module.verify()
    if optimise:
        tuning = llvm.create_pipeline_tuning_options(speed_level=optimise)
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
    result: bytes = machine.emit_object(module)
    return result
