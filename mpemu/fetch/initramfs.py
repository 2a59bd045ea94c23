"""The Linux guest's initramfs: busybox, the kernel's virtio modules and an init script in a cpio archive.

Format: "newc" of Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources. The archive is
not compressed: it lies in guest RAM either way, and the guest would have to spend instructions on it.
"""

from __future__ import annotations

import lzma
import re
import stat
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

from mpemu.errors import FetchError

# Drivers of mpemu's devices, and a file system for disks. What they depend on comes with them, but for what ext4 asks
# for only by an alias when it mounts (crypto-crc32c).
MODULES = ("virtio_mmio", "virtio_blk", "virtio_rng", "ext4", "crc32c_generic")

_APPLETS = re.compile(rb"\[\0\[\[\0(?:[a-z0-9][a-z0-9_.+-]*\0){20,}")


@dataclass
class CpioArchive:
    """Writes a newc archive in memory: everything owned by root, dated 0, so the same input gives the same bytes."""

    data: bytearray = field(default_factory=bytearray)
    entries: int = 0

    def directory(self, name: str, mode: int = 0o755) -> None:
        self._add(name, stat.S_IFDIR | mode)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._add(name, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self) -> bytes:
        """The whole archive, its trailer included, padded to the 512 bytes that tools like."""
        self._add("TRAILER!!!", 0)
        self.data += bytes(-len(self.data) % 512)
        return bytes(self.data)

    def _add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self.entries += 1
        raw = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self.entries, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(raw), 0)
        self.data += b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        self.data += bytes(-len(self.data) % 4) + content
        self.data += bytes(-len(self.data) % 4)


@dataclass(frozen=True)
class Module:
    """A kernel module: its name as modprobe spells it, its ELF file, what it needs and which devices ask for it."""

    name: str
    content: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


def canonical(name: str) -> str:
    """The kernel treats - and _ in module names alike."""
    return name.replace("-", "_")


def read_module(name: str, compressed: bytes) -> Module:
    """A module as Debian ships it (.ko.xz); what modules.dep would say is in its .modinfo section."""
    content = lzma.decompress(compressed)
    section = ELFFile(BytesIO(content)).get_section_by_name(".modinfo")
    if section is None:
        raise FetchError(f"kernel module {name} has no .modinfo section")
    info: dict[str, list[str]] = {"depends": [], "alias": []}
    for entry in section.data().decode(errors="replace").split("\0"):
        key, _, value = entry.partition("=")
        if key in info and value:
            info[key].append(value)
    depends = tuple(canonical(word) for value in info["depends"] for word in value.split(","))
    return Module(canonical(name), content, depends, tuple(info["alias"]))


def applets(busybox: bytes) -> list[str]:
    """The commands that a busybox binary answers to: its own table, as we can't run it here."""
    found = max(_APPLETS.findall(busybox), key=len, default=b"")
    names = [name.decode() for name in found.split(b"\0") if name]
    if not {"sh", "mount", "modprobe", "cttyhack", "poweroff"} <= set(names):
        raise FetchError("this busybox lacks applets that the guest's init needs (sh, mount, modprobe, cttyhack)")
    return names


def dependencies_first(wanted: tuple[str, ...], modules: dict[str, Path], builtin: set[str]) -> list[Module]:
    """The wanted modules and all that they need, each after its dependencies.

    ``modules`` are the files by canonical name; ``builtin`` are names that the kernel has inside.
    """
    done: dict[str, Module] = {}

    def add(name: str) -> None:
        if name in done or name in builtin:
            return
        if name not in modules:
            raise FetchError(f"the kernel package has no module {name}")
        module = read_module(name, modules[name].read_bytes())
        for needed in module.depends:
            add(needed)
        done[name] = module

    for name in wanted:
        add(name)
    return list(done.values())


def build_initramfs(busybox: bytes, init: str, release: str, modules: list[Module]) -> bytes:
    """The archive. ``release`` is the kernel's, as `uname -r` prints it; ``modules`` are in loading order."""
    archive = CpioArchive()
    home = f"lib/modules/{release}"
    for name in ("bin", "dev", "etc", "lib", "lib/modules", home, "mnt", "proc", "root", "sys", "tmp"):
        archive.directory(name)
    archive.symlink("sbin", "bin")
    archive.character_device("dev/console", 5, 1)  # the kernel opens it for init before devtmpfs is there
    archive.file("init", init.encode(), 0o755)
    archive.file("bin/busybox", busybox, 0o755)
    for name in applets(busybox):
        if name != "busybox":
            archive.symlink(f"bin/{name}", "busybox")
    archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    by_name = {module.name: module for module in modules}
    table, aliases = [], []
    for module in modules:
        archive.file(f"{home}/{module.name}.ko", module.content)
        needed = [f"{name}.ko" for name in _closure(module, by_name)]
        table.append(" ".join([f"{module.name}.ko:", *needed]))
        aliases += [f"alias {alias} {module.name}" for alias in module.aliases]
    archive.file(f"{home}/modules.dep", "".join(f"{line}\n" for line in table).encode())
    archive.file(f"{home}/modules.alias", "".join(f"{line}\n" for line in aliases).encode())
    return archive.finish()


def _closure(module: Module, by_name: dict[str, Module]) -> list[str]:
    """All that a module needs, nearest first, as modules.dep lists it."""
    names: dict[str, None] = {}
    for name in module.depends:
        if name in by_name:
            names[name] = None
            names.update(dict.fromkeys(_closure(by_name[name], by_name)))
    return list(names)
