"""Hatch build hook: builds the guest programs that the wheel ships, so that an installed mpemu needs no compiler."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GuestBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs guests/build.py before the wheel is put together and adds what it made, which git (so hatch) ignores."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("mpemu_guest_build", Path(self.root) / "guests" / "build.py")
        assert spec and spec.loader
        builder = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = builder  # dataclasses look their module up
        spec.loader.exec_module(builder)
        builder.build(builder.SHIPPED_PROGRAMS)
        build_data["artifacts"].append("mpemu/guests/*.elf")
        if version != "editable":  # a checkout's configs are found where they are, see mpemu/paths.py
            build_data["force_include"][str(Path(self.root) / "configs")] = "mpemu/configs"
