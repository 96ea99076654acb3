"""The meaning of the driver's errors: the cause, the remedy, and if it is of use to try again."""

from __future__ import annotations

import re
from typing import Any

from pymongo.errors import (
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from brook.errors import OperatorError
from brook.namespaces import Namespaces

# Codes of the server, from its error_codes.yml.
UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
CHANGE_STREAM_FATAL = 280
CHANGE_STREAM_HISTORY_LOST = 286
BSON_OBJECT_TOO_LARGE = 10334

# A read at a cluster time that is outside of MongoDB's window (SnapshotTooOld), or before a change of the
# collection's catalog entry (SnapshotUnavailable), or that this server does not know (InvalidOptions).
NO_SNAPSHOT = frozenset({239, 246, 72})

# MongoDB quotes resume tokens in its messages, and a token holds its document's _id.
_TOKEN = re.compile(r"82[0-9A-F]{16,}")

STANDALONE = (
    "this mongod is a standalone, and change streams need a replica set: restart it with "
    "--replSet rs0, then run rs.initiate() once in mongosh (one node is enough)"
)
NOT_INITIATED = "this mongod is a replica set that was not set up yet: run rs.initiate() once in mongosh"
_REFUSED = (
    "MongoDB refused the user or the password of the URI; check both, and that authSource names the "
    "database in which the user was created"
)


def code(error: PyMongoError) -> int | None:
    """The server's code of an error; None if the error is not from the server."""
    return error.code if isinstance(error, OperationFailure) else None


def is_lost(error: PyMongoError) -> bool:
    """True if a change stream can never continue at its resume token."""
    return code(error) in (CHANGE_STREAM_FATAL, CHANGE_STREAM_HISTORY_LOST) or error.has_error_label(
        "NonResumableChangeStreamError"
    )


def one_line(error: PyMongoError) -> str:
    """An error for a log line: its kind, and the beginning of its text."""
    text = _TOKEN.sub("82...", str(error)).partition(", full error")[0].partition(", Timeout:")[0]
    return f"{type(error).__name__}: {text[:200]}"


def operator_error(error: PyMongoError, client: Any, namespaces: Namespaces) -> OperatorError:
    """The reason why the source could not be opened, with the remedy."""
    if isinstance(error, ServerSelectionTimeoutError):
        return OperatorError(_unreachable(error, client.topology_description))
    if code(error) == AUTHENTICATION_FAILED:
        return OperatorError(_REFUSED)
    if code(error) == UNAUTHORIZED:
        return OperatorError(_unauthorized(error, namespaces))
    return OperatorError(f"MongoDB cannot be used: {one_line(error)}")


def _unauthorized(error: PyMongoError, namespaces: Namespaces) -> str:
    if "requires authentication" in str(error):
        return "MongoDB asks for a user and a password: mongodb://user:password@host:port/"
    if len(namespaces.by_database) > 1:
        return (
            "the user may not watch several databases: that takes find and changeStream on all of them; "
            'db.grantRolesToUser(USER, [{role: "readAnyDatabase", db: "admin"}]) gives both'
        )
    database = namespaces.default
    return (
        f"the user may not watch the database {database}: it needs find and changeStream there; "
        f'db.grantRolesToUser(USER, [{{role: "read", db: "{database}"}}]) gives both'
    )


def _unreachable(error: ServerSelectionTimeoutError, topology: Any) -> str:
    servers = topology.server_descriptions()
    if any(server.server_type_name == "RSGhost" for server in servers.values()):
        return NOT_INITIATED
    if not servers:  # the driver drops servers that are not members of the URI's replica set
        return (
            f"there is no member of the replica set {topology.replica_set_name!r} where the URI says: "
            "check its replicaSet= and its hosts. A standalone mongod becomes one when it is restarted with "
            f"--replSet {topology.replica_set_name} and rs.initiate() is run once in mongosh"
        )
    hosts = ", ".join(f"{host}:{port}" for host, port in servers)
    why = str(error).partition(",")[0].partition(" (configured timeouts")[0][:200]
    # MongoDB answers a client without TLS, or without a required certificate, by closing the connection.
    tls = "; if it wants TLS, add tls=true and tlsCAFile= to the URI, and tlsCertificateKeyFile= for a client"
    remedy = f"{tls} certificate" if why.endswith("connection closed") else ""
    return f"cannot reach MongoDB at {hosts}: check that it runs and that the URI is right ({why}){remedy}"
