"""How CSRs read and what writing them does: the functions that ``isa/csr_table.py`` names.

Privileged spec 1.13, the section of each register; Sstc, Smstateen, Sscofpmf; Zicsr and the counters of the
unprivileged spec. A write gets ``value`` and ``mask``, the bits that the instruction names: all ones for CSRRW, the
operand's bits for CSRRS (value: all ones) and CSRRC (value: 0). Bits that are not named are not written, not even with
what was read: another hart may set one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from mpemu.isa.hart import Hart, Isa
from mpemu.isa.privileged import (
    ADUE,
    ALL,
    CBCFE,
    CBIE,
    CBIE_RESERVED,
    CBZE,
    CY,
    FIOM,
    FS,
    IR,
    LCOFIP,
    MEIP,
    MIE,
    MPIE,
    MPP,
    MPRV,
    MSIP,
    MTIP,
    MXR,
    PBMTE,
    SATP_BARE,
    SATP_MODE_SHIFT,
    SATP_SV39,
    SATP_SV48,
    SATP_SV57,
    SD_SHIFT,
    SEIP,
    SIE,
    SPIE,
    SPP,
    SSIP,
    STCE,
    STCE_SHIFT,
    STIP,
    SUM,
    TM,
    TSR,
    TVM,
    TW,
    Irq,
    Mode,
)
from mpemu.isa.value import Value

Read = Callable[[Hart], Value]
Write = Callable[[Hart, Value, Value], None]
Denied = Callable[[Hart, Value], Value]
Mask = int | Callable[[Isa], int]


def merge(old: Value, value: Value, mask: Value) -> Value:
    """``old`` with the bits of ``mask`` from ``value``."""
    return (old & ~mask) | (value & mask)


# -- ways to read and write


def constant(value: Mask) -> Read:
    return lambda h: Value(value if isinstance(value, int) else value(h.isa), 64)


ZERO = constant(0)


def field(name: str) -> Read:
    return masked(name, ALL)


def masked(name: str, visible: Mask) -> Read:
    """A field of which only the ``visible`` bits are seen."""

    def read(h: Hart) -> Value:
        value: Value = getattr(h.s, name)
        return value & (visible if isinstance(visible, int) else visible(h.isa))

    return read


def warl(name: str, writable: Mask = ALL) -> Write:
    """Write the ``writable`` bits of a field; the others keep what they are."""

    def write(h: Hart, value: Value, mask: Value) -> None:
        bits = writable if isinstance(writable, int) else writable(h.isa)
        setattr(h.s, name, merge(getattr(h.s, name), value, mask & bits))

    return write


def _present(isa: Isa, bits: dict[str, int]) -> int:
    """The bits whose extension the hart has."""
    return sum(bit for ext, bit in bits.items() if isa.has(ext))


# -- mstatus, sstatus

SSTATUS = SIE | SPIE | SPP | FS | SUM | MXR
MSTATUS = SSTATUS | MIE | MPIE | MPP | MPRV | TVM | TW | TSR


def status_bits(isa: Isa, bits: int) -> int:
    return bits if isa.has("F") else bits & ~FS


def read_status(h: Hart, fixed: int, bits: int) -> Value:
    status = h.s.mstatus & status_bits(h.isa, bits)
    dirty = ((status & FS) == FS).zext() << SD_SHIFT
    return status | dirty | fixed


def write_status(h: Hart, value: Value, mask: Value, bits: int) -> None:
    """MPP can't become 2, which is no mode: a write of it leaves MPP."""
    old = h.s.mstatus
    new = merge(old, value, mask & status_bits(h.isa, bits))
    reserved = (new & MPP) == 2 << 11
    h.s.mstatus = reserved.mux((new & ~MPP) | (old & MPP), new)


# -- trap setup and handling


def interrupt_bits(isa: Isa) -> int:
    return SSIP | STIP | SEIP | (LCOFIP if isa.has("Sscofpmf") else 0)


def mie_bits(isa: Isa) -> int:
    return interrupt_bits(isa) | MSIP | MTIP | MEIP


