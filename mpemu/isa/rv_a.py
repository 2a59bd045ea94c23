"""Atomics: Zalrsc, Zaamo, Zacas, Zabha, and Zawrs which waits on a reservation.

Unprivileged ISA, chapters "A", "Zacas", "Zabha", "Zawrs". The encodings are a regular grid of operation (funct5) and
width (funct3), so the AMOs are registered from tables.
"""

from __future__ import annotations

from mpemu.isa.hart import Hart, Operand
from mpemu.isa.registry import insn
from mpemu.isa.value import Value

AMO = "{rd}, {rs2}, ({rs1})"

# (name, funct5, what it stores)
OPERATIONS = (
    ("swap", "00001", "swap"),
    ("add", "00000", "add"),
    ("xor", "00100", "exclusive or"),
    ("and", "01100", "and"),
    ("or", "01000", "or"),
    ("min", "10000", "signed minimum"),
    ("max", "10100", "signed maximum"),
    ("minu", "11000", "unsigned minimum"),
    ("maxu", "11100", "unsigned maximum"),
)
# (suffix, funct3, bits, noun, extension of the AMOs, extension of the compare-and-swap, which also needs Zacas)
WIDTHS = (
    ("b", "000", 8, "byte", "Zabha", "Zabha"),
    ("h", "001", 16, "halfword", "Zabha", "Zabha"),
    ("w", "010", 32, "word", "Zaamo", "Zacas"),
    ("d", "011", 64, "doubleword", "Zaamo", "Zacas"),
)


def define_amo(operation: str, width: int, pattern: str, name: str, ext: str, doc: str) -> None:
    def body(h: Hart, rd: Operand, rs1: Operand, rs2: Operand, aq: Operand, rl: Operand) -> None:
        h.x[rd] = h.amo(operation, h.x[rs1], h.x[rs2].lo(width), aq, rl).sext()

    body.__doc__ = doc
    insn(pattern, AMO, ext=ext, name=name)(body)


def define_cas(width: int, pattern: str, name: str, ext: str, doc: str) -> None:
    def body(h: Hart, rd: Operand, rs1: Operand, rs2: Operand, aq: Operand, rl: Operand) -> None:
        h.x[rd] = h.cas(h.x[rs1], h.x[rd].lo(width), h.x[rs2].lo(width), aq, rl).sext()

    body.__doc__ = doc
    insn(pattern, AMO, ext=ext, name=name)(body)


for suffix, funct3, bits, noun, amo_ext, cas_ext in WIDTHS:
    for operation, funct5, text in OPERATIONS:
        define_amo(
            operation,
            bits,
            f"{funct5} aq rl rs2 rs1 {funct3} rd 0101111",
            f"amo{operation}.{suffix}",
            amo_ext,
            f"Atomic {text}, {noun}; rd is the old value.",
        )
    define_cas(
        bits,
        f"00101 aq rl rs2 rs1 {funct3} rd 0101111",
        f"amocas.{suffix}",
        cas_ext,
        f"Atomic compare-and-swap, {noun}: rs2 is stored if memory equals rd; rd is the old value.",
    )


def is_pair(index: Operand) -> Value:
    """1 bit: ``index`` is not x0, whose pair is zero and ignores writes. A back end may write x0 as x32, its sink."""
    return Value(int(index != 0), 1) if isinstance(index, int) else (index & 31) != 0


def read_pair(h: Hart, index: Operand) -> Value:
    return is_pair(index).mux(h.x[index | 1].zext(128) << 64 | h.x[index].zext(128), 0)


@insn("00101 aq rl rs2[4:1] 0 rs1 100 rd[4:1] 0 0101111", AMO, ext="Zacas", name="amocas.q")
def amocas_q(h: Hart, rd: Operand, rs1: Operand, rs2: Operand, aq: Operand, rl: Operand) -> None:
    """Atomic compare-and-swap, quadword, in pairs of registers; an odd register is reserved."""
    old = h.cas(h.x[rs1], read_pair(h, rd), read_pair(h, rs2), aq, rl)
    with h.when(is_pair(rd)):
        h.x[rd] = old.lo(64)
        h.x[rd | 1] = old.bits(127, 64)


@insn("00010 aq rl 00000 rs1 010 rd 0101111", "{rd}, ({rs1})", ext="Zalrsc")
def lr_w(h: Hart, rd: Operand, rs1: Operand, aq: Operand, rl: Operand) -> None:
    """Load reserved, word."""
    h.x[rd] = h.load_reserved(h.x[rs1], 32, aq, rl).sext()


@insn("00010 aq rl 00000 rs1 011 rd 0101111", "{rd}, ({rs1})", ext="Zalrsc")
def lr_d(h: Hart, rd: Operand, rs1: Operand, aq: Operand, rl: Operand) -> None:
    """Load reserved, doubleword."""
    h.x[rd] = h.load_reserved(h.x[rs1], 64, aq, rl)


@insn("00011 aq rl rs2 rs1 010 rd 0101111", AMO, ext="Zalrsc")
def sc_w(h: Hart, rd: Operand, rs1: Operand, rs2: Operand, aq: Operand, rl: Operand) -> None:
    """Store conditional, word; rd is 0 on success."""
    h.x[rd] = h.store_conditional(h.x[rs1], h.x[rs2].lo(32), aq, rl)


@insn("00011 aq rl rs2 rs1 011 rd 0101111", AMO, ext="Zalrsc")
def sc_d(h: Hart, rd: Operand, rs1: Operand, rs2: Operand, aq: Operand, rl: Operand) -> None:
    """Store conditional, doubleword; rd is 0 on success."""
    h.x[rd] = h.store_conditional(h.x[rs1], h.x[rs2], aq, rl)


# WRS may complete at any time and here always does within a bounded one, so mstatus.TW never makes WRS.NTO trap.


@insn("0000000 01101 00000 000 00000 1110011", ext="Zawrs")
def wrs_nto(h: Hart) -> None:
    """Wait until the reservation set may have been written or an interrupt is pending."""
    h.wait_on_reservation(short=False)


@insn("0000000 11101 00000 000 00000 1110011", ext="Zawrs")
def wrs_sto(h: Hart) -> None:
    """The same with a short timeout."""
    h.wait_on_reservation(short=True)
