"""D: double-precision floating point. Unprivileged ISA manual, chapter "D"."""

from __future__ import annotations

from mpemu.isa.fp import FORMATS
from mpemu.isa.fp_insns import computation, format_conversion, memory, moves

_D = FORMATS["d"]

memory(_D, "D")
moves(_D, "D")
computation(_D, "D")
format_conversion("s", "d", "D")
format_conversion("d", "s", "D")