MEDELEG = 0xB3FF
"""All exceptions that can come from below M: not bit 11, the environment call from M."""


def write_tvec(h: Hart, value: Value, mask: Value, name: str) -> None:
    """Direct and vectored; a reserved mode leaves the register alone."""
    old: Value = getattr(h.s, name)
    new = merge(old, value, mask)
    setattr(h.s, name, ((new & 3).leu(1)).mux(new, old))


def epc_bits(isa: Isa) -> int:
    """What is seen of xepc: without C, bit 1 reads as 0 and stays stored."""
    return ALL & ~(1 if isa.has("C") else 3)


def write_mip(h: Hart, value: Value, mask: Value) -> None:
    """STIP belongs to stimecmp while menvcfg.STCE is set; MSIP, MTIP and MEIP are lines."""
    software = SEIP | (interrupt_bits(h.isa) & LCOFIP)
    timer = (~(h.s.menvcfg >> STCE_SHIFT) & 1) << Irq.STI
    h.s.mip = merge(h.s.mip, value, mask & (timer | software))
    write_ssip(h, value, mask)


def write_sip(h: Hart, value: Value, mask: Value) -> None:
    named = mask & h.s.mideleg
    h.s.mip = merge(h.s.mip, value, named & LCOFIP)
    write_ssip(h, value, named)


def write_ssip(h: Hart, value: Value, mask: Value) -> None:
    with h.when((mask & SSIP) != 0):
        h.set_ssip(value.bit(Irq.SSI))


def write_sie(h: Hart, value: Value, mask: Value) -> None:
    h.s.mie = merge(h.s.mie, value, mask & h.s.mideleg)


# -- configuration of less privileged modes


def senvcfg_bits(isa: Isa) -> int:
    return FIOM | _present(isa, {"Zicbom": CBIE | CBCFE, "Zicboz": CBZE})


def menvcfg_bits(isa: Isa) -> int:
    return senvcfg_bits(isa) | _present(isa, {"Svadu": ADUE, "Svpbmt": PBMTE, "Sstc": STCE})


def _merge_envcfg(old: Value, value: Value, mask: Value) -> Value:
    """The reserved value of CBIE leaves CBIE."""
    new = merge(old, value, mask)
    return ((new & CBIE) == CBIE_RESERVED).mux((new & ~CBIE) | (old & CBIE), new)


def write_menvcfg(h: Hart, value: Value, mask: Value) -> None:
    old = h.s.menvcfg
    new = _merge_envcfg(old, value, mask & menvcfg_bits(h.isa))
    h.s.menvcfg = new
    with h.when(((old ^ new) & STCE) != 0):
        h.s.mip = h.s.mip & ~STIP  # from here on, or no more, the bit is stimecmp's
        h.timer_changed()


def write_senvcfg(h: Hart, value: Value, mask: Value) -> None:
    h.s.senvcfg = _merge_envcfg(h.s.senvcfg, value, mask & senvcfg_bits(h.isa))


def stateen_denies(register: int, bit: int) -> Denied:
    """Smstateen: access from below M needs a bit of mstateen."""

    def denied(h: Hart, number: Value) -> Value:
        if not h.isa.has("Smstateen"):
            return Value(0, 1)
        enabled: Value = getattr(h.s, f"mstateen{register}") & bit
        return (h.s.priv != Mode.M) & (enabled == 0)

    return denied


# -- translation


def write_satp(h: Hart, value: Value, mask: Value) -> None:
    """An unsupported mode makes the whole write ineffective. The TLB has no ASIDs: it is flushed on a change."""
    old = h.s.satp
    new = merge(old, value, mask)
    mode = new >> SATP_MODE_SHIFT
    legal = (mode == SATP_BARE) | (mode == SATP_SV39)
    if h.isa.has("Sv48") or h.isa.has("Sv57"):
        legal = legal | (mode == SATP_SV48)
    if h.isa.has("Sv57"):
        legal = legal | (mode == SATP_SV57)
    with h.when(legal & (new != old)):
        h.s.satp = new
        h.flush_tlb()


