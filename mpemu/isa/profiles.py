"""What a hart implements: ISA strings and profile names, read into a set of extensions.

Naming and order: unprivileged ISA, chapter "ISA Extension Naming Conventions"; profiles: "RISC-V Profiles" 1.0 (RVA20,
RVA22). Extension names here are what ``ext=`` of the instruction table and ``h.isa.has()`` of bodies use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from mpemu.isa import csr_behaviour

EXTENSIONS: dict[str, str] = {
    "I": "base integer instructions",
    "M": "multiplication and division",
    "A": "atomics: Zaamo and Zalrsc",
    "F": "single-precision floating point",
    "D": "double-precision floating point",
    "C": "compressed instructions",
    "B": "bit manipulation: Zba, Zbb and Zbs",
    "S": "supervisor mode",
    "U": "user mode",
    "Zicbom": "cache-block management",
    "Zicbop": "cache-block prefetch hints",
    "Zicboz": "cache-block zero",
    "Zicntr": "cycle, time and instret counters",
    "Zicond": "conditional zero",
    "Zicsr": "CSR instructions",
    "Zifencei": "instruction-fetch fence",
    "Zihintntl": "non-temporal locality hints",
    "Zihintpause": "pause hint",
    "Zihpm": "hardware performance counters",
    "Zaamo": "atomic memory operations",
    "Zabha": "byte and halfword atomic memory operations",
    "Zacas": "atomic compare-and-swap",
    "Zalrsc": "load-reserved and store-conditional",
    "Zawrs": "wait on reservation set",
    "Zfh": "half-precision floating point",
    "Zfhmin": "half-precision loads, stores and conversions",
    "Zcb": "more compressed instructions",
    "Zba": "address generation",
    "Zbb": "basic bit manipulation",
    "Zbc": "carry-less multiplication",
    "Zbs": "single-bit instructions",
    "Smstateen": "state enable",
    "Sscofpmf": "counter overflow and privilege filtering",
    "Sstc": "supervisor timer compare",
    "Sv39": "39-bit virtual addresses",
    "Sv48": "48-bit virtual addresses",
    "Sv57": "57-bit virtual addresses",
    "Svade": "page fault where A or D must be set",
    "Svadu": "hardware updates of A and D",
    "Svinval": "fine-grained translation invalidation",
    "Svnapot": "64 KiB naturally aligned pages",
    "Svpbmt": "page-based memory types",
}
"""Every extension that can be selected, in no order but a readable one."""

IMPLIES: dict[str, tuple[str, ...]] = {
    "A": ("Zaamo", "Zalrsc"),
    "B": ("Zba", "Zbb", "Zbs"),
    "D": ("F",),
    "F": ("Zicsr",),
    "G": ("I", "M", "A", "F", "D", "Zicsr", "Zifencei"),
    "Sv48": ("Sv39",),
    "Sv57": ("Sv48",),
    "Zabha": ("Zaamo",),
    "Zacas": ("Zaamo",),
    "Zawrs": ("Zalrsc",),
    "Zcb": ("C",),
    "Zfh": ("Zfhmin",),
    "Zfhmin": ("F",),
    "Zicntr": ("Zicsr",),
    "Zihpm": ("Zicsr",),
}

ALWAYS = ("I", "S", "U", "Zicsr", "Zicntr", "Sv39")
"""What no selection can take away: three modes, paging, and the counters that ``rv64gc`` has silently always had."""

PAGING = ("Sv57", "Sv48", "Sv39")
"""Paging modes, largest first. ISA strings seldom name one: then the hart has all; ``rv64gc_sv39`` limits it."""

_RVA20 = "rv64gc_zicntr_svade_sv39"
_RVA22 = f"{_RVA20}_zihpm_zihintpause_zba_zbb_zbs_zicbom_zicbop_zicboz_zfhmin_svpbmt_svinval"
PROFILES: dict[str, str] = {
    "rva20s64": _RVA20,
    "rva22s64": _RVA22,
    "max": "rv64imafdcb_" + "_".join(name.lower() for name in EXTENSIONS if len(name) > 1),
}
"""Profile names: the mandatory extensions, or everything. ``rva22s64_sstc_sv57`` adds to one.

