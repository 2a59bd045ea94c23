"""``mpemu fetch linux``: Debian's riscv64 kernel, busybox and OpenSBI, made into files that a machine boots from.

What ends up in the cache: ``Image`` (the kernel, unmodified), ``initramfs.cpio``, ``fw_dynamic.bin``, ``fw_jump.bin``,
``config`` (the kernel's) and ``manifest.json`` (versions and digests). The directory appears complete or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpemu.errors import FetchError
from mpemu.fetch.apt import KEYRING, MIRROR_VARIABLE, Download, PrivateApt, Progress, system_mirror
from mpemu.fetch.initramfs import MODULES, build_initramfs, canonical, dependencies_first
from mpemu.paths import cache_dir, linux_dir

SUITE = "trixie"
ARCHITECTURE = "riscv64"
RECIPE = 4  # raise it when the files made from the same packages change
FIRMWARE = ("fw_dynamic.bin", "fw_jump.bin")


def fetch_linux(
    progress: Progress, *, mirror: str | None = None, keyring: Path | None = None, force: bool = False
) -> tuple[Path, bool]:
    """The directory with the Linux guest, and whether anything in it is new. FetchError says what went wrong.

    ``mirror`` defaults to $MPEMU_DEBIAN_MIRROR, then to the Debian mirror of the system's apt.
    """
    mirror = mirror or os.environ.get(MIRROR_VARIABLE) or system_mirror()
    directory, work = linux_dir(), cache_dir() / "fetch"
    work.mkdir(parents=True, exist_ok=True)
    with _only_one(work):
        apt = PrivateApt(work / "apt", mirror, SUITE, ARCHITECTURE, keyring or KEYRING)
        apt.update(progress)
        downloads = apt.describe([_kernel_package(apt), "busybox-static", "opensbi"])
        manifest = {"recipe": RECIPE, "packages": {entry.package: entry.version for entry in downloads}}
        if not force and _is_current(directory, manifest):
            return directory, False
        packages = apt.download(downloads, work / "packages", progress)
        _build(directory, downloads, packages, manifest, progress)
        shutil.rmtree(work / "packages")
    return directory, True


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"another `mpemu fetch` is at work in {work}; wait for it") from None
        yield


def _kernel_package(apt: PrivateApt) -> str:
    """The versioned package that linux-image-riscv64 stands for."""
    depends = apt.field(f"linux-image-{ARCHITECTURE}", "Depends")
    match = re.search(r"\blinux-image-\d[\w.+~-]*", depends)
    if not match:
        raise FetchError(f"linux-image-{ARCHITECTURE} of {apt.mirror} depends on no kernel (Depends: {depends})")
    return match[0]


def _is_current(directory: Path, manifest: dict[str, object]) -> bool:
    try:
        present = json.loads((directory / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    files = present.pop("files", {}) if isinstance(present, dict) else {}
    return present == manifest and all((directory / name).is_file() for name in files)


def _unpack(package: Path, into: Path) -> None:
    finished = subprocess.run(["dpkg-deb", "-x", str(package), str(into)], capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise FetchError(f"{package} cannot be unpacked: {finished.stderr.strip()}")


def _build(
    directory: Path, downloads: list[Download], packages: list[Path], manifest: dict[str, object], progress: Progress
) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="linux-") as scratch:
        root, made = Path(scratch) / "root", Path(scratch) / "made"
        made.mkdir()
        for number, package in enumerate(packages):
            progress("unpacking", number / (len(downloads) + 1))
            _unpack(package, root)
        progress("unpacking", len(downloads) / (len(downloads) + 1))
        release = downloads[0].package.removeprefix("linux-image-")
        _one_of(root, f"boot/vmlinux-{release}", f"boot/vmlinuz-{release}").rename(made / "Image")
        _one_of(root, f"boot/config-{release}").rename(made / "config")
        for name in FIRMWARE:
            _one_of(root, f"usr/lib/riscv64-linux-gnu/opensbi/generic/{name}").rename(made / name)
        home = _one_of(root, f"usr/lib/modules/{release}", f"lib/modules/{release}")
        files = {canonical(path.name.removesuffix(".ko.xz")): path for path in home.rglob("*.ko.xz")}
        builtin = {
            canonical(Path(line).name.removesuffix(".ko"))
            for line in (home / "modules.builtin").read_text().splitlines()
        }
        archive = build_initramfs(
            busybox=_one_of(root, "usr/bin/busybox", "bin/busybox").read_bytes(),
            init=Path(__file__).with_name("init.sh").read_text(),
            release=release,
            modules=dependencies_first(MODULES, files, builtin),
        )
        (made / "initramfs.cpio").write_bytes(archive)
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made.iterdir())}
        (made / "manifest.json").write_text(json.dumps({**manifest, "files": digests}, indent=2) + "\n")
        old = Path(scratch) / "old"
        if directory.exists():
            directory.rename(old)
        made.rename(directory)
        progress("unpacking", 1.0)


def _one_of(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    raise FetchError(f"the packages have no {' or '.join(names)}: they changed in a way that mpemu does not know")
