"""What can go wrong, by whose fault it is. Handlers map the client's faults to HTTP statuses."""

from __future__ import annotations


class BrookError(Exception):
    """The root of this project's errors; its message is one line that says what and what to do."""


class OperatorError(BrookError):
    """The server cannot run as it was asked to; `server.py` prints the message and exits 1."""


class SettingsError(OperatorError):
    """A setting has a value that cannot be meant; `server.py` exits 2, as for any usage error."""


class ClientError(BrookError):
    """A request cannot be served as it stands. `code` is the problem's machine-readable name."""

    code = "bad-request"


class InvalidParameter(ClientError):
    """A query parameter is unknown, repeated or malformed."""

    code = "invalid-parameter"


class InvalidFilter(ClientError):
    """A filter that is malformed, too large, or asks for more than filters can."""

    code = "invalid-filter"


class InvalidId(ClientError):
    """An event id that this source never gave out."""

    code = "invalid-id"


class UnknownStream(ClientError):
    """A stream that the operator did not name."""

    code = "unknown-stream"


class NotFound(ClientError):
    """A path that leads nowhere."""

    code = "not-found"


class Unavailable(ClientError):
    """The server cannot serve the stream now, but will; the client should come again."""


class NotReady(Unavailable):
    """The feed does not run."""

    code = "not-ready"


class Draining(Unavailable):
    """The server is stopping."""

    code = "draining"


class TooManyConnections(Unavailable):
    """As many clients as the system allows are connected."""

    code = "too-many-connections"


class CannotResume(BrookError):
    """The source's log cannot be read from a position; the subscriber is told with a `reset`."""


class HistoryLost(CannotResume):
    """The position was in the log once, and is no longer."""


class UnknownPosition(CannotResume):
    """The position never was in this log."""
