"""Warnings at the start: what everybody can read without access rules, and the names that rules refuse."""

from __future__ import annotations

import ipaddress
import socket

from brook.settings import Settings

_PAGES = "every web page that a browser there has open (CORS *)"


def exposure(settings: Settings) -> dict[str, str] | None:
    """Return `readers`, `readable` and `remedy`, as words for the log. None if only programs on this machine
    can read.
    """
    readers, remedies = [], []
    if is_loopback(settings.host):
        readers.append("every program on this machine")
    else:
        readers.append(f"everyone who can reach port {settings.port} of this machine")
        remedies.append("--host localhost shuts out the network")
    if "*" in settings.cors_origin:
        readers.append(_PAGES)
        remedies.append("--cors-origin with the origins of your pages, or '', shuts out all other pages")
    if not remedies:
        return None
    return {"readers": " and ".join(readers), "readable": _readable(settings), "remedy": "; ".join(remedies)}


def unnamed_host(settings: Settings) -> str | None:
    """Return a warning for a server with access rules: it listens to the network, and knows no public name.

    None if it is named, or on this machine only.
    """
    if settings.allowed_host or is_loopback(settings.host):
        return None
    names = ["localhost", "addresses"]
    if not _is_address(settings.host):
        names.append(settings.host)
    return (
        f"with access rules, the server answers only to {' and '.join(names)}, and with 421 foreign-host to "
        "any other name: give the name that clients use with --allowed-host"
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True if only this machine can reach what listens at a host. Asks the system for a name's addresses."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # to listen there will fail, with a better message
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _readable(settings: Settings) -> str:
    names = [f"{settings.database}.{name}" for name in settings.collection]
    return ", ".join([*names, *settings.namespace])
