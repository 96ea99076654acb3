"""Signed streams: a token defines the stream itself, in the claim `brook.streams`."""

from __future__ import annotations

from typing import Any, Final

from brook.access.claims import Claims
from brook.access.rules import Rule, StreamRules, selection
from brook.errors import ClientError, Forbidden
from brook.namespaces import Namespaces
from brook.subscription import Mode

MAX_STREAMS: Final = 32

_KEYS: Final = {"namespace", "filter", "fields"}


def signed_streams(claims: Claims, followed: Namespaces) -> dict[str, StreamRules]:
    """Return the streams that a token defines, by name. Raises Forbidden if one of them is invalid."""
    brook = claims.get("brook")
    streams = brook.get("streams", {}) if isinstance(brook, dict) else {}
    if not isinstance(streams, dict) or len(streams) > MAX_STREAMS:
        raise Forbidden(f"the claim brook.streams must be an object of at most {MAX_STREAMS} named streams")
    return {name: _stream(name, one, followed) for name, one in streams.items()}


def _stream(name: str, one: Any, followed: Namespaces) -> StreamRules:
    where = f"the claim brook.streams.{name[:50]}"
    if not isinstance(one, dict) or not one.keys() <= _KEYS or not isinstance(one.get("namespace"), str):
        raise Forbidden(f"{where} must be an object of namespace, filter and fields")
    namespace, filter, fields = one["namespace"], one.get("filter", {}), one.get("fields")
    if not isinstance(filter, dict):
        raise Forbidden(f"{where}.filter is not an object")
    if _is_unfilled(filter):
        raise Forbidden(
            f"{where}.filter has a null or an empty text; if a field must be missing, write"
            ' {"$exists": false}'
        )
    if not followed.hold(*_parts(namespace)):
        raise Forbidden(f"{where}.namespace is {namespace[:100]!r}, which the server does not follow")
    if not _are_names(fields):
        raise Forbidden(f"{where}.fields is not a list of field names")
    return StreamRules(name, namespace, [Rule({}, filter, fields, None, frozenset(Mode))])


def _is_unfilled(value: Any) -> bool:
    """True if a filter has a null or an empty text, under any operator.

    The backend lacked the value. An equality would match the documents that lack it, too, and `$ne`, `$nin`
    or `$gt` nearly all documents.
    """
    if isinstance(value, dict):
        return any(map(_is_unfilled, value.values()))
    if isinstance(value, list):
        return any(map(_is_unfilled, value))
    return value is None or value == ""


def _are_names(fields: Any) -> bool:
    if fields is None:
        return True
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        return False
    try:
        selection(fields)
    except ClientError:
        return False
    return True


def _parts(namespace: str) -> tuple[str, str]:
    database, _, collection = namespace.partition(".")
    return database, collection
