"""Debian's unmodified SMP kernel, in both execution modes: to the shell, at work there, and back."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.console import Console
from tests.system.emulators import ROOT
from tests.system.linux import BOOT_TIMEOUT_S, FETCH_TIMEOUT_S, PROMPT, boot, command, require_linux

pytestmark = pytest.mark.timeout(FETCH_TIMEOUT_S + 4 * BOOT_TIMEOUT_S)

HARTS = 4
DISK_SIZE = 8 << 20


@pytest.fixture(scope="session", autouse=True)
def linux() -> None:
    require_linux()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("linux") / "disk.img"
    path.write_bytes(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(DISK_SIZE // 32)))
    return path


@pytest.fixture(scope="module")
def guest(linux: None, disk: Path) -> Iterator[Console]:
    """A machine of four harts at its shell's prompt; powered off when all tests that share it are done."""
    with boot("--drive", str(disk), harts=HARTS) as console:
        console.shell("echo 1 >/proc/sys/kernel/printk")  # no messages of the kernel between what commands print
        yield console
        console.send("poweroff\n")
        assert console.wait() == 0


def numbers(count: int) -> bytes:
    """What `seq COUNT` prints."""
    return b"".join(b"%d\n" % n for n in range(1, count + 1))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- parallel: every hart a process
def test_all_harts_are_up(guest: Console) -> None:
    assert guest.shell("nproc") == f"{HARTS}\n"
    info = guest.shell("cat /proc/cpuinfo")
    isa = re.findall(r"^isa\t+: (\S+)$", info, re.MULTILINE)
    assert len(isa) == HARTS and len(set(isa)) == 1
    assert isa[0].startswith("rv64imafdc")
    assert {"zicbom", "zicboz", "zba", "zbb", "zbs", "zicond", "sstc", "svpbmt"} <= set(isa[0].split("_"))
    assert re.findall(r"^hart\t+: (\d+)$", info, re.MULTILINE) != [] and info.count("sv") >= HARTS


def test_parallel_work_is_right(guest: Console) -> None:
    lines = {n: 20_000 + n for n in range(1, HARTS + 1)}
    jobs = " ".join(f"(seq {count} | sha256sum >/tmp/sum{n}) &" for n, count in lines.items())
    guest.shell(f"{jobs} wait", timeout=90)
    expected = "".join(f"{sha256(numbers(count))}  -\n" for count in lines.values())
    assert guest.shell("cat /tmp/sum?") == expected


def test_interrupts_reach_all_harts(guest: Console) -> None:
    """Timer ticks and IPIs, counted by the kernel per hart; the console's and the disk's come through the PLIC."""
    guest.shell("for n in 1 2 3 4 5 6 7 8; do (cat /proc/self/maps | wc -l >/dev/null) & done; wait")
    rows = re.findall(r"^ *(\S+): +((?:\d+ +)+)(.*)$", guest.shell("cat /proc/interrupts"), re.MULTILINE)
    counts = {f"{name} {what}": [int(word) for word in columns.split()] for name, columns, what in rows}
    timer = next(row for name, row in counts.items() if "riscv-timer" in name)
    assert len(timer) == HARTS and all(timer)
    ipis = [sum(column) for column in zip(*(r for name, r in counts.items() if name.startswith("IPI")), strict=True)]
    assert len(ipis) == HARTS and all(ipis)
    assert all(any(sum(row) for name, row in counts.items() if device in name) for device in ("ttyS0", "virtio"))


def test_console_output_is_complete(guest: Console) -> None:
    """Nothing lost, nothing twice."""
    assert guest.shell("seq 3000", timeout=60) == numbers(3000).decode()


def test_console_input_is_complete(guest: Console) -> None:
    """Typed faster than the guest reads: the UART's FIFO is full nearly all the time."""
    text = "".join(f"{n:4} the quick brown fox jumps over the lazy dog\n" for n in range(100))
    guest.send("cat >/tmp/typed\n" + text + "\x04")
    assert guest.shell("sha256sum </tmp/typed", timeout=60) == f"{sha256(text.encode())}  -\n"


