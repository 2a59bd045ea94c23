"""Debian packages of any suite and architecture, got by the system's own apt with a state directory of mpemu's.

apt knows this system's mirror, proxies, certificates and credentials; it checks the signature of the suite's Release
file with the archive's keyring and every file against it, and it resumes interrupted downloads. So mpemu writes a
configuration that shares none of the system's state (see apt.conf(5), sources.list(5)), needs no root, and leaves the
work to it. docs/design says why.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpemu.errors import FetchError

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction (0..1) of it that is."""

MIRROR_VARIABLE = "MPEMU_DEBIAN_MIRROR"
HELPER = "/usr/lib/apt/apt-helper"
RESUMABLE = ("http://", "https://", "file:")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Download:
    """A package file as the signed index describes it. ``size`` is in bytes."""

    package: str
    version: str
    uri: str
    filename: str
    size: int
    sha256: str


def _run(command: list[str], *, cwd: Path | None = None, progress: Callable[[float], None] | None = None) -> str:
    """Run an apt program: its standard output. FetchError carries what it said on standard error."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    lines = []
    with tempfile.TemporaryFile("w+") as complaints:
        try:
            process = subprocess.Popen(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
                text=True, errors="replace",
            )  # fmt: skip
        except FileNotFoundError:
            raise FetchError(
                f"{command[0]} is not on this system; `mpemu fetch linux` uses apt, so run it on Debian or one of its "
                "derivatives and copy the cache directory from there"
            ) from None
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("dlstatus:"):  # dlstatus:ITEM:PERCENT:TEXT, see apt's README.progress-reporting
                    if progress is not None:
                        progress(float(line.split(":")[2]) / 100)
                else:
                    lines.append(line)
        if process.returncode != 0:
            complaints.seek(0)
            raise FetchError(_explain(complaints.read(), command))
    return "".join(lines)


def _explain(complaints: str, command: list[str]) -> str:
    """One message from apt's complaints: its own words, then what to do about them."""
    said = [line[3:] for line in complaints.splitlines() if line.startswith("E: ")]
    said += [line[3:] for line in complaints.splitlines() if line.startswith("W: ")]
    said = [line for line in said if not line.startswith("Some index files failed")]
    text = "; ".join(dict.fromkeys(said)) or complaints.strip() or f"{shlex.join(command)} failed without a word"
    if any(sign in text for sign in ("NO_PUBKEY", "not signed", "EXPKEYSIG", "signature", "unreadable")):
        advice = "the Release file is not signed by a key of the keyring: is debian-archive-keyring up to date?"
    elif any(sign in text for sign in ("resolve", "connect", "Connection", "unreachable", "Network", "timed out")):
        advice = (
            "is this machine online? apt's proxy settings and $http_proxy are honoured; "
            f"another mirror can be named by --mirror or ${MIRROR_VARIABLE}"
        )
    elif "Unable to locate package" in text or "404" in text or "does not have a Release file" in text:
        advice = f"does the mirror carry this suite and architecture? Name another by --mirror or ${MIRROR_VARIABLE}"
    else:
        return text
    return f"{text}\n{advice}"


def system_mirror() -> str:
    """The Debian mirror of this system's apt, whatever suite it is used for.

    The index targets of apt's own configuration say more than a reading of its files would: deb822 or one-line
    format, disabled entries, and (once `apt-get update` has run) the origin that the Release file names.
    """
    row_format = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)\t$(COMPONENT)"
    rows = _run(["apt-get", "indextargets", "--format", row_format, "Created-By: Packages"])
    found = ""
    for row in rows.splitlines():
        uri, origin, label, component = (field.strip() for field in row.split("\t"))
        origin, label = (value if "$(" not in value else "" for value in (origin, label))
        if component != "main":
            continue
        if (origin, label) == ("Debian", "Debian"):
            return uri
        if not origin and not found and uri.rstrip("/").endswith("debian"):
            found = uri
    if not found:
        raise FetchError(
            f"this system's apt has no Debian mirror; name one by --mirror or ${MIRROR_VARIABLE} "
            "(what stands after `deb` in a sources.list)"
        )
    return found


