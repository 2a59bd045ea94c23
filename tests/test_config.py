"""Configs: what loads, what is refused, and how that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpemu.config import (
    DeviceConfig,
    EngineConfig,
    MachineConfig,
    cache_limit,
    find_config,
    format_size,
    load_config,
    parse_config,
    parse_size,
)
from mpemu.config_source import MAX_BYTES
from mpemu.devices.registry import device_class
from mpemu.errors import ConfigError, GuestImageError
from mpemu.isa.profiles import PROFILES
from mpemu.paths import configs_dir
from mpemu.schema import config_schema, config_yaml

SHIPPED = sorted(path.name for path in configs_dir().glob("*.yaml"))


def refused(text: str) -> list[str]:
    """The lines of the error that a config ends in."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_loads_and_says_how_to_run_it(name: str) -> None:
    config = load_config(configs_dir() / name)
    assert parse_config(config_yaml(config)) == config
    assert "How to run it:" in (configs_dir() / name).read_text().split("\nmachine:")[0]


def test_shipped_configs() -> None:
    assert {"smp.yaml", "bare.yaml", "linux.yaml", "disk.yaml"} <= set(SHIPPED)
    assert find_config("smp") == find_config("configs/smp.yaml").resolve() or find_config("smp").samefile(
        find_config("configs/smp.yaml")
    )


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    config = parse_config(
        """
machine: virt
harts: {count: 4, isa: rva22s64}     # or `harts: 4`
memory: 512M
execution: parallel                  # parallel | deterministic
boot: {firmware: opensbi, kernel: linux, initrd: busybox, append: "console=ttyS0"}
devices:
  - {type: virtio-blk, id: disk0, file: disk.img}
  - {type: virtio-rng}
console: stdio                       # stdio | file:PATH | pty | unix:PATH | none
""",
        directory=tmp_path,
    )
    assert (config.harts.count, config.memory, config.boot.kernel) == (4, 512 << 20, "linux")
    assert [device.type for device in config.devices] == ["virtio-blk", "virtio-rng"]
    assert config.devices[0].properties.file == str(tmp_path / "disk.img")  # type: ignore[attr-defined]
    assert parse_config("harts: 4").harts.count == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hart: 4", "x.yaml:1: hart: there is no such key; did you mean harts?"),
        ("machine: virt\nboot:\n  kernal: a", "x.yaml:3: boot.kernal: there is no such key; did you mean kernel?"),
        ("harts:\n  count: 2\n  cout: 3", "x.yaml:3: harts.cout: there is no such key; did you mean count?"),
        ("harts: 100", "x.yaml:1: harts.count: must be at most 64, not 100"),
        ("harts: [1]", "x.yaml:1: harts.count: expected a whole number, not [1]"),
        ("harts: {isa: rv32i}", "x.yaml:1: harts.isa: 'rv32i': harts have 64 bits"),
        ("memory: 12Q", "x.yaml:1: memory: '12Q' is not a size such as 512M or 2G"),
        ("memory: 1K", "x.yaml:1: memory: memory must be 64K to 256G"),
        ("execution: paralel", "x.yaml:1: execution: 'paralel' is not one of parallel, deterministic; did you mean"),
        ("console: stdo", "x.yaml:1: console: 'stdo' is not one of stdio, file:PATH, pty, unix:PATH, none; did you"),
        ("seed: -1", "x.yaml:1: seed: must be at least 0, not -1"),
        ("timeout: soon", "x.yaml:1: timeout: "),
        ("devices:\n- type: virtio-blok", "x.yaml:2: devices[0].type: 'virtio-blok' is not a device type; did you"),
        ("devices:\n- {type: virtio-blk, fil: a}", "x.yaml:2: devices[0].file: this key is missing"),
        ("devices: [{type: plic}]", "x.yaml:1: devices[0].type: plic is on the board already"),
        ("devices: [3]", "x.yaml:1: devices[0]: expected a mapping"),
        ("devices: 3", "x.yaml:1: devices: expected a list, not 3"),
        ("devices: [{type: virtio-rng, slot: 9}]", "x.yaml:1: devices[0].slot: must be less than 8, not 9"),
        ("boot: {append: a}", "x.yaml:1: boot.append: of no use without boot.kernel"),
        ("boot: 3", "x.yaml:1: boot: expected a mapping of firmware, kernel"),
        ('boot: {kernel: "a\\0b"}', "x.yaml:1: boot.kernel: there is a zero byte in it"),
        ("harts: 1\nharts: 2", "x.yaml:2: harts: this key is given twice, first at x.yaml:1"),
        ("- 1", "x.yaml:1: a config is a mapping"),
        ("harts: 1\n\tmemory: 1", "x.yaml:2: found character '\\t' that cannot start any token (YAML is indented"),
        ("a: [1, 2", "x.yaml:1: expected ',' or ']'"),
        ("a: *b", "x.yaml:1: found undefined alias"),
        ("a: &a [*a]", "x.yaml:1: more than 10000 values or 16 levels"),
        ("[" * 20000, "x.yaml: nested too deeply"),
        ("a: !!python/object:os.system x", "x.yaml:1: the tag tag:yaml.org,2002:python/object:os.system means nothing"),
        ("? [a]\n: 1", "x.yaml:1: the config: a key must be a word"),
        ("a: 1\n---\nb: 2", "x.yaml:2: a second document begins here"),
    ],
)
def test_message(text: str, message: str) -> None:
    assert any(line.startswith(message) for line in refused(text)), refused(text)


