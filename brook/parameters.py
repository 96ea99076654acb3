"""The query parameters of a stream of documents, parsed into a subscription."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from bson import ObjectId

from brook import bundles
from brook.bundles import BundleRequest
from brook.catalog import StreamInfo
from brook.errors import InvalidParameter
from brook.namespaces import Namespaces
from brook.query import Fields, Filter, Key, Sort, index_keys
from brook.query.literals import HEX_24, LONG, UUID_FORM
from brook.subscription import OPERATIONS, Format, Mode, Subscription, Types

PARAMETERS = (
    "ns", "filter", "id", "fields", "ops", "format", "types", "before", "checkpoints",
    "mode", "sort", "limit", "every", "progress",
)  # fmt: skip
REPEATABLE = ("ns", "id")

# Parameters that describe single changes; live mode has none.
CHANGES_ONLY = ("ns", "id", "ops", "format", "before")

# Parameters that describe a result set.
LIVE_ONLY = ("sort", "limit", "every")

# The largest `limit`: a client draws the whole window, and the server keeps its documents.
MAX_LIMIT = 1000

# The allowed values of `every`, in milliseconds.
EVERY = range(100, 60_001)

# Maximum number of values of a repeatable parameter. Each value costs a look-up for each change.
MAX_REPEATED = 200

# The canonical form of an integer only: "007" stays a string.
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})")

Choice = TypeVar("Choice", bound=enum.StrEnum)


class CollectionStreams:
    """The streams of the collections that the operator named."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        return subscription(self._namespaces, stream, parameters)

    def bundle(self, body: bytes) -> BundleRequest:
        return bundles.parse(body, self.subscription)

    def catalog(self) -> Sequence[StreamInfo]:
        return self._namespaces.catalog()


def subscription(
    namespaces: Namespaces, stream: str | None, parameters: Mapping[str, Sequence[str]]
) -> Subscription:
    """Return the subscription for `/stream` or `/stream/{stream}` with these parameters.

    Raises InvalidParameter, also for an unknown name: a misspelled filter must not select everything. Raises
    InvalidFilter or UnknownStream.
    """
    for name, values in parameters.items():
        if name not in PARAMETERS:
            raise InvalidParameter(
                f"unknown parameter {name[:50]!r}; the parameters are: since, {', '.join(PARAMETERS)}"
            )
        if len(values) > (MAX_REPEATED if name in REPEATABLE else 1):
            raise InvalidParameter(f"the parameter {name!r} is given {len(values)} times")
    one = {name: values[0] for name, values in parameters.items()}
    mode = _choice(Mode, one.get("mode", Mode.CHANGES), "mode")
    if mode is not Mode.CHANGES:
        return _live(namespaces, stream, mode, one)
    for name in LIVE_ONLY:
        if name in one:
            raise InvalidParameter(f"{name} works only with mode=live; mode=changes sends each change")
    wanted = _namespaces(namespaces, stream, parameters.get("ns", ()))
    format = _format(one.get("format"), several="ns" in parameters)
    before = _flag(one, "before", default=False)
    if before and format is Format.PLAIN:
        raise InvalidParameter("before=1 needs format=envelope: a plain frame holds only one document")
    return Subscription(
        namespaces=wanted,
        operations=_operations(one["ops"]) if "ops" in one else None,
        ids=_ids(parameters["id"]) if "id" in parameters else None,
        filter=_filter(one["filter"]) if "filter" in one else None,
        fields=Fields.parse(one["fields"]) if "fields" in one else None,
        format=format,
        types=_choice(Types, one.get("types", Types.JSON), "types"),
        before=before,
        progress=_progress(one),
        checkpoints=_flag(one, "checkpoints", default=True),
    )


