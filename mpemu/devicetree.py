"""Device-tree nodes as plain data, and the flattened blob (DTB) made from them.

Devices describe themselves with :class:`Node`; they refer to each other by label (:class:`Ref`), phandle numbers are
given out when the tree is flattened. Devicetree Specification v0.4, chapters 2 and 5; the encoding is the ``fdt``
package's (docs/design/0003).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import fdt  # type: ignore[import-untyped]


class DeviceTreeError(ValueError):
    """A tree that can't be flattened, or a blob that is not a device tree. The message says what is wrong."""


@dataclass(frozen=True)
class Ref:
    """A cell that holds the phandle of the node with this label."""

    label: str


PLIC_LABEL = "plic"
SYSCON_LABEL = "test"
"""The device that powers off and reboots (sifive-test)."""

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


def hart_label(hart: int) -> str:
    """The label of a hart's interrupt controller, for ``interrupts-extended`` of devices."""
    return f"hart{hart}_interrupts"


Reservation = tuple[int, int]
"""(address, bytes) of memory that the guest must leave alone."""


def flatten(root: Node, reservations: Iterable[Reservation] = ()) -> bytes:
    """The blob of the tree. Raises :class:`DeviceTreeError` on a Ref to nowhere or a doubled label."""
    phandles: dict[str, int] = {}
    for node in root.walk():
        if node.label:
            if node.label in phandles:
                raise DeviceTreeError(f"two device-tree nodes are labelled {node.label!r}")
            phandles[node.label] = len(phandles) + 1
    # Always a list of our own: the package's default is one list that all its trees share.
    tree = fdt.FDT(entries=[{"address": address, "size": size} for address, size in reservations])
    tree.header.version = 17
    tree.header.last_comp_version = 16
    tree.header.boot_cpuid_phys = 0
    tree.root = _convert(root, phandles)
    blob: bytes = tree.to_dtb(version=17, last_comp_version=16, boot_cpuid_phys=0)
    return blob


MAGIC = 0xD00DFEED
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP = 1, 2, 3, 4
_DEEPEST = 64


def parse(blob: bytes) -> tuple[Node, list[Reservation]]:
    """The tree in a blob, all values as bytes. Raises :class:`DeviceTreeError` whatever is wrong with it."""
    try:
        magic, total, structure, strings, reserved, version, compatible = struct.unpack_from(">7I", blob)
        if magic != MAGIC:
            raise DeviceTreeError("not a flattened device tree; dtc -O dtb makes one of a source")
        if total > len(blob):
            raise DeviceTreeError(f"the device tree says it has {total} bytes, there are {len(blob)}")
        if version < 17 or compatible > 17:
            raise DeviceTreeError(f"device tree format {version} is not supported, only 17 is")
        blob = blob[:total]
        return _parse_nodes(blob, structure, strings), _parse_reservations(blob, reserved)
    except DeviceTreeError:
        raise
    except (struct.error, ValueError) as error:
        raise DeviceTreeError("the device tree is damaged: its blocks do not lie within it") from error


def _parse_reservations(blob: bytes, position: int) -> list[Reservation]:
    found: list[Reservation] = []
    while (entry := struct.unpack_from(">QQ", blob, position)) != (0, 0):
        found.append(entry)
        position += 16
    return found


def _parse_nodes(blob: bytes, position: int, strings: int) -> Node:
    open_nodes: list[Node] = []
    while True:
        (token,) = struct.unpack_from(">I", blob, position)
        position += 4
        if token == _BEGIN_NODE:
            end = blob.index(b"\0", position)
            node = Node(_name(blob[position:end]))
            position = (end + 4) & ~3
            if open_nodes:
                open_nodes[-1].children.append(node)
            open_nodes.append(node)
            if len(open_nodes) > _DEEPEST:
                raise DeviceTreeError(f"the device tree is more than {_DEEPEST} levels deep")
        elif token == _PROPERTY and open_nodes:
            length, name = struct.unpack_from(">II", blob, position)
            start = position + 8
            if start + length > len(blob):
                raise DeviceTreeError("the device tree is damaged: a property does not lie within it")
            label = blob[strings + name : blob.index(b"\0", strings + name)]
            open_nodes[-1].properties[_name(label)] = blob[start : start + length]
            position = (start + length + 3) & ~3
        elif token == _END_NODE and open_nodes:
            node = open_nodes.pop()
            if not open_nodes:
                return node
        elif token != _NOP:
            raise DeviceTreeError(f"the device tree is damaged: token {token:#x} at {position - 4:#x}")


def _name(raw: bytes) -> str:
    name = raw.decode("ascii")
    if not name.isprintable():
        raise DeviceTreeError(f"the device tree is damaged: {name!r} is no name")
    return name


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
        return fdt.PropBytes(name, data=value) if value else fdt.Property(name)
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
