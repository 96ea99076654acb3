"""The fields of a document that a client selects: the parameter `fields`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brook.errors import InvalidParameter

MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields to include or to exclude. `_id` is always included.

    A dotted name reaches into embedded documents, and into each document of an array, as in MongoDB's
    projections.
    """

    names: frozenset[str]
    excluding: bool
    within: Fields | None = None
    """The selection of an access rule, applied first; None without one."""

    @classmethod
    def parse(cls, text: str) -> Fields:
        """Parse `type,size` or `-secret,-cost`. Raises InvalidParameter."""
        names = text.split(",")
        excluding = [name.startswith("-") for name in names]
        if any(excluding) != all(excluding):
            raise InvalidParameter("fields either includes (type,size) or excludes (-secret,-cost), not both")
        plain = frozenset(name.removeprefix("-") for name in names)
        # Check the count first: comparing every pair of names takes seconds for as many as a URL can hold.
        if len(plain) > MAX_FIELDS:
            raise InvalidParameter(f"fields takes at most {MAX_FIELDS} names, got {len(plain)}")
        for name in plain:
            if not all(name.split(".")) or "$" in name or "\0" in name:
                raise InvalidParameter(f"fields: {name[:50]!r} is not a field name")
            if any(other.startswith(name + ".") for other in plain):
                raise InvalidParameter(f"fields: {name[:50]!r} and a field inside it are both listed")
        if any(excluding) and any(name.partition(".")[0] == "_id" for name in plain):
            raise InvalidParameter("fields: _id cannot be excluded")
        return cls(plain, all(excluding))

    def of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the selected part of a document, in the order of the document."""
        if self.within is not None:
            document = self.within.of(document)
        return _exclude(document, self.names, "") if self.excluding else _include(document, self.names, "")

    def of_paths(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the selected part of `updatedFields`: values by dotted path with array indexes."""
        if self.within is not None:
            values = self.within.of_paths(values)
        wanted = {}
        for path, value in values.items():
            named, readings = self._read(path)
            if self.excluding:
                if not named:
                    for reading in readings:
                        value = _exclude_value(value, self.names, reading + ".")
                    wanted[path] = value
            elif named:
                wanted[path] = value
            elif readings and _has_fields(value):
                # The shortest reading takes every number as an array index, by far the most likely meaning.
                wanted[path] = _include_value(value, self.names, min(readings, key=len) + ".")
        return wanted

    def shows(self, path: str) -> bool:
        """Return True if the selection contains any part of a dotted path."""
        if self.within is not None and not self.within.shows(path):
            return False
        named, readings = self._read(path)
        return not named if self.excluding else named or bool(readings)

    def _read(self, path: str) -> tuple[bool, set[str]]:
        """Match a path of a change against the names.

        Returns True if the path is one of the names or lies inside one, and the prefixes of names that
        the path may stand for. A number in the path may be an array index, which names leave out, or a
        field name. MongoDB does not say which, so both readings are followed, and a field is excluded
        if either reading leads to an excluded name.
        """
        first, *rest = path.split(".")
        if first == "_id" and not self.excluding:
            return True, set()
        readings = self._known({first})
        for part in rest:
            if not self.names.isdisjoint(readings):
                break
            deeper = self._known({f"{reading}.{part}" for reading in readings})
            readings = deeper | readings if part.isdigit() else deeper
        return not self.names.isdisjoint(readings), readings

    def _known(self, readings: set[str]) -> set[str]:
        """Keep the readings that are a name or a prefix of one; the number of the others is unbounded."""
        return {
            reading
            for reading in readings
            if reading in self.names or any(name.startswith(reading + ".") for name in self.names)
        }


def _include(document: Mapping[str, Any], names: frozenset[str], prefix: str) -> dict[str, Any]:
    part = {}
    for key, value in document.items():
        path = prefix + key
        if path in names or path == "_id":
            part[key] = value
        elif _has_fields(value) and any(name.startswith(path + ".") for name in names):
            part[key] = _include_value(value, names, path + ".")
    return part


def _include_value(value: Any, names: frozenset[str], prefix: str) -> Any:
    if isinstance(value, list):
        return [_include_value(item, names, prefix) for item in value if _has_fields(item)]
    return _include(value, names, prefix) if isinstance(value, dict) else {}


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


def _has_fields(value: Any) -> bool:
    return isinstance(value, dict | list)
