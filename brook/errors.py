"""The project's exceptions, grouped by fault. Handlers map the client's faults to HTTP statuses."""

from __future__ import annotations


class BrookError(Exception):
    """Base class of the project's exceptions. The message is one line: the fault and its remedy."""


class OperatorError(BrookError):
    """The server cannot run as configured. `server.py` prints the message and exits with 1."""


class SettingsError(OperatorError):
    """A setting has an invalid value. `server.py` exits with 2, as for any usage error."""


class ClientError(BrookError):
    """A request is refused. `code` is the machine-readable name of the problem."""

    code = "bad-request"
    at = ""
    """The faulty part of the request's body; empty if the fault is not in one part."""
    of = ""
    """The tag of the faulty subscription in a bundle that is open; empty if the fault is not in one."""


class BadRequest(ClientError):
    """The body of a request is malformed."""


class InvalidParameter(ClientError):
    """A query parameter is unknown, repeated or malformed."""

    code = "invalid-parameter"


class InvalidFilter(ClientError):
    """A filter is malformed, too large, or uses an unsupported operator."""

    code = "invalid-filter"


class InvalidId(ClientError):
    """An event id is not one that this source issues."""

    code = "invalid-id"


class UnknownStream(ClientError):
    """A request names a stream that the operator did not configure."""

    code = "unknown-stream"


class Unauthenticated(ClientError):
    """A request needs a token, or a token that is accepted."""

    code = "unauthenticated"


class TokenInvalid(Unauthenticated):
    """A token cannot be read, or is not signed as the server expects."""

    code = "token-invalid"


class TokenExpired(Unauthenticated):
    """A token was valid and is no longer."""

    code = "token-expired"


class Forbidden(ClientError):
    """The client is known, and not allowed to have this."""

    code = "forbidden"


class MissingClaim(Forbidden):
    """A rule needs a claim that the client does not have."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"{reference} is missing")
        self.reference = reference


class NotFound(ClientError):
    """No resource has this path."""

    code = "not-found"


class UriTooLong(ClientError):
    """The path and query of a request exceed the operator's bound."""

    code = "uri-too-long"


class BodyTooLarge(ClientError):
    """The body of a request exceeds the server's bound."""

    code = "body-too-large"


class ForeignHost(ClientError):
    """A request is for a host name that is not the server's."""

    code = "foreign-host"


class SnapshotTooLarge(ClientError):
    """A result set has more documents than the operator allows."""

    code = "snapshot-too-large"


class Unavailable(ClientError):
    """The server cannot serve the stream yet, or no longer. The client should retry."""


class NotReady(Unavailable):
    """The feed is not running."""

    code = "not-ready"


class Draining(Unavailable):
    """The server is stopping."""

    code = "draining"


class TooManyConnections(Unavailable):
    """The server, the client's address or its subject has the maximum number of streams or subscriptions."""

    code = "too-many-connections"


class SnapshotUnavailable(BrookError):
    """A collection cannot be read at a position. It may be readable at a newer one."""


class FetchFailed(BrookError):
    """Another server, such as that of the published keys, has not answered, or not with a usable answer."""


class CannotResume(BrookError):
    """The source's log cannot be read from a position. The subscriber receives a `reset`."""


class HistoryLost(CannotResume):
    """The log no longer contains the position."""


class UnknownPosition(CannotResume):
    """The log never contained the position."""
