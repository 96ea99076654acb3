"""The part of a collection that one client may read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from brook.errors import Forbidden, InvalidFilter
from brook.query import Fields, Filter
from brook.query.paths import overlap
from brook.subscription import Mode, Subscription


@dataclass(frozen=True, slots=True)
class Grant:
    """The result of the rules for one client and one stream."""

    namespace: str
    reach: Filter | None
    """The documents that the client may know of; None for all."""
    fields: Fields | None
    client_filter: Sequence[str] | None
    modes: frozenset[Mode]

    def restrict(self, wanted: Subscription) -> Subscription:
        """Return the part of a subscription that is granted. Raises Forbidden or InvalidFilter."""
        if wanted.mode not in self.modes:
            raise Forbidden(f"this stream has no mode={wanted.mode}; it has {', '.join(sorted(self.modes))}")
        if wanted.filter is not None:
            self._check(wanted.filter.condition.paths(), "filter")
        if wanted.sort is not None:
            self._check((path for path, _ in wanted.sort.fields), "sort")
        fields = wanted.fields
        if self.fields is not None:
            fields = self.fields if fields is None else replace(fields, within=self.fields)
        return replace(
            wanted,
            namespaces=frozenset({self.namespace}),
            filter=_both(self.reach, wanted.filter),
            rule=self.reach,
            fields=fields,
        )

    def _check(self, paths: Iterable[str], parameter: str) -> None:
        """Raise InvalidFilter for a field that the client may not ask about. Otherwise the set of matching
        documents would reveal a hidden field's value.
        """
        for path in paths:
            if not self._may_ask(path):
                raise InvalidFilter(f"{parameter} may not use the field {path[:100]}; {self._allowed()}")

    def _may_ask(self, path: str) -> bool:
        if path == "_id" or path.startswith("_id."):
            return True  # always shown
        if self.client_filter is not None:
            listed = [field for field in self.client_filter if _is_within(path, field)]
            return any(not self._hides_within(field, path) for field in listed)
        if self.fields is None:
            return True
        if self.fields.excluding:
            return not any(overlap(path, field) for field in self.fields.names)
        return any(_is_within(path, field) for field in self.fields.names)

    def _hides_within(self, field: str, path: str) -> bool:
        """True if `fields` leaves out a part of a listed field, and the path reads that part."""
        if self.fields is None:
            return False
        inside = [name for name in self.fields.names if name.startswith(field + ".")]
        if self.fields.excluding:
            return any(overlap(path, name) for name in inside)
        return bool(inside) and not any(_is_within(path, name) for name in inside)

    def _allowed(self) -> str:
        if self.client_filter is not None:
            return f"it takes: {', '.join(['_id', *self.client_filter])}"
        return "it takes the fields that the stream shows"


def _both(rule: Filter | None, own: Filter | None) -> Filter | None:
    if rule is None or own is None:
        return own if rule is None else rule
    return rule & own


def _is_within(path: str, field: str) -> bool:
    return path == field or path.startswith(field + ".")