RVA22's Zkt (instructions whose timing does not depend on data) is not promised: timing is the host's.
"""

_BY_LOWER = {name.lower(): name for name in (*EXTENSIONS, "G")}
_SINGLE_ORDER = "imafdc"
_CATEGORY_ORDER = "imafdcb"  # Z extensions by their second letter
_VERSION = re.compile(r"(?<=[a-z])\d+p\d+$")


class IsaError(ValueError):
    """An ISA string that names something unknown or not implemented; the message says what would be valid."""


@dataclass(frozen=True)
class IsaSpec:
    """The extensions of a hart: a value, hashable, equal if the extensions are."""

    extensions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> IsaSpec:
        """Read ``rv64imac_zba_zbb``, ``rv64gc``, a profile name or ``max``, in any case; or raise :class:`IsaError`."""
        words = text.strip().lower().split("_")
        if words[0] in PROFILES:
            words = PROFILES[words[0]].split("_") + words[1:]
        base = re.match(r"rv(\d+)(.*)$", words[0])
        if not base:
            near = _nearest(words[0], PROFILES)
            raise IsaError(f"{text!r} is neither an ISA string (rv64...) nor one of {', '.join(PROFILES)}{near}")
        if base[1] != "64":
            raise IsaError(f"{text!r}: harts have 64 bits: write rv64{base[2]}")
        if base[2][:1] not in ("i", "g"):
            raise IsaError(f"{text!r}: the base must be I or G, as in rv64i or rv64gc")
        words = [*_split_base(base[2]), *words[1:]]
        names = {_lookup(_VERSION.sub("", word), text) for word in words if word}
        if not names.intersection(PAGING):
            names.add(PAGING[0])
        return cls(_closure({*names, *ALWAYS}))

    def has(self, extension: str) -> bool:
        return extension in self.extensions

    @cached_property
    def misa(self) -> int:
        return csr_behaviour.misa(self)

    @cached_property
    def extensions_list(self) -> list[str]:
        """Lower-case names in canonical order, for the device tree's ``riscv,isa-extensions``.

        Modes and virtual-memory sizes are not listed (they are in ``mmu-type``), nor what a listed name stands for.
        """
        letters = [c for c in _SINGLE_ORDER if c.upper() in self.extensions]
        shorthand = {"B", *(IMPLIES["A"] if "A" in self.extensions else ())}
        names = [e for e in self.extensions if len(e) > 1 and e not in shorthand and not re.match(r"Sv\d", e)]
        return letters + sorted((e.lower() for e in names), key=_canonical)

    @cached_property
    def isa_string(self) -> str:
        """The device tree's ``riscv,isa``."""
        names = self.extensions_list
        letters = "".join(n for n in names if len(n) == 1)
        return "_".join([f"rv64{letters}", *(n for n in names if len(n) > 1)])

    @property
    def paging(self) -> str:
        """The largest paging mode: ``sv39``, ``sv48`` or ``sv57`` (the device tree's ``mmu-type``)."""
        return next(mode.lower() for mode in PAGING if mode in self.extensions)

    def __str__(self) -> str:
        """Everything; :meth:`parse` reads it back."""
        return f"{self.isa_string}_{self.paging}"


def _split_base(letters: str) -> list[str]:
    """``imafdc`` to letters; from the first z or s on it is one multi-letter name (``rv64gczba`` is allowed)."""
    match = re.match(r"((?:[a-rt-y](?:\d+p\d+)?)*)(.*)$", letters)
    assert match
    return [*re.findall(r"[a-z](?:\d+p\d+)?", match[1]), match[2]]


def _lookup(word: str, text: str) -> str:
    if word in _BY_LOWER:
        return _BY_LOWER[word]
    known = f"; known: {' '.join(sorted(_BY_LOWER, key=_canonical))}"
    near = _nearest(word, [name for name in _BY_LOWER if len(name) > 1])
    raise IsaError(f"{text!r}: {word!r} is not an extension that mpemu implements{near or known}")


def _nearest(word: str, names: Iterable[str]) -> str:
    """A suggestion to append to a message, or nothing."""
    near = difflib.get_close_matches(word, names, 1, 0.6) if len(word) > 1 else []
    return f"; did you mean {near[0]}?" if near else ""


def _closure(names: set[str]) -> frozenset[str]:
    """With everything implied; B is present exactly if its parts are, as misa says it; G is only a shorthand."""
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(IMPLIES.get(name, ()))
    for letter in ("A", "B"):
        if found.issuperset(IMPLIES[letter]):
            found.add(letter)
    return frozenset(found - {"G"})


def _canonical(name: str) -> tuple[int, int, str]:
    """Sort key: single letters, then Z by category letter, then S; alphabetical within."""
    if len(name) == 1:
        return 0, _CATEGORY_ORDER.find(name), name
    return (1, _CATEGORY_ORDER.find(name[1]), name) if name[0] == "z" else (2, 0, name)
