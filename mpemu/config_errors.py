"""pydantic's complaints in the house's words: where, which key, what is wrong with it, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from mpemu.config_source import Key, Source, dotted

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}


def nearest(word: object, choices: Iterable[str]) -> str:
    """``; did you mean X?`` or nothing."""
    close = difflib.get_close_matches(str(word), list(choices), 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


def one_of(choices: Iterable[str]) -> str:
    return ", ".join(choices)


def problem(source: Source, key: Key, text: str) -> str:
    """One line of a ConfigError: ``configs/virt.yaml:7: devices[1].irq: ...``."""
    where = source.origin(key)
    return f"{where}: {dotted(key)}: {text}" if key else f"{where}: {text}"


def explain(source: Source, base: Key, model: type[BaseModel], errors: Iterable[Any]) -> list[str]:
    """The lines for a ValidationError's ``errors()``. ``base`` is the key of the mapping that ``model`` validated."""
    lines = []
    for error in errors:
        key: Key = tuple(error["loc"])
        lines.append(problem(source, (*base, *key), _text(error, model, key)))
    return lines


def _text(error: Any, model: type[BaseModel], key: Key) -> str:
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            valid = _keys_of(model, key[:-1])
            return f"there is no such key{nearest(key[-1], valid)} (valid: {one_of(valid)})"
        case "missing":
            return "this key is missing"
        case "literal_error":
            choices = [choice.strip("' ") for choice in context["expected"].replace(" or ", ", ").split(",")]
            return f"{_shown(value)} is not one of {one_of(choices)}{nearest(value, choices)}"
        case "value_error":
            return str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected a mapping of {one_of(_keys_of(model, key))}, not {_shown(value)}"
        case "list_type" | "tuple_type":
            return f"expected a list, not {_shown(value)}"
        case "string_type":
            return f"expected a string, not {_shown(value)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"expected a whole number, not {_shown(value)}"
        case "bool_type" | "bool_parsing":
            return f"expected true or false, not {_shown(value)}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than" as kind:
            words, limit = _BOUNDS[kind]
            return f"must be {words} {context[limit]}, not {_shown(value)}"
        case _:
            message = str(error["msg"])
            return f"{message[0].lower()}{message[1:]}, not {_shown(value)}"


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_of(model: type[BaseModel], key: Key) -> list[str]:
    """The valid keys of the (sub)model at ``key``."""
    current: Any = model
    for step in key:
        current = current.model_fields[step].annotation
    return [field.alias or name for name, field in current.model_fields.items() if not field.exclude]
