"""A machine's configuration: the models, and how a file, ``--set`` and options become one.

Unknown keys are errors; a message names file, line, key and the nearest valid key, and all problems are told at once.
The order of precedence is file, then ``--set``, then options. Paths in a file are relative to the file, those given on
the command line to the working directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from mpemu.codecache import DEFAULT_LIMIT
from mpemu.config_errors import explain, nearest, one_of, problem
from mpemu.config_source import SHORTHANDS, Key, Source, read_file, read_scalar, read_text
from mpemu.devices.device import DeviceProperties
from mpemu.devices.registry import DEVICES, device_class
from mpemu.errors import ConfigError, GuestImageError
from mpemu.layout import KNOWN_GUEST_FACTOR, MAX_HARTS
from mpemu.paths import configs_dir, guests_dir, linux_dir

PAGE = 4096
MIN_MEMORY, MAX_MEMORY = 64 << 10, 1 << 38
MIN_CACHE = 4 << 20
CACHE_LIMIT = "MPEMU_CACHE_LIMIT"
"""Environment variable: the limit of the cache of compiled code."""

ON_BOARD = ("aclint", "goldfish-rtc", "htif", "ns16550a", "plic", "sifive-test")
"""Types that the `virt` board brings by itself (htif: if the guest's ELF asks for it); configs don't list them."""

IMAGES = {
    "opensbi": ("linux", "fw_dynamic.bin"),
    "opensbi-jump": ("linux", "fw_jump.bin"),
    "linux": ("linux", "Image"),
    "busybox": ("linux", "initramfs.cpio"),
    "smp": ("guests", "smp.elf"),
    "hello": ("guests", "hello.elf"),
}
"""Names that stand for a file in ``boot:``: fetched by `mpemu fetch linux`, or shipped with mpemu."""

_BOOT_FILES = ("firmware", "kernel", "initrd", "dtb")
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(?:i?b)?$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(value: object) -> object:
    """``512M``, ``1G``, ``65536``: powers of two, in bytes."""
    if isinstance(value, str):
        match = _SIZE.match(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a size such as 512M or 2G")
        return int(match[1]) * _UNITS[match[2].upper()]
    return value


def format_size(size: int) -> str:
    """The shortest form that :func:`parse_size` reads back."""
    for unit, scale in reversed(_UNITS.items()):
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def _memory(size: int) -> int:
    if not MIN_MEMORY <= size <= MAX_MEMORY:
        raise ValueError(f"memory must be {format_size(MIN_MEMORY)} to {format_size(MAX_MEMORY)}")
    if size % PAGE:
        raise ValueError(f"memory must be a multiple of {PAGE} bytes")
    return size


def _isa(text: str) -> str:
    from mpemu.isa.profiles import IsaSpec

    IsaSpec.parse(text)
    return text


def _console(text: str) -> str:
    kind, colon, path = text.partition(":")
    if kind in ("stdio", "pty", "none") and not colon:
        return text
    if kind in ("file", "unix") and path:
        return text
    choices = ("stdio", "file:PATH", "pty", "unix:PATH", "none")
    raise ValueError(f"{text!r} is not one of {one_of(choices)}{nearest(kind, choices)}")


def _no_zero(text: str | None) -> str | None:
    if text is not None and "\0" in text:
        raise ValueError("there is a zero byte in it")
    return text


def _cache_size(size: int) -> int:
    if size < MIN_CACHE:
        raise ValueError(f"the limit of the cache must be at least {format_size(MIN_CACHE)}")
    return size


CacheSize = Annotated[int, BeforeValidator(parse_size), AfterValidator(_cache_size), PlainSerializer(format_size)]
Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(_memory), PlainSerializer(format_size)]
Image = Annotated[str | None, AfterValidator(_no_zero)]


class Section(BaseModel):
    """A mapping of the config: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class HartsConfig(Section):
    count: int = Field(4, ge=1, le=MAX_HARTS, description="number of harts")
    isa: Annotated[str, AfterValidator(_isa)] = Field(
        "rva22s64_sstc", description="ISA string or profile name: rv64gc, rva20s64, rva22s64, max; _NAME adds to it"
    )


class BootConfig(Section):
    """What is loaded before the first instruction. A name of IMAGES, or a path."""

    firmware: Image = Field(None, description="M-mode firmware (opensbi); without it the kernel starts in M-mode")
    kernel: Image = Field(None, description="ELF file, Linux Image (also gzip) or raw image")
    initrd: Image = Field(None, description="initial RAM disk for the kernel")
    append: Annotated[str, AfterValidator(_no_zero)] = Field("", description="the kernel's command line")
    dtb: Image = Field(None, description="a device tree blob to use instead of the generated one")

    def path(self, which: Literal["firmware", "kernel", "initrd", "dtb"]) -> Path | None:
        """The file, names resolved. GuestImageError if a name's file is not there yet, and what to do about it."""
        value = getattr(self, which)
        if value is None or value not in IMAGES:
            return Path(value) if value else None
        kind, name = IMAGES[value]
        path = (linux_dir() if kind == "linux" else guests_dir()) / name
        if not path.is_file():
            todo = "run `mpemu fetch linux` once" if kind == "linux" else "build it: python guests/build.py"
            raise GuestImageError(f"boot.{which}: {value} is not there yet ({path}); {todo}")
        return path


class EngineConfig(Section):
    """How guest code is executed. What is translated is decided here; the result never depends on it."""

    mode: Literal["interp", "jit", "auto"] = Field(
        "auto",
        description="interp: interpret only; auto: translate what is hot as well; jit: translate whatever a hart is "
        "found in once (auto with hot: 1)",
    )
    hot: int = Field(
        16,
        ge=1,
        le=4000,
        description="samples (of 8192 instructions) at one place that make it worth a quick translation; "
        f"{KNOWN_GUEST_FACTOR} times that in a guest that the cache knows",
    )
    very_hot: int = Field(
        2048,
        ge=1,
        le=4000,
        description="samples that make it worth an optimised one; not above hot: the quick one is left out",
    )
    translators: int = Field(1, ge=1, le=4, description="processes that translate at the same time")
    cache: bool = Field(True, description="keep translated code on disk, for later runs and other machines")
    cache_limit: CacheSize | None = Field(
        None, description=f"bytes of compiled code on disk, 256M; by default ${CACHE_LIMIT}, or else 512M"
    )
    quantum: int = Field(
        20_000, ge=100, le=1_000_000_000, description="deterministic execution: instructions of one hart's turn"
    )

    @property
    def translates(self) -> bool:
        return self.mode != "interp"

    @property
    def hotness(self) -> int:
        """Samples that make a place hot in this mode."""
        return 1 if self.mode == "jit" else self.hot


def cache_limit(chosen: int | None = None) -> int:
    """Bytes of compiled code that may be on disk. ConfigError if the environment says nonsense."""
    text = os.environ.get(CACHE_LIMIT)
    if chosen is not None or not text:
        return DEFAULT_LIMIT if chosen is None else chosen
    try:
        return _cache_size(int(parse_size(text)))  # type: ignore[call-overload]
    except ValueError as error:
        raise ConfigError(f"${CACHE_LIMIT}: {error}") from None


@dataclass(frozen=True)
class DeviceConfig:
    """An entry of ``devices``: a type of mpemu/devices/registry.py and that type's validated properties."""

    type: str
    properties: DeviceProperties

    def dump(self) -> dict[str, Any]:
        """As a config says it. Places that the board gives out (slot, flash bank) stay open if they were."""
        return {"type": self.type, **self.properties.model_dump(mode="json", exclude_unset=True)}


class MachineConfig(Section):
    """All of it. Frozen; two configs that are equal make the same machine."""

    machine: Literal["virt"] = Field("virt", description="the board")
    harts: HartsConfig = Field(HartsConfig(), description="a number, or {count, isa}")
    memory: Size = Field(512 << 20, validate_default=True, description="RAM: 512M, 2G")
    execution: Literal["parallel", "deterministic"] = Field(
        "parallel", description="a process per hart; or all harts in one, reproducible from the seed"
    )
    seed: int = Field(0, ge=0, lt=1 << 64, description="of everything random in deterministic execution")
    boot: BootConfig = BootConfig()
    devices: tuple[DeviceConfig, ...] = Field((), description="devices besides those on the board")
    console: Annotated[str, AfterValidator(_console), AfterValidator(_no_zero)] = Field(
        "stdio", description="the UART's other end: stdio, file:PATH, pty, unix:PATH or none"
    )
    engine: EngineConfig = EngineConfig()
    timeout: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False, description="seconds until the run is ended")

    def dump(self) -> dict[str, Any]:
        """Plain data with every key, defaults included; loading it gives an equal config."""
        plain = self.model_dump(mode="json", exclude={"devices"})
        entries = [device.dump() for device in self.devices]
        return {name: entries if name == "devices" else plain[name] for name in type(self).model_fields}


