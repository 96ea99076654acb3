"""The certificate of the server's own TLS, read from its files at the start and at each SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from typing import NoReturn, Self

from brook.errors import OperatorError
from brook.finding import Finding, Level
from brook.settings import Settings
from handlers import validity
from handlers.tls_connection import TlsSocket

log = logging.getLogger(__name__)

RENEWAL = signal.SIGHUP


class Certificate:
    """The certificate of new connections. Open connections keep the one with which they began."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = certificate
        self._key = key
        self._context = _context(certificate, key)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the configured certificate; None without TLS. Raises OperatorError for unusable files."""
        return cls(settings.tls_cert, settings.tls_key) if settings.tls_cert else None

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return the TLS socket that takes over a connection. Raises OSError if the client has left."""
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def renew_on_signal(self) -> None:
        """Read the files again at each SIGHUP."""
        asyncio.get_running_loop().add_signal_handler(RENEWAL, self._renew)
        # A signal between the first reading and this line would be lost.
        self._renew(quietly=True)

    def _renew(self, *, quietly: bool = False) -> None:
        try:
            self._context = _context(self._certificate, self._key)
        except OperatorError as error:
            log.error("the certificate in use stays: %(problem)s", {"problem": error})
            return
        if not quietly:
            log.info("new connections get the certificate of %(file)s", {"file": self._certificate})
            warn(self._certificate)


def check(settings: Settings) -> tuple[signal.Signals, ...]:
    """Raise OperatorError for unusable files, and warn of a certificate that expires. Return the signals that
    every process must get.
    """
    if Certificate.of(settings) is None:
        return ()
    warn(settings.tls_cert)
    # Until the server listens and reads the files, the signal must not end the process.
    signal.signal(RENEWAL, lambda number, frame: None)
    return (RENEWAL,)


def examine(settings: Settings) -> list[Finding]:
    """Return the findings about the files; none without TLS."""
    try:
        certificate = Certificate.of(settings)
    except OperatorError as error:
        says, _, remedy = str(error).partition(": ")
        return [Finding(Level.ERROR, validity.SUBJECT, says, remedy)]
    return [] if certificate is None else validity.examine(settings.tls_cert)


def warn(path: str) -> None:
    """Log a warning for a certificate that is not valid now, or not for long."""
    for finding in validity.examine(path):
        if finding.level is Level.WARNING:
            log.warning("%(says)s; %(remedy)s", {"says": finding.says, "remedy": finding.remedy})


def _context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a context with the files. Raises OperatorError that names the file and the remedy."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could otherwise make the server repeat the expensive part of a handshake on one connection.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sslsocket_class = TlsSocket
    _check_certificate(_text("--tls-cert", certificate), certificate)
    _text("--tls-key", key)
    try:
        context.load_cert_chain(certificate, key, _refuse_passphrase)
    except _EncryptedKeyError:
        raise OperatorError(
            f"--tls-key {key} is encrypted: give a key without a passphrase, readable by this user alone"
        ) from None
    except ssl.SSLError as error:
        raise OperatorError(_problem(error, certificate, key)) from None
    return context


def _text(option: str, path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read()
    except OSError as error:
        raise OperatorError(
            f"{option} {path} cannot be read ({error.strerror}): give the path of a PEM file that this user "
            "may read"
        ) from None


def _check_certificate(text: str, path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise OperatorError(
            f"--tls-cert {path} holds no certificate: it takes a PEM file, with the server's certificate "
            "first and those of its issuers after it"
        ) from None


def _problem(error: ssl.SSLError, certificate: str, key: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"--tls-key {key} is not the key of the certificate in --tls-cert {certificate}: give the two "
            "files that were made together; the server's own certificate comes first in its file"
        )
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        return f"--tls-cert {certificate} is too weak for this system: {error.reason}; make a stronger one"
    return f"--tls-key {key} holds no private key: it takes a PEM file with the key of --tls-cert"


class _EncryptedKeyError(Exception):
    """The key needs a passphrase. Without a callback, OpenSSL would ask for it on the terminal."""


def _refuse_passphrase() -> NoReturn:
    raise _EncryptedKeyError