class PrivateApt:
    """apt for one suite and architecture of a mirror, with all its state under ``directory``."""

    def __init__(self, directory: Path, mirror: str, suite: str, architecture: str, keyring: Path = KEYRING) -> None:
        if not keyring.is_file():
            raise FetchError(
                f"{keyring} is missing, so nothing from {mirror} could be trusted: "
                "apt install debian-archive-keyring, or name a keyring by --keyring"
            )
        self.directory, self.mirror = directory, mirror
        for name in ("lists/partial", "archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "status").write_bytes(b"")
        sources = {
            "Types": "deb", "URIs": mirror, "Suites": suite, "Components": "main", "Architectures": architecture,
            "Targets": "Packages", "Signed-By": str(keyring.resolve()),
        }  # fmt: skip
        for value in sources.values():
            if "\n" in value:
                raise FetchError(f"{value!r} has a line break in it")
        (directory / "mpemu.sources").write_text("".join(f"{key}: {value}\n" for key, value in sources.items()))
        self.config = directory / "apt.conf"
        self.config.write_text(_apt_conf(directory, architecture))

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self.config), *arguments]

    def update(self, progress: Progress) -> None:
        """Get the suite's signed index. FetchError if any part of it cannot be had or is not signed."""
        what = "package index"
        progress(what, 0.0)
        _run(self._command("apt-get", "update", "-qq"), progress=lambda fraction: progress(what, fraction))
        progress(what, 1.0)

    def field(self, package: str, name: str) -> str:
        """A field of the package's record in the index; empty if it has none."""
        record = _run(self._command("apt-cache", "show", "--no-all-versions", package))
        for line in record.splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return ""

    def describe(self, packages: list[str]) -> list[Download]:
        """What the index says of the packages' files."""
        found = {}
        for line in _run(self._command("apt-get", "download", "--print-uris", "-qq", *packages)).splitlines():
            words = shlex.split(line)
            if len(words) != 4 or not words[3].startswith("SHA256:"):
                raise FetchError(f"apt describes a download in a way that mpemu does not know: {line}")
            package = words[1].split("_")[0]
            version, digest = self.field(package, "Version"), words[3].removeprefix("SHA256:")
            found[package] = Download(package, version, words[0], words[1], int(words[2]), digest)
        return [found[package] for package in packages]

    def download(self, downloads: list[Download], directory: Path, progress: Progress) -> list[Path]:
        """The packages' files, in ``directory``; those that are there already and intact are kept."""
        directory.mkdir(parents=True, exist_ok=True)
        missing = [entry for entry in downloads if not is_intact(directory / entry.filename, entry.sha256)]
        if missing:
            what = f"{sum(entry.size for entry in missing) / 1e6:.0f} MB of packages"
            progress(what, 0.0)
            _run(self._getter(missing, directory), cwd=directory, progress=lambda fraction: progress(what, fraction))
            progress(what, 1.0)
        for entry in missing:
            if not is_intact(directory / entry.filename, entry.sha256):
                raise FetchError(f"{directory / entry.filename} is not the file that the signed index describes")
        return [directory / entry.filename for entry in downloads]

    def _getter(self, missing: list[Download], directory: Path) -> list[str]:
        """The command that downloads. `apt-get download` starts anew after an interruption, apt's helper goes on where
        it stopped, but does not know mirror lists and the like."""
        if all(entry.uri.startswith(RESUMABLE) for entry in missing) and os.access(HELPER, os.X_OK):
            files = [(entry.uri, str(directory / entry.filename), f"SHA256:{entry.sha256}") for entry in missing]
            return self._command(HELPER, "download-file", *(word for file in files for word in file))
        names = [f"{entry.package}={entry.version}" for entry in missing]
        return self._command("apt-get", "download", "-qq", *names)


def is_intact(path: Path, sha256: str) -> bool:
    """Whether the file exists and has that digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _apt_conf(directory: Path, architecture: str) -> str:
    """Read after the system's own apt.conf: what is not overridden here (proxies, time-outs...) stays as it is."""
    where = str(directory.resolve())
    if '"' in where or "\n" in where:
        raise FetchError(f"{where}: apt cannot be told of a directory whose name has a quote or a line break in it")
    return f"""\
#clear APT::Update;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Status-Fd "1";
Acquire::AllowInsecureRepositories "false";
Acquire::Check-Valid-Until "true";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{where}/";
Dir::State::Lists "{where}/lists/";
Dir::State::Status "{where}/status";
Dir::Cache "{where}/";
Dir::Cache::Archives "{where}/archives/";
Dir::Etc::SourceList "{where}/mpemu.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Log "{where}/";
"""