def load_config(
    file: str | Path | None, settings: Iterable[str] = (), options: Iterable[tuple[str, Any, str]] = ()
) -> MachineConfig:
    """The config of a file (or of a shipped config's name), with ``--set`` texts and options on top.

    ``options`` are (key path, value, option as typed). ConfigError lists every problem, a line each.
    """
    if file is None:
        source, directory = Source("the default machine"), Path.cwd()
    else:
        path = find_config(str(file))
        source, directory = read_file(path, str(file)), path.resolve().parent
    return build(source, directory, settings, options)


def parse_config(text: str, name: str = "config", directory: Path | None = None) -> MachineConfig:
    """The config in a string."""
    return build(read_text(text, name), directory or Path.cwd(), (), ())


def find_config(name: str) -> Path:
    """A file's path; or a shipped config by name (``smp``), or as in a checkout (``configs/smp.yaml``)."""
    path = Path(name)
    if path.exists():
        return path
    shipped = {file.stem: file for file in configs_dir().glob("*.yaml")}
    if path.stem in shipped and name in (path.stem, f"{path.stem}.yaml", f"configs/{path.stem}.yaml"):
        return shipped[path.stem]
    raise ConfigError(f"{name}: no such file{nearest(path.stem, shipped)} (shipped configs: {one_of(sorted(shipped))})")


