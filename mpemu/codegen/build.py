"""The builder process: generates, compiles and links the interpreter of one ISA and writes it to a file.

``python -m mpemu.codegen.build ISA FILE``; each line on stdout is a phase and the fraction done, for a progress bar.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mpemu.codegen.interpreter import build_interpreter
from mpemu.codegen.linker import link
from mpemu.isa.profiles import IsaSpec
from mpemu.vcpu.blob_file import encode_blob


def say(phase: str, fraction: float) -> None:
    print(f"{fraction:.2f} {phase}", flush=True)


def build(isa: IsaSpec, target: Path) -> None:
    """Write the blob atomically, readable by its owner only."""
    say("generating the interpreter", 0.0)
    interpreter = build_interpreter(isa)
    say("compiling the interpreter", 0.1)
    from mpemu.codegen.compiler import compile_object

    object_file = compile_object(interpreter.text)
    say("linking the interpreter", 0.95)
    blob = link(object_file, interpreter.handlers)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_blob(blob.data, blob.symbols))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    say("done", 1.0)


if __name__ == "__main__":
    build(IsaSpec.parse(sys.argv[1]), Path(sys.argv[2]))
