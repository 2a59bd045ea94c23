"""`mpemu fetch linux` against a small signed archive made here: what arrives, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import lzma
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from mpemu.errors import FetchError
from mpemu.fetch import fetch_linux
from mpemu.fetch.apt import KEYRING, PrivateApt, system_mirror
from mpemu.fetch.initramfs import CpioArchive, applets

RELEASE = "6.1-test-riscv64"
APPLETS = ["[", "[[", *sorted({f"tool{n}" for n in range(30)} | {"sh", "mount", "modprobe", "cttyhack", "poweroff"})]
BUSYBOX = b"\x7fELF machine code \0\0" + b"\0".join(name.encode() for name in APPLETS) + b"\0\0more"
MODULES = {
    "drivers/virtio/virtio_mmio": ("", "virtio"),
    "drivers/block/virtio_blk": ("", "virtio:d00000002v*"),
    "drivers/char/virtio-rng": ("virtio_pci_helper", "virtio:d00000004v*"),
    "drivers/virtio/virtio_pci_helper": ("", ""),
    "fs/ext4/ext4": ("jbd2", "fs-ext4"),
    "fs/jbd2/jbd2": ("", ""),
    "crypto/crc32c_generic": ("", "crypto-crc32c"),
}

needs_apt = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "gpg")), reason="needs apt, dpkg-deb and gpg"
)


@dataclass
class Archive:
    """A Debian archive in a directory, signed by a key of its own."""

    root: Path
    keyring: Path
    home: Path

    @property
    def uri(self) -> str:
        return f"file:{self.root}"

    def package(
        self, name: str, version: str, files: dict[str, bytes], fields: str = "", arch: str = "riscv64"
    ) -> None:
        tree = self.home / name
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: Test <test@example.org>\n"
        (tree / "DEBIAN" / "control").write_text(f"{control}{fields}Description: test\n")
        pool = self.root / "pool"
        pool.mkdir(exist_ok=True)
        deb = pool / f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, capture_output=True)
        shutil.rmtree(tree)
        entry = f"{control}{fields}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
        entry += f"SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\nDescription: test\n\n"
        with self.index.open("a") as index:
            index.write(entry)

    @property
    def index(self) -> Path:
        path = self.root / "dists/trixie/main/binary-riscv64/Packages"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def sign(self) -> None:
        data = self.index.read_bytes()
        release = self.root / "dists/trixie/Release"
        release.write_text(
            "Origin: Test\nSuite: stable\nCodename: trixie\nArchitectures: riscv64 all\nComponents: main\n"
            "Date: Sat, 01 Nov 2025 00:00:00 UTC\n"
            f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-riscv64/Packages\n"
        )
        self.gpg("--yes", "--output", str(release.with_name("InRelease")), "--clearsign", str(release))

    def gpg(self, *arguments: str) -> None:
        subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *arguments], check=True, capture_output=True
        )


def _module(tmp: Path, name: str, depends: str, alias: str) -> bytes:
    """A kernel module as far as anybody looks: an ELF file with a .modinfo section, compressed."""
    source, program = tmp / "m.s", tmp / "m.o"
    source.write_text(
        f'.section .modinfo,"a"\n.asciz "depends={depends}"\n.asciz "alias={alias}"\n.asciz "name={name}"\n'
    )
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none", "-c"]
    subprocess.run([*compiler, str(source), "-o", str(program)], check=True, cwd=tmp)
    return lzma.compress(program.read_bytes())


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Made once; tests that damage it take a copy."""
    root, home = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    archive = Archive(root, root / "keyring.gpg", home)
    archive.gpg("--passphrase", "", "--quick-generate-key", "Test <test@example.org>", "rsa2048", "sign", "never")
    archive.gpg("--output", str(archive.keyring), "--export")
    home_of_modules = f"usr/lib/modules/{RELEASE}"
    files = {f"boot/vmlinux-{RELEASE}": b"kernel", f"boot/config-{RELEASE}": b"CONFIG_X=y"}
    for path, (depends, alias) in MODULES.items():
        name = path.rpartition("/")[2]
        files[f"{home_of_modules}/kernel/{path}.ko.xz"] = _module(home, name, depends, alias)
    files[f"{home_of_modules}/modules.builtin"] = b"kernel/drivers/virtio/virtio.ko\n"
    archive.package(f"linux-image-{RELEASE}", "6.1-1", files)
    archive.package("linux-image-riscv64", "6.1-1", {}, f"Depends: linux-image-{RELEASE} (= 6.1-1)\n")
    archive.package("busybox-static", "1:1.37-1", {"usr/bin/busybox": BUSYBOX})
    generic = "usr/lib/riscv64-linux-gnu/opensbi/generic"
    firmware = {f"{generic}/fw_dynamic.bin": b"dynamic", f"{generic}/fw_jump.bin": b"jump"}
    archive.package("opensbi", "1.6-1", firmware, arch="all")
    archive.sign()
    return archive


