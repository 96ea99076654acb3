"""What the driver's errors mean: whose fault, whether it will pass, and what to do."""

from __future__ import annotations

import re
from typing import Any

from pymongo.errors import (
    ConfigurationError,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from brook.errors import OperatorError

# Codes of the server, from its error_codes.yml.
UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
CHANGE_STREAM_FATAL = 280
CHANGE_STREAM_HISTORY_LOST = 286
BSON_OBJECT_TOO_LARGE = 10334

# MongoDB quotes resume tokens in its messages, and a token holds its document's _id.
_TOKEN = re.compile(r"82[0-9A-F]{16,}")

STANDALONE = (
    "this mongod is a standalone, and change streams need a replica set: restart it with "
    "--replSet rs0, then run rs.initiate() once in mongosh (one node is enough)"
)
_NOT_INITIATED = "this mongod is a replica set that was not set up yet: run rs.initiate() once in mongosh"
_MALFORMED = (
    "the MongoDB URI is malformed: it reads mongodb://[user:password@]host[:port]/[?options], "
    "with every special character of user and password percent-encoded"
)


def code(error: PyMongoError) -> int | None:
    """The server's code of an error; None when it was not the server that failed."""
    return error.code if isinstance(error, OperationFailure) else None


def is_lost(error: PyMongoError) -> bool:
    """Whether a change stream can never go on from where it was."""
    return code(error) in (CHANGE_STREAM_FATAL, CHANGE_STREAM_HISTORY_LOST) or error.has_error_label(
        "NonResumableChangeStreamError"
    )


def one_line(error: PyMongoError) -> str:
    """An error for a log line: its kind, and the beginning of its text."""
    text = _TOKEN.sub("82...", str(error)).partition(", full error")[0].partition(", Timeout:")[0]
    return f"{type(error).__name__}: {text[:200]}"


def malformed(error: Exception, uri: str) -> OperatorError:
    """A URI that the driver does not take. Its own words may hold a piece of the password."""
    return OperatorError(_MALFORMED if "@" in uri else f"{_MALFORMED}; {error}")


def operator_error(error: PyMongoError, client: Any, database: str) -> OperatorError:
    """Why the source could not be opened, and what to do."""
    if isinstance(error, ServerSelectionTimeoutError):
        return OperatorError(_unreachable(error, client))
    match code(error):
        case 18:
            return OperatorError(
                "MongoDB refused the user or the password of the URI; check both, and that authSource "
                "names the database in which the user was created"
            )
        case 13:
            return OperatorError(
                f"the user may not watch the database {database}: it needs find and changeStream there; "
                f'db.grantRolesToUser(USER, [{{role: "read", db: "{database}"}}]) gives both'
            )
    if isinstance(error, (InvalidURI, ConfigurationError, InvalidName)):
        return OperatorError(f"{_MALFORMED}; {one_line(error)}")
    return OperatorError(f"MongoDB cannot be used: {one_line(error)}")


def _unreachable(error: ServerSelectionTimeoutError, client: Any) -> str:
    servers = client.topology_description.server_descriptions().values()
    if any(server.server_type_name == "RSGhost" for server in servers):
        return _NOT_INITIATED
    hosts = ", ".join(f"{host}:{port}" for host, port in client.topology_description.server_descriptions())
    return (
        f"cannot reach MongoDB at {hosts}: check that it runs and that the URI is right "
        f"({str(error).partition(',')[0].partition(' (configured timeouts')[0][:200]})"
    )
