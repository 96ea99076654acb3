"""Which fields of a document a client wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brook.errors import InvalidParameter

MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields to include, or to exclude; `_id` is always there. Dotted names reach into documents,
    and through arrays into each of their documents, as in MongoDB's projections.
    """

    names: frozenset[str]
    excluding: bool

    @classmethod
    def parse(cls, text: str) -> Fields:
        """Read `type,size` or `-secret,-cost`. Raises InvalidParameter."""
        names = text.split(",")
        excluding = [name.startswith("-") for name in names]
        if any(excluding) != all(excluding):
            raise InvalidParameter("fields either includes (type,size) or excludes (-secret,-cost), not both")
        plain = frozenset(name.removeprefix("-") for name in names)
        for name in plain:
            if not all(name.split(".")) or "$" in name or "\0" in name:
                raise InvalidParameter(f"fields: {name[:50]!r} is not the name of a field")
            if any(other.startswith(name + ".") for other in plain):
                raise InvalidParameter(f"fields: {name[:50]!r} and a field inside it are both named")
        if len(plain) > MOST_FIELDS:
            raise InvalidParameter(f"fields takes at most {MOST_FIELDS} names, got {len(plain)}")
        if any(excluding) and "_id" in plain:
            raise InvalidParameter("fields: _id is always there")
        return cls(plain, all(excluding))

    def of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a document that is wanted; its order is kept."""
        return _exclude(document, self.names, "") if self.excluding else _include(document, self.names, "")

    def of_paths(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The part of what an update has set (dotted paths with array indexes, and values) that is wanted."""
        wanted = {}
        for path, value in values.items():
            plain = _without_indexes(path)
            if self._inside(plain):
                if not self.excluding:
                    wanted[path] = value
            elif self.excluding:
                wanted[path] = _exclude_value(value, self.names, plain + ".")
            elif any(name.startswith(plain + ".") for name in self.names):
                wanted[path] = _include_value(value, self.names, plain + ".")
        return wanted

    def shows(self, path: str) -> bool:
        """Whether anything at a dotted path may be told."""
        plain = _without_indexes(path)
        if self.excluding:
            return not self._inside(plain)
        return self._inside(plain) or any(name.startswith(plain + ".") for name in self.names)

    def _inside(self, path: str) -> bool:
        """Whether a path is one of the names, or within one."""
        parts = path.split(".")
        return any(".".join(parts[: count + 1]) in self.names for count in range(len(parts))) or (
            not self.excluding and parts[0] == "_id"
        )


def _without_indexes(path: str) -> str:
    first, *rest = path.split(".")
    return ".".join([first, *(part for part in rest if not part.isdigit())])


def _include(document: Mapping[str, Any], names: frozenset[str], prefix: str) -> dict[str, Any]:
    part = {}
    for key, value in document.items():
        path = prefix + key
        if path in names or path == "_id":
            part[key] = value
        elif isinstance(value, (dict, list)) and any(name.startswith(path + ".") for name in names):
            part[key] = _include_value(value, names, path + ".")
    return part


def _include_value(value: Any, names: frozenset[str], prefix: str) -> Any:
    if isinstance(value, list):
        return [_include_value(item, names, prefix) for item in value if isinstance(item, (dict, list))]
    return _include(value, names, prefix) if isinstance(value, dict) else value


def _exclude(document: Mapping[str, Any], names: frozenset[str], prefix: str) -> dict[str, Any]:
    return {
        key: _exclude_value(value, names, prefix + key + ".")
        for key, value in document.items()
        if prefix + key not in names
    }


def _exclude_value(value: Any, names: frozenset[str], prefix: str) -> Any:
    if isinstance(value, list):
        return [_exclude_value(item, names, prefix) for item in value]
    return _exclude(value, names, prefix) if isinstance(value, dict) else value
