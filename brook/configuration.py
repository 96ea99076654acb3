"""The configuration file: settings, access, streams. `docs/configuration.md` describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brook.access import stream_tables
from brook.access.rules import StreamRules
from brook.access.settings import AccessSettings
from brook.settings import Settings
from brook.toml_file import Table, TomlFile

# The ways to start that are no settings.
_MODES = ("mongo",)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of the file, checked."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by the name of the setting, and `mongo`, the URI."""
    access: AccessSettings | None = None
    streams: Sequence[StreamRules] = ()

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """Read and check a file. Raises SettingsError, which names the file, the line and the key."""
        root = TomlFile(path).root
        known = {each.name: each for each in dataclasses.fields(Settings)}
        root.only((*known, *_MODES, "access", "streams"))
        settings = {
            key: root.text(key) if key in _MODES else _setting(root, key, known[key].default)
            for key in root.values
            if key not in ("access", "streams")
        }
        access = AccessSettings.of(root.table("access")) if "access" in root else None
        streams = stream_tables.read(root.table("streams"), access=access is not None)
        if access is not None and not streams and not access.signed_streams:
            root.refuse("access", "is there, but no [streams.NAME] that it opens: nobody could hear anything")
        return cls(settings, access, streams)


def _setting(root: Table, key: str, default: Any) -> Any:
    """The value of a setting, of the kind of its default. `Settings` checks its bounds."""
    if isinstance(default, tuple):
        return root.texts(key)
    value = root.values[key]
    kind = int | float if isinstance(default, float) else type(default)
    if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(default, bool)):
        root.refuse(key, f"takes {'a text' if isinstance(default, str) else 'a number'}, got {value!r}"[:200])
    return value