def build(
    source: Source, directory: Path, settings: Iterable[str], options: Iterable[tuple[str, Any, str]]
) -> MachineConfig:
    """Apply overrides to what was read, then validate."""
    _resolve_paths(source.data, directory)
    for setting in settings:
        origin = f"--set {setting}"
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{origin}: write --set KEY=VALUE, as in --set harts.count=2")
        source.override(path.strip(), read_scalar(text, origin), origin)
    for path, value, origin in options:
        source.override(path, value, origin)
    _resolve_paths(source.data, Path.cwd())
    data = dict(source.data)
    for name, inner in SHORTHANDS.items():
        if name in data and not isinstance(data[name], dict):
            data[name] = {inner: data[name]}
            source.origins.setdefault((name, inner), source.origin((name,)))
    problems: list[str] = []
    if data.get("devices") is None:
        data.pop("devices", None)
    elif isinstance(data["devices"], list):
        entries = [_device(source, ("devices", index), raw, problems) for index, raw in enumerate(data["devices"])]
        data["devices"] = tuple(entry for entry in entries if entry is not None)
    try:
        config = MachineConfig.model_validate(data)
    except ValidationError as error:
        problems = explain(source, (), MachineConfig, error.errors()) + problems
    if problems:
        raise ConfigError("\n".join(problems))
    _check_together(source, config)
    return config


def _device(source: Source, key: Key, raw: Any, problems: list[str]) -> DeviceConfig | None:
    """An entry of ``devices``; what is wrong with it is added to ``problems``."""
    choices = [name for name in DEVICES if name not in ON_BOARD]
    if not isinstance(raw, dict):
        problems.append(problem(source, key, f"expected a mapping such as {{type: {choices[0]}}}, not {raw!r}"))
        return None
    kind = raw.get("type")
    if kind in ON_BOARD:
        problems.append(problem(source, (*key, "type"), f"{kind} is on the board already; leave this entry out"))
    elif not isinstance(kind, str) or kind not in choices:
        what = "is missing" if kind is None else f"{kind!r} is not a device type{nearest(kind, choices)}"
        problems.append(problem(source, (*key, "type"), f"{what} (there are {one_of(choices)})"))
    else:
        model = device_class(kind).Properties
        try:
            properties = model.model_validate({name: value for name, value in raw.items() if name != "type"})
            return DeviceConfig(kind, properties)
        except ValidationError as error:
            problems += explain(source, key, model, error.errors())
    return None


def _check_together(source: Source, config: MachineConfig) -> None:
    """What no single key can know."""
    problems: list[str] = []
    slots: dict[int, int] = {}
    for index, device in enumerate(config.devices):
        slot = getattr(device.properties, "slot", None)
        if slot is not None and slots.setdefault(slot, index) != index:
            problems.append(problem(source, ("devices", index, "slot"), f"devices[{slots[slot]}] has slot {slot} too"))
    names = [device.properties.id for device in config.devices]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            problems.append(problem(source, ("devices", index, "id"), f"devices[{names.index(name)}] is {name!r} too"))
    for which in ("initrd", "append", "dtb"):
        if getattr(config.boot, which) and not (config.boot.kernel or config.boot.firmware):
            problems.append(problem(source, ("boot", which), "of no use without boot.kernel"))
    if problems:
        raise ConfigError("\n".join(problems))


def _resolve_paths(data: dict[str, Any], directory: Path) -> None:
    """Make relative paths absolute: in ``directory``, unless the file is only in the working directory."""

    def resolve(text: str) -> str:
        if Path(text).is_absolute() or "\0" in text:
            return text
        inside, here = directory / text, Path.cwd() / text
        return str(here if here.exists() and not inside.exists() else inside)

    def visit(mapping: Any, names: Iterable[str], known: Iterable[str] = ()) -> None:
        for name in names:
            value = mapping.get(name) if isinstance(mapping, dict) else None
            if isinstance(value, str) and value and value not in known:
                mapping[name] = resolve(value)

    visit(data.get("boot"), _BOOT_FILES, IMAGES)
    for entry in data["devices"] if isinstance(data.get("devices"), list) else ():
        visit(entry, ("file",))
    if isinstance(console := data.get("console"), str):
        kind, _, path = console.partition(":")
        if kind in ("file", "unix") and path:
            data["console"] = f"{kind}:{resolve(path)}"
