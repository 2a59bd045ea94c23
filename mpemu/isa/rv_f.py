"""F: single-precision floating point. Unprivileged ISA manual, chapter "F"."""

from __future__ import annotations

from mpemu.isa.fp import FORMATS
from mpemu.isa.fp_insns import computation, memory, moves

_S = FORMATS["s"]

memory(_S, "F")
moves(_S, "F")
computation(_S, "F")