def tvm(h: Hart, number: Value) -> Value:
    return (h.s.priv == Mode.S) & ((h.s.mstatus & TVM) != 0)


# -- counters: mcycle and minstret are instret() plus a base, or the base alone while they are inhibited


def _counting(h: Hart, inhibit: int) -> Value:
    """All ones while the counter counts, else 0."""
    return ((h.s.mcountinhibit & inhibit) == 0).sext()


def read_counter(h: Hart, base: str, inhibit: int) -> Value:
    start: Value = getattr(h.s, base)
    return start + (h.instret() & _counting(h, inhibit))


def write_counter(h: Hart, value: Value, mask: Value, base: str, inhibit: int) -> None:
    """The instruction behind the write reads what was written: the writer itself does not count (Zicsr)."""
    new = merge(read_counter(h, base, inhibit), value, mask)
    setattr(h.s, base, new - ((h.instret() + 1) & _counting(h, inhibit)))


def write_inhibit(h: Hart, value: Value, mask: Value) -> None:
    """Stopping a counter keeps its value in the base, starting takes it from there."""
    old = h.s.mcountinhibit
    new = merge(old, value, mask & (CY | IR))
    now = h.instret() + 1
    for base, inhibit in (("mcycle_base", CY), ("minstret_base", IR)):
        stopped, stops = (old & inhibit) != 0, (new & inhibit) != 0
        count: Value = getattr(h.s, base)
        setattr(h.s, base, count + (stops & ~stopped).mux(now, 0) - (stopped & ~stops).mux(now, 0))
    h.s.mcountinhibit = new


COUNTEREN = (1 << 32) - 1
"""mcounteren and scounteren: a bit for each counter, hpmcounters included."""


def counter_denied(h: Hart, number: Value) -> Value:
    """Below M mcounteren must allow it, in U scounteren too. The bit is the number's low five."""
    bit = number & 31
    machine = ((h.s.mcounteren >> bit) & 1) == 0
    supervisor = ((h.s.scounteren >> bit) & 1) == 0
    return ((h.s.priv != Mode.M) & machine) | ((h.s.priv == Mode.U) & supervisor)


def stimecmp_denied(h: Hart, number: Value) -> Value:
    allowed = ((h.s.menvcfg & STCE) != 0) & ((h.s.mcounteren & TM) != 0)
    return (h.s.priv != Mode.M) & ~allowed


def write_stimecmp(h: Hart, value: Value, mask: Value) -> None:
    h.s.stimecmp = merge(h.s.stimecmp, value, mask)
    h.timer_changed()


# -- floating point


def fp_off(h: Hart, number: Value) -> Value:
    return (h.s.mstatus & FS) == 0


def read_fcsr(h: Hart) -> Value:
    return (h.s.frm << 5) | h.fp_flags().zext()


def read_fflags(h: Hart) -> Value:
    return h.fp_flags().zext()


def write_fcsr(h: Hart, value: Value, mask: Value) -> None:
    """frm in bits 7..5, fflags below. Makes FS dirty."""
    new = merge(read_fcsr(h), value, mask & 0xFF)
    with h.when((mask & 0x1F) != 0):
        h.set_fp_flags(new & 0x1F)
    with h.when((mask & 0xE0) != 0):
        h.s.frm = new >> 5
        h.set_fp_rounding(new >> 5)
    h.fp_dirty()


def write_fflags(h: Hart, value: Value, mask: Value) -> None:
    write_fcsr(h, value, mask & 0x1F)


def write_frm(h: Hart, value: Value, mask: Value) -> None:
    write_fcsr(h, value << 5, (mask & 7) << 5)


# -- identification


def misa(isa: Isa) -> int:
    """RV64 with the letters of the extensions. Read-only: extensions can't be switched off."""
    letters = [letter for letter in "ABCDFIM" if isa.has(letter)] + ["S", "U"]
    return 2 << 62 | sum(1 << (ord(letter) - ord("A")) for letter in letters)
