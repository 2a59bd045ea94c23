"""What is host-specific is in one file per architecture, and every one has all of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import capstone
import pytest

import mpemu.codegen
from mpemu import fence
from mpemu.codegen import host_aarch64, host_x86_64
from mpemu.codegen.compiler import compile_object
from mpemu.codegen.handlers import fence_orders
from mpemu.codegen.host import Host
from mpemu.codegen.ir import Builder, Module
from mpemu.errors import HostError
from tests.codegen.disassembled import Disassembly

SPECIFIC = re.compile(
    r"(?i:x86|amd64|aarch64|arm64|\basm\b|mxcsr|fpcr|fpsr|mfence|\bdmb\b|\bisb\b|\bsse|\bavx|\bcx16\b|\bneon\b|\blse\b)"
    r"|\bR_[A-Z0-9]+_|rdtsc|syscall"
)
CHOICE = "host.py"
"""Where the architecture is chosen by its name."""


@pytest.mark.parametrize("path", sorted(Path(mpemu.codegen.__file__).parent.glob("*.py")), ids=lambda p: p.name)
def test_generic_files_know_no_host(path: Path) -> None:
    if path.name != CHOICE and not path.name.startswith("host_"):
        found = [line for line in path.read_text().splitlines() if SPECIFIC.search(line)]
        assert found == []


@pytest.mark.parametrize("host", [host_x86_64, host_aarch64])
def test_every_host_has_all_names(host: Host) -> None:
    for name, member in vars(Host).items():
        if not name.startswith("_"):
            mine = getattr(host, name)
            if inspect.isfunction(member):
                wanted = [p for p in inspect.signature(member).parameters if p != "self"]
                assert list(inspect.signature(mine).parameters) == wanted, name


# -- FENCE: the architectures' instructions for every set of orders
FULL, LOADS, STORES = "dmb ish", "dmb ishld", "dmb ishst"
I, O, R, W = 8, 4, 2, 1  # noqa: E741


def expected(host: Host, before: int, behind: int, fm: int) -> list[str]:
    """By what the fields mean; device input counts as loads, device output as stores."""
    stores_then_loads = before & (O | W) and behind & (I | R) and fm != 8
    if host is host_x86_64:
        return ["fence"] if stores_then_loads else []
    if stores_then_loads:
        return [FULL]
    first = [LOADS] if before & (I | R) and behind else []
    return first + ([STORES] if before & (O | W) and behind & (O | W) else [])


@pytest.mark.parametrize("host", [host_x86_64, host_aarch64])
def test_fence_is_exactly_what_it_asks_for(host: Host) -> None:
    module, cases = Module(host), [(p, s, 0) for p in range(16) for s in range(16)] + [(3, 3, 8)]
    for p, s, fm in cases:
        b = Builder(module, f"dso_local void @fence_{p}_{s}_{fm}()")
        host.guest_fence(b, *fence_orders(p, s, fm))
        b.terminate("ret void")
        module.define(b)
    code = Disassembly(compile_object(module.text(), host))
    for case in cases:
        *fences, last = code.function("fence_{}_{}_{}".format(*case))
        if host is host_x86_64:  # either will do, LLVM knows which is faster
            fences = [re.sub(r"^(mfence|lock or .*rsp.*)$", "fence", line) for line in fences]
        assert last.startswith("ret") and fences == expected(host, *case), case


# -- fences of Python code
def test_python_has_fences_where_mpemu_runs() -> None:
    fence.full_fence()
    fence.order_fence()
    with pytest.raises(HostError, match="this one is sparc64: it has no fences for it"):
        fence.fences("sparc64")


def test_the_fence_of_aarch64_is_one() -> None:
    words = b"".join(word.to_bytes(4, "little") for word in (fence._DMB_ISH, fence._RET))
    listing = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM).disasm(words, 0)
    assert [f"{i.mnemonic} {i.op_str}".strip() for i in listing] == ["dmb ish", "ret"]
