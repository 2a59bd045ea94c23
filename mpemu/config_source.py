"""Reading a config's YAML: plain data, and for every key where it came from.

Only what configs need of YAML: mappings, sequences, scalars, aliases. The node tree is converted here rather than by a
YAML constructor, so that duplicate keys, tags, cyclic or exploding aliases and deep nesting end in a message with a
line number, and nothing is ever instantiated from the file.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from mpemu.errors import ConfigError

Key = tuple[str | int, ...]
"""Path to a value: ("devices", 0, "file")."""

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000
MAX_DEPTH = 16

_TAG = "tag:yaml.org,2002:"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+|\+)\]")
_END = sys.maxsize


def dotted(key: Key) -> str:
    """A path as users write it: ``devices[0].file``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key)
    return text.removeprefix(".")


@dataclass
class Source:
    """What a config says so far. ``origins`` has ``file:line`` or an option's text for the values that were given."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str:
        """Where the value at ``key``, or the nearest one around it, came from."""
        for length in range(len(key), -1, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return self.name

    def override(self, path: str, value: Any, origin: str) -> None:
        """Set one value (``--set harts.isa=rv64gc``); ``devices[+]`` adds an entry. Mappings on the way are made.

        ConfigError if that can't be.
        """
        key = _parse_path(path, origin)
        place: Any = self.data
        for step, following in pairwise(key):
            place = _enter(place, step, following, origin, path)
        last = key[-1]
        if last == _END and isinstance(place, list):
            last = len(place)
            key = (*key[:-1], last)
        if isinstance(place, list) and isinstance(last, int) and last < len(place):
            place[last] = value
        elif isinstance(place, list) and last == len(place):
            place.append(value)
        elif isinstance(place, dict) and isinstance(last, str):
            if last in SHORTHANDS and isinstance(place.get(last), dict) and not isinstance(value, dict):
                return self.override(f"{path}.{SHORTHANDS[last]}", value, origin)
            place[last] = value
        else:
            raise ConfigError(f"{origin}: {path}: there is no such entry to set")
        for known in [known for known in self.origins if known[: len(key)] == key]:
            del self.origins[known]
        self.origins[key] = origin


SHORTHANDS = {"harts": "count"}
"""Keys that may be a scalar, and what that is short for: ``harts: 4`` is ``harts: {count: 4}``."""


def _enter(place: Any, step: str | int, following: str | int, origin: str, path: str) -> Any:
    """One step towards a value to set."""
    if isinstance(place, dict) and isinstance(step, str):
        inside = place.get(step)
        if inside is None:
            inside = place[step] = [] if isinstance(following, int) else {}
        elif step in SHORTHANDS and not isinstance(inside, dict):
            inside = place[step] = {SHORTHANDS[step]: inside}
    elif isinstance(place, list) and isinstance(step, int) and step < len(place):
        inside = place[step]
    elif isinstance(place, list) and step == len(place):
        inside = {}
        place.append(inside)
    else:
        inside = None
    if not isinstance(inside, dict | list):
        raise ConfigError(f"{origin}: {path}: {step!r} is no mapping or list with entries to set")
    return inside


def _parse_path(path: str, origin: str) -> Key:
    key: list[str | int] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if not match or (match[1] and key and path[position - 1] != "."):
            break
        key.append(match[1] or (_END if match[2] == "+" else int(match[2])))
        position = match.end()
        if path[position : position + 1] == "." and position + 1 < len(path):
            position += 1
    if position < len(path) or not key or isinstance(key[0], int):
        raise ConfigError(f"{origin}: {path!r} is not a key path such as harts.count or devices[0].file")
    return tuple(key)


def read_file(path: Path, name: str) -> Source:
    """The config in a file. ConfigError names the file as ``name`` and the line."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{name}: is a directory; a config is a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: longer than {MAX_BYTES} bytes: this is no config")
    if raw.startswith(b"\x7fELF"):
        raise ConfigError(f"{name}: an ELF file, no config; to run it: mpemu run bare --kernel {name}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not UTF-8 text; a config is a YAML file") from None
    return read_text(text, name)


def read_text(text: str, name: str) -> Source:
    """The config in a string, as :func:`read_file`."""
    source = Source(name)
    data = _Converter(source).document(text)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source.origin(())}: a config is a mapping of keys to values, this is {_kind(data)}")
    source.data = data
    return source


def read_scalar(text: str, origin: str) -> Any:
    """The value of ``--set KEY=VALUE``: YAML as well, so that lists and numbers are what they look like."""
    return _Converter(Source(origin), with_lines=False).document(text)


class _Converter:
    """YAML nodes to plain data; fills in the origins of ``source``."""

    def __init__(self, source: Source, with_lines: bool = True) -> None:
        self.source, self.with_lines = source, with_lines
        self.values = 0

    def document(self, text: str) -> Any:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            node = YAML(typ="safe", pure=True).compose(text)
            return None if node is None else self.convert(node, ())
        except MarkedYAMLError as error:
            problem = str(error.problem or error.context or "not YAML")
            if problem == "but found another document":
                problem = "a second document begins here; a config is one"
            if "'\\t'" in problem:
                problem += " (YAML is indented with spaces, not tabs)"
            mark = error.problem_mark or error.context_mark
            raise ConfigError(f"{self.where(mark)}: {problem}") from None
        except YAMLError as error:
            raise ConfigError(f"{self.source.name}: not YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise ConfigError(f"{self.source.name}: nested too deeply") from None

    def where(self, mark: Any) -> str:
        return f"{self.source.name}:{mark.line + 1}" if self.with_lines and mark is not None else self.source.name

    def convert(self, node: Any, key: Key) -> Any:
        here = self.where(node.start_mark)
        self.source.origins.setdefault(key, here)
        self.values += 1
        if self.values > MAX_VALUES or len(key) > MAX_DEPTH:
            raise ConfigError(f"{here}: more than {MAX_VALUES} values or {MAX_DEPTH} levels: this is no config")
        if node.id == "sequence":
            return [self.convert(item, (*key, index)) for index, item in enumerate(node.value)]
        if node.id == "mapping":
            return self.mapping(node, key)
        return self.scalar(node, here)

    def mapping(self, node: Any, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            here = self.where(name_node.start_mark)
            if name_node.id != "scalar":
                raise ConfigError(f"{here}: {dotted(key) or 'the config'}: a key must be a word")
            name = str(name_node.value)
            inner = (*key, name)
            if name in found:
                first = self.source.origin(inner)
                raise ConfigError(f"{here}: {dotted(inner)}: this key is given twice, first at {first}")
            self.source.origins[inner] = here
            found[name] = self.convert(value_node, inner)
        return found

    def scalar(self, node: Any, here: str) -> Any:
        text, tag = str(node.value), str(node.tag)
        if node.style is not None and tag == f"{_TAG}str":
            return text
        kind = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
        if kind not in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge"):
            raise ConfigError(f"{here}: the tag {tag} means nothing in a config")
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text.replace("_", ""), 0 if not re.match(r"[-+]?0\d", text) else 10)
                case "float":
                    return float(text.replace("_", ""))
                case _:
                    return text
        except ValueError:
            return text


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value!r:.40}"
