"""The port: bind it, listen on it, and explain a failure."""

from __future__ import annotations

import dataclasses
import errno
import logging
import socket
import warnings
from typing import Any

import tornado.netutil
import tornado.web

from brook.errors import OperatorError
from brook.host import BACKLOG
from brook.settings import Settings
from handlers.acceptor import Acceptor, Requests
from handlers.bodies import BODY_MAX_BYTES
from handlers.certificate import Certificate
from handlers.descriptors import Descriptors
from handlers.limits import Limits

log = logging.getLogger("brook")


# Time for which the kernel holds back a connection without a request, so that it takes no descriptor of this
# process.
DEFER_SECONDS = 5

# Bytes that the kernel holds for a client that reads nothing. The default is up to 4 MB (net.ipv4.tcp_wmem),
# and a thousand such clients use up the memory for all connections of the machine. With this bound the rest
# waits in this process, where most clients share the same bytes.
UNSENT_BYTES = 64 * 1024

# Bytes that the kernel holds for a client that acknowledges nothing. The kernel doubles the number, for its
# own structures.
SEND_BUFFER_BYTES = 256 * 1024


def listen(
    settings: Settings,
    app: tornado.web.Application,
    descriptors: Descriptors,
    limits: Limits | None = None,
) -> Acceptor:
    """Accept clients for an application. Raises OperatorError if the port is not available, or the
    certificate not usable.
    """
    logging.getLogger("tornado.general").addFilter(_without_values)
    certificate = Certificate.of(settings)
    if certificate is not None:
        certificate.renew_on_signal()
    sockets = bind(settings, reuse_port=settings.processes > 1)
    requests = Requests(app, **bounds(settings))
    acceptor = Acceptor(
        sockets,
        app,
        requests,
        descriptors,
        limits or Limits(settings),
        settings.header_max_bytes,
        certificate,
    )
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = sockets[0].getsockname()[1]
    scheme = "http" if certificate is None else "https"
    log.info("listening at %(scheme)s://%(host)s:%(port)d", {"scheme": scheme, "host": name, "port": port})
    return acceptor


def choose_port(settings: Settings) -> Settings:
    """Check that the port is free before anything is started, and replace port 0 by a free one.

    Processes that share a port (SO_REUSEPORT) would not notice another server that shares it too. Raises
    OperatorError.
    """
    if settings.metrics_port:
        own_port = dataclasses.replace(settings, port=settings.metrics_port)
        for bound in bind(own_port, reuse_port=False, option="--metrics-port"):
            bound.close()
    sockets = bind(settings, reuse_port=False)
    port = sockets[0].getsockname()[1]
    for bound in sockets:
        bound.close()
    return dataclasses.replace(settings, port=port)


def bounds(settings: Settings) -> dict[str, Any]:
    """Return the bounds of a request, as arguments of HTTPServer."""
    largest = max(settings.header_max_bytes, BODY_MAX_BYTES)
    return {
        # A head that is too long, and one more read, must fit into the buffer. Otherwise Tornado logs a
        # traceback.
        "max_buffer_size": 2 * largest,
        "chunk_size": largest // 4,
        "max_header_size": settings.header_max_bytes,
        "max_body_size": BODY_MAX_BYTES,
        "idle_connection_timeout": settings.request_timeout_seconds,
        "body_timeout": settings.request_timeout_seconds,
    }


def _without_values(record: logging.LogRecord) -> bool:
    """Remove the quoted part of a request from Tornado's line about a malformed one: it may be a token."""
    if record.msg == "Malformed HTTP message from %s: %s" and isinstance(record.args, tuple):
        record.msg, record.args = "Malformed HTTP message from %s", record.args[:1]
    return True


def bind(settings: Settings, *, reuse_port: bool, option: str = "--port") -> list[socket.socket]:
    """Bind the configured address. Raises OperatorError, with the remedy in its message."""
    host, port = settings.host, settings.port
    with warnings.catch_warnings():
        # Tornado leaves a socket that it could not bind to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            sockets = tornado.netutil.bind_sockets(port, host, backlog=BACKLOG, reuse_port=reuse_port)
        except socket.gaierror:
            problem = f"--host {host!r} is not an address of this machine"
        except OSError as error:
            problem = _cannot_bind(error, host, port, option)
        else:
            for bound in sockets:
                _set_options(bound, settings.write_timeout_seconds)
            return sockets
    raise OperatorError(problem)


def _set_options(listening: socket.socket, stuck_seconds: float) -> None:
    """Set the options of all clients' sockets. An accepted socket inherits them from the listening one."""
    # Nagle's algorithm would hold back an event until the one before it is acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # A connection is accepted when its request has arrived, and the request is then served at once.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Without this, the kernel would keep trying to reach a vanished peer for a quarter of an hour. Twice
        # the list's own time-out, which should come first: the log then has the reason.
        milliseconds = round(stuck_seconds * 2000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _cannot_bind(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use: stop the program that uses it, or choose another with {option}"
        case errno.EACCES:
            return f"port {port} needs elevated privileges: choose one above 1023 with {option}"
        case errno.EADDRNOTAVAIL:
            return f"--host {host!r} is not an address of this machine"
    return f"cannot listen at {host} port {port}: {error.strerror}"