def _live(namespaces: Namespaces, stream: str | None, mode: Mode, one: Mapping[str, str]) -> Subscription:
    """Return the subscription of a result set, which has one collection."""
    for name in CHANGES_ONLY:
        if name in one:
            raise InvalidParameter(f"{name} works only with mode=changes; a result set has no single changes")
    for name in ("fields", "sort", "limit"):
        if mode is Mode.COUNT and name in one:
            raise InvalidParameter(f"{name} does not work with mode=count, which shows no documents")
    if "limit" in one and "sort" not in one:
        raise InvalidParameter("limit needs sort: without an order there are no first documents")
    return Subscription(
        namespaces=frozenset({namespaces.one(stream)}),
        filter=_filter(one["filter"]) if "filter" in one else None,
        fields=Fields.parse(one["fields"]) if "fields" in one else None,
        types=_choice(Types, one.get("types", Types.JSON), "types"),
        mode=mode,
        sort=Sort.parse(one["sort"]) if "sort" in one else None,
        limit=_number(one, "limit", range(1, MAX_LIMIT + 1)),
        every_ms=_number(one, "every", EVERY),
        progress=_progress(one),
        checkpoints=_flag(one, "checkpoints", default=True),
    )


def _progress(one: Mapping[str, str]) -> bool:
    progress = _flag(one, "progress", default=False)
    if progress and not _flag(one, "checkpoints", default=True):
        raise InvalidParameter("progress=1 sends checkpoints, and checkpoints=0 forbids them")
    return progress


def _namespaces(known: Namespaces, stream: str | None, names: Sequence[str]) -> frozenset[str] | None:
    if stream is not None:
        if names:
            raise InvalidParameter("ns works only with /stream; here the path names the collection")
        return known.only([stream])
    return known.only(names) if names else None


def _format(text: str | None, *, several: bool) -> Format:
    """Parse `format`. `ns` implies the envelope, because a plain frame does not name its collection."""
    if text is None:
        return Format.ENVELOPE if several else Format.PLAIN
    format = _choice(Format, text, "format")
    if several and format is Format.PLAIN:
        raise InvalidParameter("ns needs format=envelope: a plain frame does not name its collection")
    return format


def _filter(text: str) -> Filter | None:
    filter = Filter.parse(text)
    return None if filter.is_empty else filter


def _operations(text: str) -> frozenset[str] | None:
    names = text.split(",")
    for name in names:
        if name not in OPERATIONS:
            raise InvalidParameter(f"ops: {name[:50]!r} is not one of {', '.join(OPERATIONS)}")
    wanted = frozenset(names)
    return None if wanted == frozenset(OPERATIONS) else wanted


def _ids(texts: Sequence[str]) -> frozenset[Key]:
    """Return the keys of every `_id` that the texts can stand for.

    24 hexadecimal digits stand for an ObjectId. Any other text stands for itself, and also for the integer or
    the UUID that it spells.
    """
    keys: set[Key] = set()
    for text in texts:
        meanings: list[object] = [text]
        if HEX_24.fullmatch(text):
            meanings = [ObjectId(text)]
        elif _WHOLE_NUMBER.fullmatch(text) and int(text) in LONG:
            meanings.append(int(text))
        elif UUID_FORM.fullmatch(text):
            meanings.append(UUID(text))
        for meaning in meanings:
            keys |= index_keys({"_id": meaning}, "_id")
    return frozenset(keys)


def _choice(kind: type[Choice], text: str, name: str) -> Choice:
    try:
        return kind(text)
    except ValueError:
        raise InvalidParameter(f"{name} is one of {', '.join(kind)}, got {text[:50]!r}") from None


def _number(one: Mapping[str, str], name: str, allowed: range) -> int:
    """Return the value of a parameter; 0 if it is not given."""
    text = one.get(name)
    if text is None:
        return 0
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) not in allowed:
        bounds = f"{allowed[0]:,} to {allowed[-1]:,}"
        raise InvalidParameter(f"{name} is a whole number from {bounds}, got {text[:50]!r}")
    return int(text)


def _flag(one: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = one.get(name)
    if text is None:
        return default
    if text not in ("0", "1"):
        raise InvalidParameter(f"{name} is 0 or 1, got {text[:50]!r}")
    return text == "1"
