"""The port: bind it, listen on it, and explain why it cannot be had."""

from __future__ import annotations

import errno
import logging
import socket
import warnings

import tornado.netutil
import tornado.web

from brook.errors import OperatorError
from brook.settings import Settings
from handlers.acceptor import Acceptor, Requests
from handlers.descriptors import Descriptors

log = logging.getLogger("brook")

# How many clients may wait to be accepted: after a restart they all come at once. The kernel's own
# bound (net.core.somaxconn) applies too.
BACKLOG = 8192

# A request here is a line and some headers; what a client sends after that is not read.
REQUEST_MAX_BYTES = 64 * 1024

# How long a client that says nothing is left to the kernel, where it takes no descriptor of this process.
DEFER_SECONDS = 5

# How long a request's head may take, and a connection may wait for its next request.
HEAD_SECONDS = 60.0

# How long its body may take. No request here needs one.
BODY_SECONDS = 10.0

# What the kernel holds for a client that reads nothing. Without a bound that is 4 MB (net.ipv4.tcp_wmem), and
# a thousand such clients press on the memory of every connection of the machine. With this the kernel takes
# no more before something was sent; what waits in this process is mostly the same bytes for all clients.
UNSENT_BYTES = 64 * 1024

# The same for a client that acknowledges nothing. The kernel doubles it, for structures of its own.
SEND_BUFFER_BYTES = 256 * 1024


def listen(
    settings: Settings,
    app: tornado.web.Application,
    descriptors: Descriptors,
    *,
    head_seconds: float = HEAD_SECONDS,
    body_seconds: float = BODY_SECONDS,
) -> Acceptor:
    """Accept clients for an application. Raises OperatorError when the port cannot be had."""
    logging.getLogger("tornado.general").addFilter(_without_values)
    sockets = bind(settings, reuse_port=settings.processes > 1)
    requests = Requests(
        app,
        # What is too long, and a read more, has to fit into the buffer: else Tornado logs a traceback.
        max_buffer_size=2 * REQUEST_MAX_BYTES,
        chunk_size=REQUEST_MAX_BYTES // 4,
        max_header_size=REQUEST_MAX_BYTES,
        max_body_size=REQUEST_MAX_BYTES,
        idle_connection_timeout=head_seconds,
        body_timeout=body_seconds,
    )
    acceptor = Acceptor(sockets, app, requests, descriptors)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("listening at http://%s:%d", name, sockets[0].getsockname()[1])
    return acceptor


def _without_values(record: logging.LogRecord) -> bool:
    """Take out of a line about a malformed request what it quotes: that may be a token or an id."""
    if record.msg == "Malformed HTTP message from %s: %s" and isinstance(record.args, tuple):
        record.msg, record.args = "Malformed HTTP message from %s", record.args[:1]
    return True


def bind(settings: Settings, *, reuse_port: bool) -> list[socket.socket]:
    """Bind the configured address. Raises OperatorError, with a message that says what to do."""
    host, port = settings.host, settings.port
    with warnings.catch_warnings():
        # Tornado leaves a socket that it could not bind to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            sockets = tornado.netutil.bind_sockets(port, host, backlog=BACKLOG, reuse_port=reuse_port)
        except socket.gaierror:
            problem = f"--host {host!r} is no address of this machine"
        except OSError as error:
            problem = _cannot_bind(error, host, port)
        else:
            for bound in sockets:
                _set_options(bound, settings.write_timeout_seconds)
            return sockets
    raise OperatorError(problem)


def _set_options(listening: socket.socket, stuck_seconds: float) -> None:
    """Set the options of all clients' sockets: one that is accepted has those of the listening one."""
    # Nagle's algorithm would hold back an event until the one before it is acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # A connection is accepted when its request has come, which is then served at once.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A peer that vanished without a word: the kernel would go on trying for a quarter of an hour.
        # Twice the list's own patience, which should come first: it can say why.
        milliseconds = round(stuck_seconds * 2000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _cannot_bind(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use: stop what listens there, or choose another with --port"
        case errno.EACCES:
            return f"port {port} needs elevated privileges: choose one above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"--host {host!r} is no address of this machine"
    return f"cannot listen at {host} port {port}: {error.strerror}"
