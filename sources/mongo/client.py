"""The connection to MongoDB: the URI, checked, and the driver's options."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import warnings
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import NetworkTimeout, PyMongoError
from pymongo.uri_parser import parse_uri

from brook.errors import OperatorError

Answer = TypeVar("Answer")

# Maximum time for MongoDB's answer while a client's request waits for it.
ANSWER_SECONDS = 5.0

# The time-outs are for the driver's own requests, such as its pings, from which `cursor.Cursor` learns within
# 8 s that a server hangs, or that the network drops packets. A change stream has no time-out: it may scan the
# log for minutes. An option in the URI overrides the one here.
_OPTIONS: dict[str, Any] = {
    "appname": "babbling-brook",
    "connectTimeoutMS": 5_000,
    "serverSelectionTimeoutMS": 5_000,
    "socketTimeoutMS": 10_000,
    "heartbeatFrequencyMS": 2_500,
    # Documents stay BSON until a subscriber needs them.
    "document_class": RawBSONDocument,
}

_MALFORMED = (
    "the MongoDB URI is malformed: it reads mongodb://[user:password@]host[:port]/[database][?options], "
    "with every special character of user and password percent-encoded"
)
_UNRESOLVED = (
    "the name in the mongodb+srv:// URI cannot be found: check its spelling, and that this machine can "
    "ask DNS for SRV records"
)

# The driver's exceptions for a URI or an option; OSError for a file that an option names.
_UNUSABLE = (PyMongoError, ValueError, TypeError, OSError, UserWarning)


def connect(uri: str) -> Any:
    """Return a client for a URI, which connects when it is first used. Raises OperatorError."""
    logging.getLogger("pymongo.client").addFilter(_in_one_line)
    _check_form(uri)
    try:
        return _client(uri)
    except _UNUSABLE:
        raise OperatorError(_invalid_options(uri)) from None


def _in_one_line(record: logging.LogRecord) -> bool:
    """Log an error of the driver's own tasks without its traceback: it only means that MongoDB is away."""
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args = "MongoDB driver: %s", (record.exc_info[1],)
        record.exc_info = None
    return True


def _client(uri: str) -> Any:
    # A URI that names an option keeps its own value.
    options = {name: value for name, value in _OPTIONS.items() if name.lower() not in uri.lower()}
    with warnings.catch_warnings():
        # The driver only warns of an unknown option, and ignores it.
        warnings.simplefilter("error", UserWarning)
        return AsyncIOMotorClient(uri, **options)


def _invalid_options(uri: str) -> str:
    """Return a message that names the options without which the driver accepts the URI.

    It does not quote the driver: the wording changes, and may contain a value, such as a password.
    """
    base, pairs = _split(uri)
    for count in (1, 2):
        chosen = [
            index
            for removed in itertools.combinations(range(len(pairs)), count)
            if _is_usable(base, [pair for index, pair in enumerate(pairs) if index not in removed])
            for index in removed
        ]
        if chosen:
            names = list(dict.fromkeys(_name(pairs, index) for index in sorted(chosen)))
            if len(names) == 1:
                return f"the MongoDB URI has an invalid option: {names[0]} (check its name and its value)"
            return f"the MongoDB URI has options that are invalid, or exclude each other: {', '.join(names)}"
    return (
        "the MongoDB URI has several invalid options: check each name and each value" if pairs else _MALFORMED
    )


def _split(uri: str) -> tuple[str, list[str]]:
    """Split a URI into the part before its options, and the options, such as `tls=true`."""
    base, _, query = uri.partition("?")
    return base, [pair for pair in re.split("[&;]", query) if pair]


def _is_usable(base: str, pairs: Sequence[str]) -> bool:
    try:
        _client(f"{base}?{'&'.join(pairs)}").close()
    except _UNUSABLE:
        return False
    return True


def _name(pairs: Sequence[str], index: int) -> str:
    """Return the name of an option; its number if it may be the rest of a password with an `&` in it."""
    name = pairs[index].partition("=")[0]
    return name if re.fullmatch("[A-Za-z]{1,50}", name) else f"number {index + 1}"


def _check_form(uri: str) -> None:
    """Raise OperatorError for a URI that the driver cannot parse.

    The message does not quote the driver, which may quote a part of the password.
    """
    _, _, rest = uri.partition("://")
    after_host = rest[len(re.split(r"[/?]", rest, maxsplit=1)[0]) :]
    # An @ after the host can only belong to a password with a special character in it.
    if "@" in after_host:
        raise OperatorError(_MALFORMED)
    try:
        _parse(uri)
    except _UNUSABLE as error:
        # The driver looks up a mongodb+srv:// URI to parse it, and wraps the resolver's error.
        unresolved = type(error.__cause__).__module__.startswith("dns.")
        if unresolved or not _is_well_formed_but_for_options(uri):
            raise OperatorError(_UNRESOLVED if unresolved else _MALFORMED) from None


def _is_well_formed_but_for_options(uri: str) -> bool:
    base, pairs = _split(uri)
    if not pairs or not all("=" in pair for pair in pairs):
        return False
    try:
        _parse(base)
    except _UNUSABLE:
        return False
    return True


def _parse(uri: str) -> None:
    with warnings.catch_warnings():
        # The driver warns of a repeated option, even with `warn=False`.
        warnings.simplefilter("ignore", UserWarning)
        parse_uri(uri, validate=False, warn=False)


async def in_time(answer: Awaitable[Answer]) -> Answer:
    """Await an answer of MongoDB for a request that waits. Raises NetworkTimeout if it takes too long."""
    try:
        return await asyncio.wait_for(answer, ANSWER_SECONDS)
    except TimeoutError as error:
        raise NetworkTimeout(f"MongoDB has not answered for {ANSWER_SECONDS:g} seconds") from error
