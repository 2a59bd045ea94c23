"""Zfhmin and Zfh: half-precision floating point. Unprivileged ISA manual, chapter "Zfh and Zfhmin".

Zfhmin is what moves and converts halves; Zfh, which implies it, computes with them. The conversions to and from double
need D as well, which every hart that has F has here.
"""

from __future__ import annotations

from mpemu.isa.fp import FORMATS
from mpemu.isa.fp_insns import computation, format_conversion, memory, moves

_H = FORMATS["h"]

memory(_H, "Zfhmin")
moves(_H, "Zfhmin")
format_conversion("s", "h", "Zfhmin")
format_conversion("h", "s", "Zfhmin")
format_conversion("d", "h", "Zfhmin")
format_conversion("h", "d", "Zfhmin")
computation(_H, "Zfh")
