"""The floating-point instructions, written once for all formats; ``rv_f``, ``rv_d`` and ``rv_zfh`` instantiate them.

Unprivileged ISA manual, chapters "F", "D" and "Zfh": OP-FP, the four fused opcodes, LOAD-FP and STORE-FP.
"""

from __future__ import annotations

from mpemu.isa.fp import FORMATS, INTEGERS, Format, Integer, exact, read, require_fp, write
from mpemu.isa.hart import Hart, Operand
from mpemu.isa.registry import Body, insn

_OP_FP = "1010011"
_WIDTH = {"h": "001", "s": "010", "d": "011"}
"""funct3 of loads and stores."""
_MOVE = {"h": "h", "s": "w", "d": "d"}
"""What the format is called in fmv."""


def _define(name: str, pattern: str, asm: str, ext: str, doc: str, body: Body) -> None:
    body.__doc__ = doc
    insn(pattern, asm, ext=ext, name=name)(body)


def arithmetic(fmt: Format, ext: str) -> None:
    """fadd fsub fmul fdiv fsqrt, and the fused four."""
    f = fmt.name

    def binary(op: str, funct5: str) -> None:
        def body(h: Hart, fd: Operand, fs1: Operand, fs2: Operand, rm: Operand) -> None:
            require_fp(h, rm)
            write(h, fd, h.fp(op, f, read(h, fs1, fmt), read(h, fs2, fmt), rm=rm))

        pattern = f"{funct5}{fmt.code} fs2 fs1 rm fd {_OP_FP}"
        _define(f"f{op}.{f}", pattern, "{fd}, {fs1}, {fs2}, {rm}", ext, f"fd = fs1 {op} fs2, rounded.", body)

    def fused(name: str, opcode: str, negate_product: bool, negate_addend: bool, formula: str) -> None:
        def body(h: Hart, fd: Operand, fs1: Operand, fs2: Operand, fs3: Operand, rm: Operand) -> None:
            require_fp(h, rm)
            a, b, c = read(h, fs1, fmt), read(h, fs2, fmt), read(h, fs3, fmt)
            # Negating operands is exact, and a NaN's sign does not matter.
            a = a ^ fmt.sign if negate_product else a
            c = c ^ fmt.sign if negate_addend else c
            write(h, fd, h.fp("fma", f, a, b, c, rm=rm))

        pattern = f"fs3 {fmt.code} fs2 fs1 rm fd {opcode}"
        _define(f"{name}.{f}", pattern, "{fd}, {fs1}, {fs2}, {fs3}, {rm}", ext, f"{formula}, rounded once.", body)

    def fsqrt(h: Hart, fd: Operand, fs1: Operand, rm: Operand) -> None:
        require_fp(h, rm)
        write(h, fd, h.fp("sqrt", f, read(h, fs1, fmt), rm=rm))

    binary("add", "00000")
    binary("sub", "00001")
    binary("mul", "00010")
    binary("div", "00011")
    pattern = f"01011{fmt.code} 00000 fs1 rm fd {_OP_FP}"
    _define(f"fsqrt.{f}", pattern, "{fd}, {fs1}, {rm}", ext, "fd = square root of fs1, rounded.", fsqrt)
    fused("fmadd", "1000011", False, False, "fd = fs1 * fs2 + fs3")
    fused("fmsub", "1000111", False, True, "fd = fs1 * fs2 - fs3")
    fused("fnmsub", "1001011", True, False, "fd = -(fs1 * fs2) + fs3")
    fused("fnmadd", "1001111", True, True, "fd = -(fs1 * fs2) - fs3")


def sign_injection(fmt: Format, ext: str) -> None:
    """fsgnj fsgnjn fsgnjx: also fmv, fneg and fabs."""

    def define(name: str, funct3: str, doc: str) -> None:
        def body(h: Hart, fd: Operand, fs1: Operand, fs2: Operand) -> None:
            require_fp(h)
            a, b = read(h, fs1, fmt), read(h, fs2, fmt)
            match name:
                case "fsgnj":
                    result = (a & ~fmt.sign & fmt.mask) | (b & fmt.sign)
                case "fsgnjn":
                    result = (a & ~fmt.sign & fmt.mask) | (~b & fmt.sign)
                case _:
                    result = a ^ (b & fmt.sign)
            write(h, fd, result)

        pattern = f"00100{fmt.code} fs2 fs1 {funct3} fd {_OP_FP}"
        _define(f"{name}.{fmt.name}", pattern, "{fd}, {fs1}, {fs2}", ext, doc, body)

    define("fsgnj", "000", "fd = fs1 with the sign of fs2.")
    define("fsgnjn", "001", "fd = fs1 with the opposite of fs2's sign.")
    define("fsgnjx", "010", "fd = fs1, negated if fs2 is negative.")


def selection(fmt: Format, ext: str) -> None:
    """fmin fmax."""

    def define(op: str, funct3: str, doc: str) -> None:
        def body(h: Hart, fd: Operand, fs1: Operand, fs2: Operand) -> None:
            require_fp(h)
            write(h, fd, h.fp(op, fmt.name, read(h, fs1, fmt), read(h, fs2, fmt)))

        pattern = f"00101{fmt.code} fs2 fs1 {funct3} fd {_OP_FP}"
        _define(f"f{op}.{fmt.name}", pattern, "{fd}, {fs1}, {fs2}", ext, doc, body)

    define("min", "000", "fd = the smaller number of fs1 and fs2.")
    define("max", "001", "fd = the larger number of fs1 and fs2.")


