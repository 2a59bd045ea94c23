"""The hart's architectural state, field by field: name, reset value, what it is (privileged spec names).

Every field is 64 bits wide. ``layout.py`` gives each its place in shared memory; bodies reach them as ``h.s.name``.
Registers x and f are arrays and stand in the layout by themselves. What the ISA string alone decides (misa, UXL, SXL)
is computed where it is read (``isa/csr_table.py``) and not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpemu.isa.privileged import ADUE

PMP_ENTRIES = 16


@dataclass(frozen=True)
class StateField:
    name: str
    reset: int
    doc: str


STATE: tuple[StateField, ...] = (
    StateField("pc", 0, "where the hart is, exact whenever it is not running"),
    StateField("priv", 3, "current privilege mode: 0 U, 1 S, 3 M"),
    StateField("hartid", 0, "mhartid"),
    StateField("mstatus", 0, "mstatus without UXL, SXL and SD, which are computed when it is read"),
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
    # A hart with Svadu starts as one that knows of nothing else: kernels without firmware expect hardware A/D updates,
    # and firmware that knows Svade clears the bit. The manual leaves the reset value open.
    StateField("menvcfg", ADUE, "menvcfg; bits of extensions that the hart lacks are masked when it is read"),
    StateField("senvcfg", 0, "senvcfg"),
    *(StateField(f"mstateen{n}", 0, f"mstateen{n} (Smstateen)") for n in range(4)),
    StateField("mcounteren", 0, "mcounteren"),
    StateField("scounteren", 0, "scounteren"),
    StateField("mcountinhibit", 0, "mcountinhibit"),
    StateField("minstret_base", 0, "minstret, less instret() unless mcountinhibit.IR"),
    StateField("mcycle_base", 0, "mcycle, less instret() unless mcountinhibit.CY"),
    StateField("frm", 0, "rounding mode"),
    *(StateField(f"pmpcfg_{n}", 0, f"configuration byte of PMP entry {n}") for n in range(PMP_ENTRIES)),
    *(StateField(f"pmpaddr_{n}", 0, f"pmpaddr{n} as written") for n in range(PMP_ENTRIES)),
    # Derived from the two above by the routine pmp_update, for a cheap pmp_check.
    *(StateField(f"pmp_first_{n}", (1 << 64) - 1, f"first 4 KiB page of PMP entry {n}") for n in range(PMP_ENTRIES)),
    *(StateField(f"pmp_end_{n}", 0, f"the page behind PMP entry {n}") for n in range(PMP_ENTRIES)),
    StateField("pmp_count", 0, "entries to look at: one more than the highest that is not off"),
    StateField("exc_cause", 0, "cause of the exception being raised (between a routine and its caller)"),
    StateField("exc_tval", 0, "its tval"),
    StateField("walk_fault", 0, "nonzero: the last read_pte met something that is not RAM"),
    StateField("walk_bare", 0, "1: the last translation was without paging"),
    StateField("walk_shift", 12, "log2 of the page size of the last translation"),
)
