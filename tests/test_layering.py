"""Who may import whom: downwards only. The layers are those of ARCHITECTURE.md, bottom first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mpemu"

LAYERS: list[set[str]] = [
    {"isa"},
    {
        "addresses", "channel", "codecache", "codecache_upkeep", "devicetree", "errors",
        "fence", "layout", "loop", "memory", "messages", "notifier",
        "paths", "private_file", "ring", "shm", "spin", "timerfd", "timers", "unit", "walk",
        "workers", "runstate",
    },
    {"boot", "codegen", "devices", "guests", "vcpu"},
    {"report", "statistics", "config_source", "config_errors", "config", "schema"},
    {"board", "machine"},
    {"symbols"},
    {"assembly", "fetch", "profile", "stats_view"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
"""Modules and packages directly under mpemu. Within a layer anything goes, but cycles."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(("mpemu", *(part for part in parts if part != "__init__"))), path


def imports(path: Path) -> set[str]:
    """Every module that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
    return found


def part(module: str) -> str:
    """``mpemu.isa.csr`` belongs to ``isa``; ``mpemu`` itself to nothing."""
    return f"{module}.".split(".")[1] if module.startswith("mpemu.") else ""


KNOWN = set().union(*LAYERS)
ALL = dict(modules())


def test_every_part_has_a_layer() -> None:
    assert {part(name) for name in ALL} - {""} <= KNOWN, "name the new part in LAYERS"


@pytest.mark.parametrize("name", ALL)
def test_imports_go_downwards(name: str) -> None:
    level = {piece: number for number, layer in enumerate(LAYERS) for piece in layer}
    mine = part(name)
    for other in imports(ALL[name]):
        theirs = part(other)
        if theirs in level and theirs != mine and mine:
            assert level[theirs] <= level[mine], f"{name} imports {other}, which lies above it"


def test_isa_is_pure() -> None:
    """The instruction definitions import nothing else of mpemu, and nothing but the standard library."""
    import sys

    for name, path in ALL.items():
        if part(name) == "isa":
            for other in imports(path):
                first = other.split(".")[0]
                assert part(other) == "isa" if first == "mpemu" and "." in other else True, f"{name} imports {other}"
                assert first == "mpemu" or first in sys.stdlib_module_names, f"{name} imports {other}"


def test_only_codegen_imports_llvmlite() -> None:
    users = {part(name) for name, path in ALL.items() if any(i.split(".")[0] == "llvmlite" for i in imports(path))}
    assert users <= {"codegen"}


def test_nobody_imports_codegen_but_its_own_process() -> None:
    """It is started as `python -m mpemu.codegen.build`; a vCPU or the coordinator never loads LLVM."""
    users = {part(name) for name, path in ALL.items() if any(part(i) == "codegen" for i in imports(path))}
    assert users <= {"codegen"}


def test_no_cycles_between_parts() -> None:
    graph: dict[str, set[str]] = {piece: set() for piece in KNOWN}
    for name, path in ALL.items():
        if part(name):
            graph[part(name)] |= {part(other) for other in imports(path)} - {part(name), ""}
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, f"imports go around: {' -> '.join((*trail, node))}"
        if node not in done:
            for following in sorted(graph.get(node, ())):
                visit(following, (*trail, node))
            done.add(node)

    for piece in sorted(graph):
        visit(piece, ())
