"""The readers that a server without access rules has, and what they can read: for a warning at the start."""

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
