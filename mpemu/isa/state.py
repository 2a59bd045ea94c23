"""The hart's architectural state, field by field: name, reset value, what it is (privileged spec names).

Every field is 64 bits wide. ``layout.py`` gives each its place in shared memory; bodies reach them as ``h.s.name``.
Registers x and f are arrays and stand in the layout by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StateField:
    name: str
    reset: int
    doc: str


STATE: tuple[StateField, ...] = (
    StateField("pc", 0, "where the hart is, exact whenever it is not running"),
    StateField("priv", 3, "current privilege mode: 0 U, 1 S, 3 M"),
    StateField("hartid", 0, "mhartid"),
    StateField("mstatus", 0, "mstatus with UXL/SXL; SD is computed when read"),
    StateField("misa", 0, "misa"),
    StateField("mip", 0, "software-written pending bits; the lines are or-ed in when it is read"),
    StateField("mie", 0, "mie"),
    StateField("mideleg", 0, "mideleg"),
    StateField("medeleg", 0, "medeleg"),
    StateField("mtvec", 0, "mtvec"),
    StateField("mepc", 0, "mepc"),
    StateField("mcause", 0, "mcause"),
    StateField("mtval", 0, "mtval"),
    StateField("mscratch", 0, "mscratch"),
    StateField("stvec", 0, "stvec"),
    StateField("sepc", 0, "sepc"),
    StateField("scause", 0, "scause"),
    StateField("stval", 0, "stval"),
    StateField("sscratch", 0, "sscratch"),
    StateField("satp", 0, "satp"),
    StateField("stimecmp", (1 << 64) - 1, "stimecmp (Sstc)"),
    StateField("menvcfg", 0, "menvcfg"),
    StateField("senvcfg", 0, "senvcfg"),
    StateField("mcounteren", 0, "mcounteren"),
    StateField("scounteren", 0, "scounteren"),
    StateField("mcountinhibit", 0, "mcountinhibit"),
    StateField("minstret_base", 0, "what instret() is offset by in minstret"),
    StateField("mcycle_base", 0, "what instret() is offset by in mcycle"),
    StateField("frm", 0, "rounding mode"),
    StateField("exc_cause", 0, "cause of the exception being raised (between a routine and its caller)"),
    StateField("exc_tval", 0, "its tval"),
    StateField("walk_fault", 0, "nonzero: the last read_pte met something that is not RAM"),
    StateField("walk_shift", 12, "log2 of the page size of the last translation"),
)