def test_all_problems_are_told_at_once() -> None:
    lines = refused("hart: 2\nmemory: 1Q\ndevices: [{type: x}, {type: virtio-rng, y: 1}]\n")
    assert [line.split(": ")[1] for line in lines] == ["memory", "hart", "devices[0].type", "devices[1].y"]


def test_two_devices_in_one_place() -> None:
    lines = refused("devices:\n- {type: virtio-rng, slot: 2, id: a}\n- {type: virtio-rng, slot: 2, id: a}\n")
    assert lines[0] == "x.yaml:3: devices[1].slot: devices[0] has slot 2 too"
    assert lines[1] == "x.yaml:3: devices[1].id: devices[0] is 'a' too"


def test_exploding_aliases_are_cut_off() -> None:
    levels = [f"k{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(12)]
    assert "more than 10000 values" in refused("\n".join(levels))[0]


def test_file_problems(tmp_path: Path) -> None:
    cases = {
        "binary.yaml": (b"a: 1\nb: \xff\xfe", ":2: not UTF-8 text"),
        "huge.yaml": (b"#" * (MAX_BYTES + 1), "longer than"),
        "program": (b"\x7fELF\x02", "mpemu run bare --kernel"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / name)
    with pytest.raises(ConfigError, match="is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"no such file; did you mean linux\?"):
        load_config("linx.yaml")


def test_set_overrides_the_file_and_options_override_both() -> None:
    config = load_config("linux", ["harts=2", "devices[0].slot=3"], [("harts.count", 3, "--harts 3")])
    assert config.harts.count == 3
    assert config.harts.isa == load_config("linux").harts.isa  # a number for harts leaves the rest alone
    assert config.devices[0].properties.slot == 3  # type: ignore[attr-defined]
    assert len(load_config("linux", ["devices[+]={type: virtio-rng}"]).devices) == 2
    assert load_config("linux", ["devices[0]={type: virtio-console}"]).devices[0].type == "virtio-console"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("harts.cuont=2", "--set harts.cuont=2: harts.cuont: there is no such key; did you mean count?"),
        ("memory=7", "--set memory=7: memory: memory must be"),
        ("nonsense", "--set nonsense: write --set KEY=VALUE"),
        ("a..b=1", "is not a key path"),
        ("machine.x=1", "'machine' is no mapping"),
        ("devices[7].type=virtio-rng", "is no mapping or list"),
        ("memory=[", "--set memory=[: "),
    ],
)
def test_set_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("linux", [setting])
    assert message in str(caught.value)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "both").touch()
    (here / "both").touch()
    (here / "only-here").touch()
    (there / "m.yaml").write_text("boot: {kernel: both, initrd: only-here}\nconsole: file:log\n")
    monkeypatch.chdir(here)
    config = load_config(there / "m.yaml", [], [("boot.dtb", "both", "--dtb both")])
    assert config.boot.kernel == str(there / "both")
    assert config.boot.initrd == str(here / "only-here")
    assert config.boot.dtb == str(here / "both")
    assert config.console == f"file:{there / 'log'}"


