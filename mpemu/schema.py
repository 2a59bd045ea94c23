"""The config as JSON Schema (for editors: yaml-language-server and the like) and as YAML text."""

from __future__ import annotations

from io import StringIO
from typing import Any

from mpemu.config import ON_BOARD, MachineConfig
from mpemu.devices.registry import device_classes


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file."""
    schema = _without_devices().model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "mpemu machine"
    properties = schema["properties"]
    properties["memory"] |= {"type": ["string", "integer"]}
    harts = properties["harts"]
    properties["harts"] = {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/HartsConfig"}]} | {
        key: value for key, value in harts.items() if key in ("description", "default")
    }
    properties["devices"] = {
        "type": "array",
        "description": str(MachineConfig.model_fields["devices"].description),
        "default": [],
        "items": {"oneOf": [_device_schema(name) for name in device_classes() if name not in ON_BOARD]},
    }
    return schema


def _without_devices() -> type[MachineConfig]:
    """The model with ``devices`` as plain data: their schemas come from the registry."""
    from pydantic import create_model

    return create_model("MachineConfig", __base__=MachineConfig, devices=(list[dict[str, Any]], []))


def _device_schema(name: str) -> dict[str, Any]:
    model = device_classes()[name].Properties
    schema = model.model_json_schema()
    schema["properties"] = {"type": {"const": name}, **schema["properties"]}
    schema["required"] = ["type", *schema.get("required", [])]
    schema["title"] = name
    return schema


def config_yaml(config: MachineConfig) -> str:
    """The full effective config as YAML; loading it gives an equal config."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 1 << 16
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    # plain and single-quoted scalars fold line breaks, and U+0085 is one: escape what is not printable
    yaml.representer.add_representer(
        str,
        lambda representer, text: representer.represent_scalar(
            "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
        ),
    )
    text = StringIO()
    yaml.dump(config.dump(), text)
    return text.getvalue()
