"""The instruction reference page (docs/isa.md), made from the instruction table.

python -m mpemu.isa.manual > docs/isa.md
"""

from __future__ import annotations

import mpemu.isa.instructions  # noqa: F401  (fills the table)
from mpemu.isa.profiles import EXTENSIONS
from mpemu.isa.registry import COMPRESSED, INSNS, Compressed, Insn

_HEAD = """\
# Instructions

Every instruction that mpemu executes, from the table that the interpreter, the reference model and the disassembler are
made of (`mpemu/isa/`). This page is generated: `python -m mpemu.isa.manual > docs/isa.md`.

An encoding lists fields from the highest bit down: binary digits, registers (`rd rs1 rs2 rs3` integer, `fd fs1 fs2 fs3`
floating point; with a prime, three bits for x8 to x15), and immediates with the bits they carry. `imm` is
sign-extended, `uimm` and `shamt` are not.
"""


def reference_page() -> str:
    """The page as Markdown: a section per extension, a row per instruction."""
    known = list(EXTENSIONS)
    names = {i.ext for i in INSNS.values()} | {c.ext for c in COMPRESSED}
    sections = [_section(ext) for ext in sorted(names, key=lambda e: known.index(e) if e in known else len(known))]
    return "\n".join([_HEAD, *sections])


def _section(ext: str) -> str:
    rows = [_row(i) for i in INSNS.values() if i.ext == ext]
    short = [_short_row(c) for c in COMPRESSED if c.ext == ext]
    about = EXTENSIONS.get(ext, "")
    head = "| instruction | encoding | what it does |" if rows else "| instruction | encoding | stands for |"
    return "\n".join([f"## {ext}: {about}", "", head, "|---|---|---|", *rows, *short, ""])


def _row(i: Insn) -> str:
    first = i.doc.split("\n\n")[0].replace("\n", " ")
    return f"| `{_template(i.name, i.asm)}` | `{_cell(i.pattern.text)}` | {_cell(first)} |"


def _short_row(c: Compressed) -> str:
    operands = ", ".join(
        f"{k}={v}" if isinstance(v, int) else k if k == v else f"{k}={v}" for k, v in c.operands.items()
    )
    reserved = f"; reserved if {c.nonzero[0]} = 0" if c.nonzero else ""
    return f"| `{_template(c.name, c.asm)}` | `{_cell(c.pattern.text)}` | `{c.base}` {operands}{reserved} |"


def _template(name: str, asm: str) -> str:
    plain = asm.replace(":pc}", "}").replace(":upper}", "}").replace(":iorw}", "}")
    return f"{name} {plain.replace('{', '').replace('}', '')}".strip()


def _cell(text: str) -> str:
    """Text for a table cell, where a bar would end it."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference_page(), end="")
