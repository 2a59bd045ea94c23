"""The machine's device tree: against dtc, and against the tree of QEMU's virt."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpemu.boot.fdt import Chosen, machine_tree, with_chosen
from mpemu.devices.aclint import Aclint, AclintProperties
from mpemu.devices.device import Device
from mpemu.devices.pflash import Pflash, PflashProperties
from mpemu.devices.plic import Plic, PlicProperties
from mpemu.devices.rtc import GoldfishRtc, GoldfishRtcProperties
from mpemu.devices.test_finisher import TestFinisher, TestFinisherProperties
from mpemu.devices.uart import Uart, UartProperties
from mpemu.devices.virtio.mmio import fill_slots
from mpemu.devicetree import DeviceTreeError, Node, Ref, cells64, flatten
from mpemu.errors import GuestImageError
from mpemu.isa.profiles import IsaSpec
from tests.devices.machine_fakes import FakeMachine

DTC = shutil.which("dtc")
QEMU = shutil.which("qemu-system-riscv64")


def board(harts: int = 2) -> Node:
    context = FakeMachine().context
    context.memory.harts = harts
    devices: list[Device] = [
        Aclint(context, AclintProperties()),
        Plic(context, PlicProperties()),
        Uart(context, UartProperties()),
        GoldfishRtc(context, GoldfishRtcProperties()),
        TestFinisher(context, TestFinisherProperties()),
        Pflash(context, PflashProperties()),
    ]
    devices += fill_slots(context, devices)
    chosen = Chosen("console=ttyS0 ro", (0x8800_0000, 0x8800_1234), bytes(range(32)))
    nodes = [node for device in devices for node in device.fdt_nodes()]
    return machine_tree(harts, IsaSpec.parse("rva22s64"), (0x8000_0000, 512 << 20), nodes, chosen)


def decompile(blob: bytes, tmp_path: Path) -> str:
    (tmp_path / "t.dtb").write_bytes(blob)
    run = subprocess.run(
        ["dtc", "-I", "dtb", "-O", "dts", str(tmp_path / "t.dtb")], capture_output=True, text=True, timeout=20
    )
    assert run.returncode == 0, run.stderr
    warnings = [w for w in run.stderr.splitlines() if "simple_bus_reg" not in w]
    assert not warnings, warnings
    return run.stdout


def properties(dts: str) -> dict[str, dict[str, str]]:
    """{node path: {property: text}} of dtc's output."""
    path: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for line in map(str.strip, dts.splitlines()):
        if line.endswith("{"):
            path.append(line[:-1].strip().strip("/"))
            found["/".join(path)] = {}
        elif line == "};":
            path.pop()
        elif path and line.endswith(";"):
            name, _, value = line[:-1].partition(" = ")
            found["/".join(path)][name] = value
    return found


@pytest.mark.skipif(not DTC, reason="needs dtc")
def test_dtc_finds_nothing_to_warn_about(tmp_path: Path) -> None:
    tree = properties(decompile(flatten(board(4)), tmp_path))
    assert tree["/chosen"]["bootargs"] == '"console=ttyS0 ro"'
    assert tree["/chosen"]["stdout-path"] == '"/soc/serial@10000000"'
    assert tree["/chosen"]["linux,initrd-end"] == "<0x00 0x88001234>"
    cpu = tree["/cpus/cpu@3"]
    assert cpu["riscv,isa-base"] == '"rv64i"' and cpu["mmu-type"] == '"riscv,sv39"'
    assert cpu["riscv,cbom-block-size"] == cpu["riscv,cboz-block-size"] == "<0x40>"
    assert "zba" in cpu["riscv,isa-extensions"] and cpu["riscv,isa"].startswith('"rv64imafdc_')
    assert len(tree["/soc/plic@c000000"]["interrupts-extended"].split()) == 16


@pytest.mark.skipif(not DTC or not QEMU, reason="needs dtc and QEMU")
def test_same_devices_as_qemu(tmp_path: Path) -> None:
    dumped = tmp_path / "qemu.dtb"
    command = ["qemu-system-riscv64", "-M", f"virt,dumpdtb={dumped}", "-smp", "2", "-m", "512M"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    run = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", str(dumped)], capture_output=True, text=True, timeout=20)
    theirs, ours = properties(run.stdout), properties(decompile(flatten(board(2)), tmp_path))
    not_here = re.compile(r"/(pmu|fw-cfg|platform-bus|soc/pci)|/cpus/cpu-map|/flash")
    for path, expected in theirs.items():
        if not_here.match(path):
            continue
        assert path in ours, path
        for name, value in expected.items():
            if name in {"phandle", "interrupt-parent", "interrupts-extended", "regmap", "rng-seed", "cpu"}:
                assert name in ours[path], (path, name)
            elif name not in {"riscv,isa", "mmu-type", "model", "riscv,ndev", "clock-frequency"}:
                assert ours[path].get(name) == value, (path, name)


def test_reference_to_nowhere_and_doubled_labels_are_errors() -> None:
    with pytest.raises(DeviceTreeError, match="plic"):
        flatten(Node("", {"interrupt-parent": Ref("plic")}))
    with pytest.raises(DeviceTreeError, match="labelled 'a'"):
        flatten(Node("", {}, [Node("x", label="a"), Node("y", label="a")]))
    with pytest.raises(DeviceTreeError, match="cells64"):
        flatten(Node("", {"reg": [1 << 40]}))
    assert cells64(1 << 40) == [256, 0]


@pytest.mark.skipif(not DTC, reason="needs dtc")
def test_own_tree_gets_the_boot_arguments(tmp_path: Path) -> None:
    own = flatten(Node("", {"#address-cells": 2, "#size-cells": 2}, [Node("chosen", {"bootargs": "old", "x": 1})]))
    tree = properties(decompile(with_chosen(own, Chosen("new", (1, 2)), "my.dtb"), tmp_path))
    assert tree["/chosen"]["bootargs"] == '"new"' and tree["/chosen"]["x"] == "<0x01>"
    without = flatten(Node("", {"#address-cells": 2, "#size-cells": 2}))
    tree = properties(decompile(with_chosen(without, Chosen("new"), "my.dtb"), tmp_path))
    assert tree["/chosen"] == {"bootargs": '"new"'}
    assert with_chosen(own, Chosen(), "my.dtb") == own


@pytest.mark.parametrize("data", [b"", b"/dts-v1/;", flatten(Node(""))[:50], b"\xd0\x0d\xfe\xed" + b"\xff" * 60])
def test_bad_trees_are_refused(data: bytes) -> None:
    with pytest.raises(GuestImageError, match=r"my\.dtb: "):
        with_chosen(data, Chosen(), "my.dtb")


@given(st.data())
def test_damaged_trees_never_end_in_anything_but_an_error(data: st.DataObject) -> None:
    blob = bytearray(flatten(board(1)))
    for position in data.draw(st.lists(st.integers(0, len(blob) - 1), min_size=1, max_size=8)):
        blob[position] = data.draw(st.integers(0, 255))
    try:
        with_chosen(bytes(blob), Chosen("a"), "my.dtb")
    except GuestImageError as error:
        assert str(error).startswith("my.dtb: ")