def test_disk_is_read_and_written(guest: Console, disk: Path) -> None:
    content = disk.read_bytes()
    assert guest.shell("sha256sum </dev/vda", timeout=60) == f"{sha256(content)}  -\n"
    guest.shell("seq 100000 >/tmp/data && dd if=/tmp/data of=/dev/vda bs=4k seek=5 2>/dev/null && sync", timeout=60)
    written = numbers(100_000)
    expected = content[: 5 * 4096] + written + content[5 * 4096 + len(written) :]
    assert sha256(disk.read_bytes()) == sha256(expected)
    guest.shell("echo 3 >/proc/sys/vm/drop_caches")
    assert guest.shell("sha256sum </dev/vda", timeout=60) == f"{sha256(expected)}  -\n"


def test_file_system_on_the_disk(guest: Console) -> None:
    guest.shell("mke2fs /dev/vda >/dev/null 2>&1 && mount -t ext4 /dev/vda /mnt", timeout=60)
    guest.shell("for n in 1 2 3 4; do seq 20000 >/mnt/$n & done; wait; umount /mnt", timeout=60)
    guest.shell("mount -t ext4 -o ro /dev/vda /mnt")
    expected = "".join(f"{sha256(numbers(20_000))}  /mnt/{n}\n" for n in (1, 2, 3, 4))
    assert guest.shell("sha256sum /mnt/?", timeout=60) == expected
    guest.shell("umount /mnt")


def test_hardware_random_numbers(guest: Console) -> None:
    first, second = (guest.shell("head -c 32 /dev/hwrng | xxd -p -c 64").strip() for _ in range(2))
    assert len(first) == len(second) == 64 and first != second


def test_idle_guest_uses_no_cpu(guest: Console) -> None:
    """What was hot a moment ago may still be translated for some seconds."""
    end = time.monotonic() + 60
    used = 1.0
    while used >= 0.3 and time.monotonic() < end:
        before = guest.cpu_seconds()
        time.sleep(2)
        used = guest.cpu_seconds() - before
    assert used < 0.3


def test_reboot_and_poweroff(linux: None) -> None:
    with boot(harts=2) as console:
        console.shell("touch /root/first")
        console.send("reboot\n")
        console.expect("OpenSBI v", BOOT_TIMEOUT_S)
        console.expect(PROMPT, BOOT_TIMEOUT_S)
        assert console.shell("nproc; ls /root") == "2\n"
        console.send("poweroff\n")
        assert console.wait() == 0
        assert "Power down" in console.text


# -- deterministic: all harts in one process
@dataclass(frozen=True)
class Outcome:
    """What must not differ between two runs with the same seed."""

    console: bytes
    instructions: tuple[int, ...]
    ram: str


WORK = "nproc; seq 2000 | sha256sum & seq 2000 | sha256sum; wait; cat /proc/sys/kernel/random/uuid; date; exit 3"


class Run:
    """A deterministic boot in the background, that does WORK."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        directory.mkdir()
        options = ("--execution", "deterministic", "--seed", str(seed), "--hash", "--stats-json", directory / "stats")
        self._console = (directory / "console").open("wb")
        self._process = subprocess.Popen(
            command(*map(str, options), harts=2, run=WORK, timeout=4 * BOOT_TIMEOUT_S),
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def outcome(self) -> Outcome:
        _, messages = self._process.communicate()
        self._console.close()
        console = (self._directory / "console").read_bytes()
        assert self._process.returncode == 3, f"{console.decode(errors='replace')[-3000:]}\n{messages}"
        found = json.loads((self._directory / "stats").read_text())
        return Outcome(console, tuple(hart["instructions"] for hart in found["harts"]), found["ram_sha256"])

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._console.close()


def test_deterministic_boots_are_the_same(linux: None, tmp_path: Path) -> None:
    runs = [Run(tmp_path / name, seed) for name, seed in (("first", 5), ("again", 5), ("other", 6))]
    try:
        first, again, other = (run.outcome() for run in runs)
    finally:
        for run in runs:
            run.end()
    assert first.console.count(sha256(numbers(2000)).encode()) == 2 and b"\n2\r\n" in first.console
    assert (again.instructions, again.ram) == (first.instructions, first.ram)
    assert again.console == first.console
    assert (other.instructions, other.ram) != (first.instructions, first.ram)
