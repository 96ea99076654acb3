"""The configuration file: settings, access, streams. `docs/configuration.md` describes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brook.access import stream_tables
from brook.access.rules import StreamRules
from brook.access.settings import AccessSettings
from brook.errors import SettingsError
from brook.namespaces import Namespaces, named_database
from brook.query import Filter
from brook.settings import Settings, flag
from brook.toml_file import Table, TomlFile, in_toml

# Keys that choose the mode of the server. They are not settings.
_MODES = ("mongo",)

# The settings that name the followed collections.
_FOLLOWED = ("database", "collection", "namespace")

# The settings that name files. As for all paths of the file, a relative one begins at its folder.
_PATHS = ("tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of the file, checked."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by the name of the setting, and `mongo`, the URI."""
    access: AccessSettings | None = None
    streams: Sequence[StreamRules] = ()
    warnings: Sequence[str] = ()
    """Faults that are no reason to refuse the file, each with its line."""

    def __str__(self) -> str:
        count = len(self.settings)
        parts = [f"{count} setting{'' if count == 1 else 's'}"]
        if self.access is not None:
            parts.append(str(self.access))
        streams = ", ".join(f"{stream.name} ({stream.namespace})" for stream in self.streams)
        return "; ".join([*parts, f"streams: {streams or 'none'}"])

    def filtered_fields(self) -> dict[tuple[str, str], set[str]]:
        """The fields by which each stream finds its documents, those with an equality if there are any.

        The keys are the stream's name and collection.
        """
        found: dict[tuple[str, str], set[str]] = {}
        for stream in self.streams:
            fields = found.setdefault((stream.name, stream.namespace), set())
            for rule in stream.rules:
                filter = Filter.parse(json.dumps(stream_tables.example(rule.filter)))
                fields |= set(filter.equalities) or set(filter.condition.paths())
        return found

    @property
    def named(self) -> dict[str, Any]:
        """The database and the collections that the settings of the file name."""
        named = {name: self.settings[name] for name in _FOLLOWED if name in self.settings}
        if "database" not in named and (database := named_database(self.settings.get("mongo", ""))):
            named["database"] = database
        return named

    def followed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `database`, `collection` and `namespace` for a server that follows the streams' collections
        as well as the `given` ones. `given` has values of the same settings, without their defaults.
        """
        namespaces = sorted({stream.namespace for stream in self.streams})
        if not namespaces:
            return dict(given)
        if "collection" in given or "namespace" in given:
            known = Namespaces.of(Settings(**given))
            others = [name for name in namespaces if not known.hold(*name.split(".", 1))]
            return {**given, "namespace": (*given.get("namespace", ()), *others)}
        databases = [name.partition(".")[0] for name in namespaces]
        database = given.get("database")
        if database not in databases:
            database = databases[0]
        own = [name for name in namespaces if name.startswith(f"{database}.")]
        return {
            "database": database,
            "collection": tuple(name.partition(".")[2] for name in own),
            "namespace": tuple(name for name in namespaces if name not in own),
        }

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
        _check(root, {key: value for key, value in settings.items() if key not in _MODES})
        access = AccessSettings.of(root.table("access")) if "access" in root else None
        streams = stream_tables.read(root.table("streams"), access=access is not None)
        if access is not None and not streams and not access.signed_streams:
            root.refuse("access", "needs a [streams.NAME]: without one, no client could read anything")
        return cls(settings, access, streams, tuple(root.file.warnings))


def _setting(root: Table, key: str, default: Any) -> Any:
    """The value of a setting, of the kind of its default."""
    value = root.values[key]
    if isinstance(default, tuple):
        value = tuple(root.texts(key) or ())
    else:
        kind = int | float if isinstance(default, float) else type(default)
        if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(default, bool)):
            wanted = {str: "a string", int: "a whole number"}.get(type(default), "a number")
            root.refuse(key, f"takes {wanted}, got {in_toml(value)}"[:200])
    return str(root.file.path.parent / value) if key in _PATHS and value else value


def _check(root: Table, settings: Mapping[str, Any]) -> None:
    """Refuse a value that `Settings` does not accept, by itself or together with the others."""
    try:
        Settings(**settings)
    except SettingsError as error:
        for key, value in settings.items():
            try:
                Settings(**{key: value})
            except SettingsError as own:
                # `refuse` puts the key, as it is in the file, in front of the message.
                root.refuse(key, str(own).removeprefix(f"{flag(key)} "))
        root.refuse("", str(error))
