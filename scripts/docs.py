"""Regenerates what is made from the code: docs/isa.md and the picture in the README. `make docs` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mpemu.isa.manual import reference_page

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 112
# rich names fonts on the web; a picture in a repository needs none of them
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def picture(command: list[str]) -> str:
    """What a terminal shows of a run of ``mpemu``, as SVG. The guest's console first, then what mpemu says."""
    for _ in range(2):  # the first may have to build the interpreter
        done = subprocess.run(
            [sys.executable, "-m", "mpemu", *command], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300
        )
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    console.print(Text(f"$ mpemu {' '.join(command)}", style="bold green"))
    for line in done.stdout.splitlines():
        console.print(Text(line.rstrip()))
    for line in done.stderr.splitlines():
        console.print(Text(line.rstrip(), style="cyan"))
    return _FONT_FACE.sub("", console.export_svg(title="mpemu"))


def main() -> None:
    (ROOT / "docs/isa.md").write_text(reference_page())
    (ROOT / "docs/images").mkdir(exist_ok=True)
    (ROOT / "docs/images/run.svg").write_text(picture(["run"]))


if __name__ == "__main__":
    main()
