"""Device-tree nodes as plain data, and the flattened blob (DTB) made from them.

Devices describe themselves with :class:`Node`; they refer to each other by label (:class:`Ref`), phandle numbers are
given out when the tree is flattened. Devicetree Specification v0.4, chapters 2 and 5; the encoding is the ``fdt``
package's (docs/design/0003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import fdt  # type: ignore[import-untyped]


class DeviceTreeError(ValueError):
    """A tree that can't be flattened, or a blob that is not a device tree. The message says what is wrong."""


@dataclass(frozen=True)
class Ref:
    """A cell that holds the phandle of the node with this label."""

    label: str


Cell = int | Ref
Property = None | int | Ref | str | bytes | list[Cell] | list[str]
"""None: present without a value. An int or Ref is one cell, a list of them cells, strings are NUL-terminated."""


@dataclass
class Node:
    """A node: ``name`` with its unit address, properties, children. ``label`` is what :class:`Ref` names."""

    name: str
    properties: dict[str, Property] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    label: str = ""

    def walk(self) -> Iterator[Node]:
        """This node and everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, path: str) -> Node | None:
        """The node at ``path`` ("soc/serial@10000000") below this one, or None."""
        node = self
        for part in path.strip("/").split("/") if path.strip("/") else []:
            for child in node.children:
                if child.name == part:
                    node = child
                    break
            else:
                return None
        return node


def cells64(*values: int) -> list[Cell]:
    """64-bit numbers as two cells each: what ``reg`` holds under #address-cells = #size-cells = 2."""
    cells: list[Cell] = []
    for value in values:
        cells += [value >> 32, value & 0xFFFF_FFFF]
    return cells


def flatten(root: Node) -> bytes:
    """The blob of the tree. Raises :class:`DeviceTreeError` on a Ref to nowhere or a doubled label."""
    phandles: dict[str, int] = {}
    for node in root.walk():
        if node.label:
            if node.label in phandles:
                raise DeviceTreeError(f"two device-tree nodes are labelled {node.label!r}")
            phandles[node.label] = len(phandles) + 1
    tree = fdt.FDT()
    tree.header.version = 17
    tree.header.last_comp_version = 16
    tree.header.boot_cpuid_phys = 0
    tree.root = _convert(root, phandles)
    blob: bytes = tree.to_dtb(version=17, last_comp_version=16, boot_cpuid_phys=0)
    return blob


def _convert(node: Node, phandles: dict[str, int]) -> fdt.Node:
    made = fdt.Node(node.name)
    for name, value in node.properties.items():
        made.append(_property(node, name, value, phandles))
    if node.label:
        made.append(fdt.PropWords("phandle", phandles[node.label]))
    for child in node.children:
        made.append(_convert(child, phandles))
    return made


def _property(node: Node, name: str, value: Property, phandles: dict[str, int]) -> fdt.Property:
    if value is None:
        return fdt.Property(name)
    if isinstance(value, bytes):
        return fdt.PropBytes(name, data=value)
    items = [value] if isinstance(value, int | str | Ref) else value
    strings = [item for item in items if isinstance(item, str)]
    if strings:  # as bytes: the package refuses empty strings, which the specification allows
        return fdt.PropBytes(name, data=b"".join(s.encode() + b"\0" for s in strings))
    cells = []
    for item in items:
        if isinstance(item, Ref):
            if item.label not in phandles:
                raise DeviceTreeError(f"{node.name}: {name} refers to {item.label!r}, which is no node of this tree")
            cells.append(phandles[item.label])
        elif isinstance(item, int):
            if not 0 <= item < 1 << 32:
                raise DeviceTreeError(f"{node.name}: {name}: {item:#x} does not fit a cell; use cells64()")
            cells.append(item)
    return fdt.PropWords(name, *cells)