@pytest.fixture
def archive(pristine: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    root = tmp_path / "archive"
    shutil.copytree(pristine.root, root)
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path / "cache"))
    return Archive(root, root / "keyring.gpg", pristine.home)


def quiet(what: str, fraction: float) -> None:
    assert what
    assert 0 <= fraction <= 1


def members(archive: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(name, mode, content) of a newc archive."""
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        name_end = position + 110 + fields[11]
        name = archive[position + 110 : name_end - 1].decode()
        start = -(-name_end // 4) * 4
        if name == "TRAILER!!!":
            return
        yield name, fields[1], archive[start : start + fields[6]]
        position = -(-(start + fields[6]) // 4) * 4


@needs_apt
def test_fetch(archive: Archive, tmp_path: Path) -> None:
    directory, new = fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring)
    assert (directory, new) == (tmp_path / "cache/linux", True)
    assert (directory / "Image").read_bytes() == b"kernel"
    assert (directory / "fw_dynamic.bin").read_bytes() == b"dynamic"
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["packages"]["busybox-static"] == "1:1.37-1"
    found = {name: (mode, content) for name, mode, content in members((directory / "initramfs.cpio").read_bytes())}
    home = f"lib/modules/{RELEASE}"
    assert found["bin/busybox"] == (0o100755, BUSYBOX)
    assert found["bin/sh"] == (0o120777, b"busybox")
    assert found["init"][1].startswith(b"#!/bin/sh\n")
    assert found["dev/console"][0] == 0o020600
    table = found[f"{home}/modules.dep"][1].decode().splitlines()
    assert "virtio_rng.ko: virtio_pci_helper.ko" in table
    assert "ext4.ko: jbd2.ko" in table
    assert table.index("jbd2.ko:") < table.index("ext4.ko: jbd2.ko")
    assert b"alias virtio:d00000004v* virtio_rng\n" in found[f"{home}/modules.alias"][1]
    first = (directory / "initramfs.cpio").read_bytes()
    assert fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring) == (directory, False)
    assert fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring, force=True) == (directory, True)
    assert (directory / "initramfs.cpio").read_bytes() == first
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("linux-")] == []


@needs_apt
def test_a_package_that_is_not_the_signed_one(archive: Archive, tmp_path: Path) -> None:
    deb = archive.root / "pool/opensbi_1.6-1_all.deb"
    deb.write_bytes(deb.read_bytes()[:-1] + b"!")
    with pytest.raises(FetchError, match=r"(?i)hash|size|mismatch"):
        fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring)
    assert not (tmp_path / "cache/linux").exists()


@needs_apt
def test_an_index_that_is_not_the_signed_one(archive: Archive) -> None:
    archive.index.write_text(archive.index.read_text().replace("1.6-1", "1.7-1"))
    with pytest.raises(FetchError):
        fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring)


@needs_apt
@pytest.mark.skipif(not KEYRING.is_file(), reason="needs debian-archive-keyring")
def test_a_signature_by_somebody_else(archive: Archive) -> None:
    with pytest.raises(FetchError, match="not signed by a key of the keyring"):
        fetch_linux(quiet, mirror=archive.uri)


@needs_apt
def test_no_signature(archive: Archive) -> None:
    (archive.root / "dists/trixie/InRelease").unlink()
    with pytest.raises(FetchError, match="not signed"):
        fetch_linux(quiet, mirror=archive.uri, keyring=archive.keyring)


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves ``root``; hangs up in the middle of the first kernel that is asked for."""

    protocol_version = "HTTP/1.1"
    root: ClassVar[Path]
    ranges: ClassVar[list[str]]
    changed = "Sat, 01 Nov 2025 00:00:00 GMT"

    def do_GET(self) -> None:
        path = self.root / unquote(self.path.lstrip("/"))
        if not path.is_file():
            self.send_error(404)
            return
        data, start = path.read_bytes(), 0
        if self.headers.get("If-Range") == self.changed:
            self.ranges.append(self.headers["Range"])
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Last-Modified", self.changed)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if RELEASE in path.name and not start:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        pass


@needs_apt
def test_an_interrupted_download_goes_on(archive: Archive) -> None:
    _Server.root, _Server.ranges = archive.root, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            mirror = f"http://127.0.0.1:{server.server_port}"
            for _ in range(2):  # apt may have tried again by itself already
                with contextlib.suppress(FetchError):
                    directory, _new = fetch_linux(quiet, mirror=mirror, keyring=archive.keyring)
        finally:
            server.shutdown()
            thread.join()
    size = (archive.root / f"pool/linux-image-{RELEASE}_6.1-1_riscv64.deb").stat().st_size
    assert _Server.ranges == [f"bytes={size // 2}-"]
    assert (directory / "Image").read_bytes() == b"kernel"


@needs_apt
def test_offline(archive: Archive) -> None:
    """Port 9 of this machine: nobody listens."""
    with pytest.raises(FetchError, match=r"is this machine online\?.*MPEMU_DEBIAN_MIRROR"):
        fetch_linux(quiet, mirror="http://127.0.0.1:9/debian", keyring=archive.keyring)


def test_keyring_missing(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="apt install debian-archive-keyring"):
        PrivateApt(tmp_path, "http://127.0.0.1:9/debian", "trixie", "riscv64", tmp_path / "absent.gpg")


@pytest.mark.parametrize(
    ("rows", "mirror"),
    [
        ("http://m.example/debian/\tDebian\tDebian\tmain\n", "http://m.example/debian/"),
        ("http://s.example/debian-security/\tDebian\tDebian-Security\tmain\nmirror+file:/etc/list\tDebian\tDebian\tmain\n",
         "mirror+file:/etc/list"),
        ("http://m.example/debian/\t$(ORIGIN)\t$(LABEL)\tmain\n", "http://m.example/debian/"),
    ],
)  # fmt: skip
def test_system_mirror(rows: str, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What apt says of its sources, before and after its first `apt-get update`."""
    monkeypatch.setattr("mpemu.fetch.apt._run", lambda *_, **__: rows)
    assert system_mirror() == mirror


def test_system_mirror_of_another_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpemu.fetch.apt._run", lambda *_, **__: "http://x.example/other/\tOther\tOther\tmain\n")
    with pytest.raises(FetchError, match="--mirror"):
        system_mirror()


def test_cpio_is_what_others_read() -> None:
    archive = CpioArchive()
    archive.directory("d")
    archive.file("d/f", b"12345", 0o600)
    archive.symlink("l", "d/f")
    archive.character_device("c", 5, 1)
    data = archive.finish()
    assert len(data) % 512 == 0
    expected = [("d", 0o40755, b""), ("d/f", 0o100600, b"12345"), ("l", 0o120777, b"d/f"), ("c", 0o20600, b"")]
    assert list(members(data)) == expected


def test_a_busybox_without_applets() -> None:
    with pytest.raises(FetchError, match="lacks applets"):
        applets(b"\x7fELF nothing here")
    assert applets(BUSYBOX) == APPLETS