def comparison(fmt: Format, ext: str) -> None:
    """feq flt fle fclass: results in integer registers."""

    def define(op: str, funct3: str, doc: str) -> None:
        def body(h: Hart, rd: Operand, fs1: Operand, fs2: Operand) -> None:
            require_fp(h)
            h.x[rd] = h.fp(op, fmt.name, read(h, fs1, fmt), read(h, fs2, fmt))
            h.fp_dirty()

        pattern = f"10100{fmt.code} fs2 fs1 {funct3} rd {_OP_FP}"
        _define(f"f{op}.{fmt.name}", pattern, "{rd}, {fs1}, {fs2}", ext, doc, body)

    def fclass(h: Hart, rd: Operand, fs1: Operand) -> None:
        require_fp(h)
        h.x[rd] = h.fp("class", fmt.name, read(h, fs1, fmt))

    define("eq", "010", "rd = 1 if fs1 equals fs2, else 0; only a signalling NaN is invalid.")
    define("lt", "001", "rd = 1 if fs1 is less than fs2, else 0; any NaN is invalid.")
    define("le", "000", "rd = 1 if fs1 is less than or equal to fs2, else 0; any NaN is invalid.")
    pattern = f"11100{fmt.code} 00000 fs1 001 rd {_OP_FP}"
    _define(f"fclass.{fmt.name}", pattern, "{rd}, {fs1}", ext, "rd = the bit of fs1's class.", fclass)


def integer_conversions(fmt: Format, ext: str) -> None:
    """fcvt between the format and the four integer types."""
    f = fmt.name

    def to_integer(integer: Integer) -> None:
        def body(h: Hart, rd: Operand, fs1: Operand, rm: Operand) -> None:
            require_fp(h, rm)
            # A 32-bit result is sign-extended, also an unsigned one.
            h.x[rd] = h.fp("cvt", f, read(h, fs1, fmt), rm=rm, to=integer.name).sext()
            h.fp_dirty()

        pattern = f"11000{fmt.code} {integer.code} fs1 rm rd {_OP_FP}"
        doc = "rd = fs1 as an integer, rounded and saturated."
        _define(f"fcvt.{integer.name}.{f}", pattern, "{rd}, {fs1}, {rm}", ext, doc, body)

    def from_integer(integer: Integer) -> None:
        def body(h: Hart, fd: Operand, rs1: Operand, rm: Operand) -> None:
            require_fp(h, rm)
            write(h, fd, h.fp("cvt", integer.name, h.x[rs1].lo(integer.width), rm=rm, to=f))

        pattern = f"11010{fmt.code} {integer.code} rs1 rm fd {_OP_FP}"
        asm = "{fd}, {rs1}" if exact(integer.name, f) else "{fd}, {rs1}, {rm}"
        _define(f"fcvt.{f}.{integer.name}", pattern, asm, ext, "fd = the integer in rs1, rounded.", body)

    for integer in INTEGERS.values():
        to_integer(integer)
        from_integer(integer)


def format_conversion(to: str, source: str, ext: str) -> None:
    """fcvt between two formats."""
    target, origin = FORMATS[to], FORMATS[source]

    def body(h: Hart, fd: Operand, fs1: Operand, rm: Operand) -> None:
        require_fp(h, rm)
        write(h, fd, h.fp("cvt", source, read(h, fs1, origin), rm=rm, to=to))

    pattern = f"01000{target.code} 000{origin.code} fs1 rm fd {_OP_FP}"
    asm = "{fd}, {fs1}" if exact(source, to) else "{fd}, {fs1}, {rm}"
    _define(f"fcvt.{to}.{source}", pattern, asm, ext, "fd = fs1 in the other format, rounded.", body)


def moves(fmt: Format, ext: str) -> None:
    """fmv between integer and floating-point registers: bits, whatever the boxing."""
    f = _MOVE[fmt.name]

    def to_integer(h: Hart, rd: Operand, fs1: Operand) -> None:
        require_fp(h)
        h.x[rd] = h.f[fs1].lo(fmt.width).sext()

    def from_integer(h: Hart, fd: Operand, rs1: Operand) -> None:
        require_fp(h)
        write(h, fd, h.x[rs1].lo(fmt.width))

    pattern = f"11100{fmt.code} 00000 fs1 000 rd {_OP_FP}"
    _define(f"fmv.x.{f}", pattern, "{rd}, {fs1}", ext, "rd = the bits of fs1, sign-extended.", to_integer)
    pattern = f"11110{fmt.code} 00000 rs1 000 fd {_OP_FP}"
    _define(f"fmv.{f}.x", pattern, "{fd}, {rs1}", ext, "fd = the low bits of rs1.", from_integer)


def memory(fmt: Format, ext: str) -> None:
    """Loads and stores: bits, whatever the boxing."""
    suffix = _MOVE[fmt.name]

    def load(h: Hart, fd: Operand, rs1: Operand, imm: Operand) -> None:
        require_fp(h)
        write(h, fd, h.load(h.x[rs1] + imm, fmt.width))

    def store(h: Hart, fs2: Operand, rs1: Operand, imm: Operand) -> None:
        require_fp(h)
        h.store(h.x[rs1] + imm, h.f[fs2].lo(fmt.width))

    pattern = f"imm[11:0] rs1 {_WIDTH[fmt.name]} fd 0000111"
    _define(f"fl{suffix}", pattern, "{fd}, {imm}({rs1})", ext, "fd = memory at rs1 + imm.", load)
    pattern = f"imm[11:5] fs2 rs1 {_WIDTH[fmt.name]} imm[4:0] 0100111"
    _define(f"fs{suffix}", pattern, "{fs2}, {imm}({rs1})", ext, "memory at rs1 + imm = fs2.", store)


def computation(fmt: Format, ext: str) -> None:
    """Everything that computes in one format."""
    arithmetic(fmt, ext)
    sign_injection(fmt, ext)
    selection(fmt, ext)
    comparison(fmt, ext)
    integer_conversions(fmt, ext)