def test_a_name_that_is_not_fetched_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPEMU_CACHE_DIR", str(tmp_path))
    with pytest.raises(GuestImageError, match="mpemu fetch linux"):
        load_config("linux").boot.path("kernel")


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9
)
images = st.none() | st.sampled_from(["linux", "opensbi", "smp"]) | names.map(lambda name: f"/x/{name}")


def _devices() -> st.SearchStrategy[tuple[DeviceConfig, ...]]:
    def make(kind: str, **properties: object) -> DeviceConfig:
        return DeviceConfig(kind, device_class(kind).Properties.model_validate(properties))

    one = st.one_of(
        st.builds(lambda path, ro: make("virtio-blk", file=f"/{path}", readonly=ro), names, st.booleans()),
        st.just(make("virtio-rng")),
        st.builds(lambda path: make("pflash", file=f"/{path}"), names),
        st.just(make("virtio-console")),
    )
    return st.lists(one, max_size=4).map(tuple)


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "harts": st.fixed_dictionaries({"count": st.integers(1, 64), "isa": st.sampled_from(list(PROFILES))}),
            "memory": st.integers(16, 1 << 20).map(lambda pages: pages * 4096),
            "execution": st.sampled_from(["parallel", "deterministic"]),
            "seed": st.integers(0, (1 << 64) - 1),
            "boot": st.fixed_dictionaries(
                {"kernel": images.filter(bool), "firmware": images, "initrd": images, "append": names}
            ),
            "console": st.sampled_from(["stdio", "pty", "none"]) | names.map(lambda name: f"file:/x/{name}"),
            "timeout": st.none() | st.floats(0.001, 1e6),
            "devices": _devices(),
        }
    )
)
def test_printed_config_loads_to_the_same_machine(data: dict[str, object]) -> None:
    config = MachineConfig.model_validate(data)
    assert parse_config(config_yaml(config)) == config


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        parse_config(text)
    except ConfigError as error:
        assert str(error)


@given(st.integers(0, 1 << 60))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_schema_describes_the_shipped_configs() -> None:
    schema = config_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(MachineConfig.model_fields)
    kinds = {item["properties"]["type"]["const"] for item in schema["properties"]["devices"]["items"]["oneOf"]}
    assert {"virtio-blk", "virtio-rng", "virtio-console", "pflash"} == kinds
    assert schema["additionalProperties"] is False


def test_how_code_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(text: str) -> EngineConfig:
        return parse_config(f"engine: {text}").engine

    assert not engine("{mode: interp, hot: 5}").translates
    assert engine("{mode: auto, hot: 5}").hotness == 5
    assert engine("{mode: jit, hot: 5}").hotness == 1
    assert engine("{cache_limit: 1G}").cache_limit == 1 << 30
    assert engine("{cache: false, translators: 4}").translators == 4
    for text in ("{mode: fast}", "{translators: 5}", "{translators: 0}", "{cache_limit: 1K}", "{cache: maybe}"):
        with pytest.raises(ConfigError, match=r"engine\."):
            engine(text)
    monkeypatch.setenv("MPEMU_CACHE_LIMIT", "64M")
    assert cache_limit(None) == 64 << 20 and cache_limit(1 << 30) == 1 << 30
