"""The builder process: generates, compiles and links the interpreter of one ISA and writes it to a file.

``python -m mpemu.codegen.build ISA FILE [PARENT]``; each line on stdout is a phase and the fraction done, for a
progress bar. It dies with its parent, whose process number is PARENT.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from mpemu.codegen.compiler import check_host, compile_object
from mpemu.codegen.host import UnsupportedHost, native
from mpemu.codegen.interpreter import build_interpreter
from mpemu.codegen.linker import LinkError, extract_stencils, link_interpreter
from mpemu.codegen.stencils import stencils_ir
from mpemu.errors import HostError
from mpemu.isa.profiles import IsaSpec
from mpemu.private_file import remove_abandoned, write_private
from mpemu.vcpu.blob_file import BlobFile, Stencil, encode_blob

PR_SET_PDEATHSIG = 1


def say(phase: str, fraction: float) -> None:
    print(f"{fraction:.2f} {phase}", flush=True)


def build(isa: IsaSpec, target: Path) -> None:
    """Write the blob atomically, readable by its owner only."""
    check_host()
    say("generating the interpreter", 0.0)
    interpreter = build_interpreter(isa)
    say("compiling the interpreter", 0.1)
    object_file = compile_object(interpreter.text)
    say("linking the interpreter", 0.95)
    blob = link_interpreter(object_file, interpreter.handlers)
    stencils = build_stencils(isa, blob.symbols) if native().STENCILS else {}
    write(target, encode_blob(BlobFile(blob.data, blob.symbols, stencils)))
    say("done", 1.0)


def build_stencils(isa: IsaSpec, symbols: dict[str, int]) -> dict[str, Stencil]:
    text, names = stencils_ir(isa, symbols)
    return extract_stencils(compile_object(text, reloc="static"), names)


def write(target: Path, data: bytes) -> None:
    """Put ``data`` at ``target`` in one step: readers, and other builders of the same, see all of it or nothing."""
    remove_abandoned(target.parent, target.name)
    write_private(target, data)


def main() -> int:
    """The last line on stderr is for the user."""
    isa, target = IsaSpec.parse(sys.argv[1]), Path(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if len(sys.argv) > 3 and os.getppid() != int(sys.argv[3]):  # it died before that took effect
        return 1
    try:
        build(isa, target)
    except (UnsupportedHost, LinkError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"{target.parent}: can't keep compiled code there ({error.strerror}); set MPEMU_CACHE_DIR", file=sys.stderr
        )
        return HostError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
