"""The connection to MongoDB: the URI, checked, and the driver's options."""

from __future__ import annotations

import re
import warnings
from typing import Any

from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from brook.errors import OperatorError

# Without a socket timeout, a network that swallows packets would stall the feed for ever. It must
# be longer than the time for which the server holds a getMore (tail.AWAIT_MS). What the URI
# says goes before these.
_OPTIONS: dict[str, Any] = {
    "appname": "babbling-brook",
    "connectTimeoutMS": 5_000,
    "serverSelectionTimeoutMS": 5_000,
    "socketTimeoutMS": 10_000,
    # Documents stay BSON until somebody listens.
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


def connect(uri: str) -> Any:
    """A client for a URI; it connects when it is first used. Raises OperatorError."""
    _check_form(uri)
    # A URI that names an option keeps its own value.
    options = {name: value for name, value in _OPTIONS.items() if name.lower() not in uri.lower()}
    try:
        with warnings.catch_warnings():
            # The driver only warns of an option that it does not know, and goes on without it.
            warnings.simplefilter("error", UserWarning)
            return AsyncIOMotorClient(uri, **options)
    except (PyMongoError, ValueError, TypeError, UserWarning) as error:
        raise OperatorError(f"the MongoDB URI has an option that cannot be meant: {error}") from None


def _check_form(uri: str) -> None:
    """Raises OperatorError for a URI that the driver cannot take apart.

    Not in the driver's words: they may hold a piece of the password.
    """
    _, _, rest = uri.partition("://")
    after_host = rest[len(re.split(r"[/?]", rest, maxsplit=1)[0]) :]
    try:
        # Behind the host, it can only belong to a password with a special character in it.
        if "@" in after_host:
            raise InvalidURI
        parse_uri(uri, validate=False, warn=False)
    except (PyMongoError, ValueError, TypeError) as error:
        # A mongodb+srv:// URI is looked up to be taken apart; the driver wraps the resolver's error.
        unresolved = type(error.__cause__).__module__.startswith("dns.")
        raise OperatorError(_UNRESOLVED if unresolved else _MALFORMED) from None
