"""The CSRs, once: number, name, extension, who may access it, how it reads, what writing does.

Privileged spec 1.13, "CSR Listing". The lowest privilege and whether a CSR is read-only are in its number; what the
rows name is in ``isa/csr_behaviour.py``. ``isa/csr.py`` makes the access routines from this table; the disassembler
takes names from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from mpemu.isa import csr_behaviour as b
from mpemu.isa import pmp
from mpemu.isa.csr_behaviour import ZERO, Denied, Read, Write, constant, field, masked, stateen_denies, warl
from mpemu.isa.privileged import CY, IR, STATEEN_ENVCFG, STATEEN_SE, SXL_64, UXL_64
from mpemu.isa.state import PMP_ENTRIES
from mpemu.isa.trap import pending
from mpemu.isa.value import Value


@dataclass(frozen=True)
class Csr:
    """``count`` CSRs from ``number`` on, ``step`` (a power of two) apart, that behave alike.

    ``read(h)`` gives the value. ``write(h, value, mask)`` is None where writes are ignored or the number says
    read-only. ``denied(h, number)`` is 1 where access is illegal for a reason that the number doesn't tell. Where there
    are several, ``name`` has ``{}`` for their index, which starts at ``index`` and grows by ``step``.
    """

    number: int
    name: str
    doc: str
    read: Read
    write: Write | None = None
    denied: Denied | None = None
    ext: str = ""
    count: int = 1
    step: int = 1
    index: int = 0

    def names(self) -> Iterator[tuple[int, str]]:
        """(number, name) of each."""
        for n in range(0, self.count * self.step, self.step):
            yield self.number + n, self.name.format(self.index + n)

    def covers(self, number: Value) -> Value:
        """1 if ``number`` is one of these."""
        if self.count == 1:
            return number == self.number
        offset = number - self.number
        return offset.ltu(self.count * self.step) & ((offset & (self.step - 1)) == 0)


def _stored(number: int, name: str, doc: str) -> Csr:
    """A register that holds whatever is written."""
    return Csr(number, name, doc, field(name), warl(name))


def _pmp() -> Iterator[Csr]:
    for group in range(PMP_ENTRIES // 8):
        read, write = partial(pmp.read_config, group=group), partial(pmp.write_config, group=group)
        yield Csr(0x3A0 + 2 * group, f"pmpcfg{2 * group}", f"PMP entries {8 * group} to {8 * group + 7}", read, write)
    yield Csr(0x3A4, "pmpcfg{}", "PMP entries that don't exist", ZERO, count=6, step=2, index=4)
    for n in range(PMP_ENTRIES):
        read, write = partial(pmp.read_address, entry=n), partial(pmp.write_address, entry=n)
        yield Csr(0x3B0 + n, f"pmpaddr{n}", f"address of PMP entry {n}", read, write)
    yield Csr(0x3C0, "pmpaddr{}", "PMP entries that don't exist", ZERO, count=48, index=16)


def _stateen() -> Iterator[Csr]:
    for n in range(4):
        bits = STATEEN_SE | (STATEEN_ENVCFG if n == 0 else 0)
        name = f"mstateen{n}"
        yield Csr(0x30C + n, name, "what lower modes may access", field(name), warl(name, bits), ext="Smstateen")
        # No state of ours has an enable bit for U-mode.
        denied = stateen_denies(n, STATEEN_SE)
        yield Csr(0x10C + n, f"sstateen{n}", "what U may access", ZERO, denied=denied, ext="Smstateen")


_cycle = partial(b.read_counter, base="mcycle_base", inhibit=CY)
_instret = partial(b.read_counter, base="minstret_base", inhibit=IR)
_set_cycle = partial(b.write_counter, base="mcycle_base", inhibit=CY)
_set_instret = partial(b.write_counter, base="minstret_base", inhibit=IR)

CSRS: tuple[Csr, ...] = (
    # -- unprivileged
    Csr(0x001, "fflags", "floating-point flags", b.read_fflags, b.write_fflags, b.fp_off, "F"),
    Csr(0x002, "frm", "rounding mode", field("frm"), b.write_frm, b.fp_off, "F"),
    Csr(0x003, "fcsr", "frm and fflags", b.read_fcsr, b.write_fcsr, b.fp_off, "F"),
    Csr(0xC00, "cycle", "mcycle", _cycle, denied=b.counter_denied, ext="Zicntr"),
    Csr(0xC01, "time", "mtime", lambda h: h.time(), denied=b.counter_denied, ext="Zicntr"),
    Csr(0xC02, "instret", "minstret", _instret, denied=b.counter_denied, ext="Zicntr"),
    Csr(0xC03, "hpmcounter{}", "always 0", ZERO, denied=b.counter_denied, ext="Zihpm", count=29, index=3),
    # -- supervisor
    Csr(
        0x100,
        "sstatus",
        "the part of mstatus that S may see",
        partial(b.read_status, fixed=UXL_64, bits=b.SSTATUS),
        partial(b.write_status, bits=b.SSTATUS),
    ),
    Csr(0x104, "sie", "mie, the delegated bits", lambda h: h.s.mie & h.s.mideleg, b.write_sie),
    Csr(0x105, "stvec", "trap handler", field("stvec"), partial(b.write_tvec, name="stvec")),
    Csr(0x106, "scounteren", "counters that U may read", field("scounteren"), warl("scounteren", b.COUNTEREN)),
    Csr(
        0x10A,
        "senvcfg",
        "environment of U",
        masked("senvcfg", b.senvcfg_bits),
        b.write_senvcfg,
        stateen_denies(0, STATEEN_ENVCFG),
    ),
    _stored(0x140, "sscratch", "for the trap handler"),
    Csr(0x141, "sepc", "pc of the trap", masked("sepc", b.epc_bits), warl("sepc", ~1)),
    _stored(0x142, "scause", "cause of the trap"),
    _stored(0x143, "stval", "bad address or instruction"),
    Csr(0x144, "sip", "mip, the delegated bits", lambda h: pending(h) & h.s.mideleg, b.write_sip),
    Csr(0x14D, "stimecmp", "timer compare", field("stimecmp"), b.write_stimecmp, b.stimecmp_denied, "Sstc"),
    Csr(0x180, "satp", "mode, ASID and root of translation", field("satp"), b.write_satp, b.tvm),
    Csr(0xDA0, "scountovf", "counter overflows: always 0", ZERO, ext="Sscofpmf"),
    # -- machine
    Csr(0xF11, "mvendorid", "0: not a commercial implementation", ZERO),
    Csr(0xF12, "marchid", "0: no number assigned", ZERO),
    Csr(0xF13, "mimpid", "0: not numbered", ZERO),
    Csr(0xF14, "mhartid", "number of this hart", field("hartid")),
    Csr(0xF15, "mconfigptr", "0: no configuration structure", ZERO),
    Csr(
        0x300,
        "mstatus",
        "status",
        partial(b.read_status, fixed=UXL_64 | SXL_64, bits=b.MSTATUS),
        partial(b.write_status, bits=b.MSTATUS),
    ),
    Csr(0x301, "misa", "base and extensions", constant(b.misa)),
    Csr(0x302, "medeleg", "exceptions that S handles", field("medeleg"), warl("medeleg", b.MEDELEG)),
    Csr(0x303, "mideleg", "interrupts that S handles", field("mideleg"), warl("mideleg", b.interrupt_bits)),
    Csr(0x304, "mie", "interrupts that are enabled", field("mie"), warl("mie", b.mie_bits)),
    Csr(0x305, "mtvec", "trap handler", field("mtvec"), partial(b.write_tvec, name="mtvec")),
    Csr(0x306, "mcounteren", "counters that S may read", field("mcounteren"), warl("mcounteren", b.COUNTEREN)),
    Csr(0x30A, "menvcfg", "environment of S and U", masked("menvcfg", b.menvcfg_bits), b.write_menvcfg),
    *_stateen(),
    Csr(0x320, "mcountinhibit", "counters that stand still", field("mcountinhibit"), b.write_inhibit),
    Csr(0x323, "mhpmevent{}", "always 0", ZERO, count=29, index=3),
    _stored(0x340, "mscratch", "for the trap handler"),
    Csr(0x341, "mepc", "pc of the trap", masked("mepc", b.epc_bits), warl("mepc", ~1)),
    _stored(0x342, "mcause", "cause of the trap"),
    _stored(0x343, "mtval", "bad address or instruction"),
    Csr(0x344, "mip", "interrupts that are pending", pending, b.write_mip),
    *_pmp(),
    Csr(0x7A0, "tselect", "0: there are no triggers", ZERO),
    Csr(0x7A1, "tdata{}", "0: there are no triggers", ZERO, count=3, index=1),
    Csr(0xB00, "mcycle", "cycles: one per instruction", _cycle, _set_cycle),
    Csr(0xB02, "minstret", "instructions retired", _instret, _set_instret),
    Csr(0xB03, "mhpmcounter{}", "always 0", ZERO, count=29, index=3),
)

CSR_NAMES: dict[int, str] = dict(pair for csr in CSRS for pair in csr.names())
"""Every CSR by number, whatever the ISA."""
CSR_NUMBERS: dict[str, int] = {name: number for number, name in CSR_NAMES.items()}
