"""The address of a client, also of one behind the operator's proxies."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# The network of one site, such as a home (RFC 6177). Its owner may use any address of it.
_IPV6_PREFIX = 64


class Proxies:
    """The operator's proxies. `X-Forwarded-For` counts only from them: any client can send the header."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._networks = tuple(ip_network(network) for network in trusted)

    def has(self, peer: str) -> bool:
        """True if a connection from this address is a proxy's."""
        return bool(self._networks) and (address := _address(peer)) is not None and self._trusts(address)

    def client(self, peer: str, forwarded: str | None) -> str:
        """The address of the client: the peer, or the nearest address in `X-Forwarded-For` that is not a
        proxy's. Only entries that trusted proxies have added are used.
        """
        if not self._networks:
            return peer
        address = _address(peer)
        hops = (forwarded or "").split(",")
        while address is not None and self._trusts(address) and hops:
            nearer = _address(_without_port(hops.pop().strip()))
            if nearer is None:
                break
            address = nearer
        return peer if address is None else str(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def counted_as(address: str) -> str:
    """The address or network that a client counts as; empty for this machine, which is not counted."""
    if ":" not in address:
        return "" if address.startswith("127.") else address
    found = _address(address)
    if found is None or found.is_loopback:
        return ""
    if isinstance(found, IPv4Address):
        return str(found)
    return str(IPv6Network((found, _IPV6_PREFIX), strict=False))


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket for both kinds reports IPv4 in this form.
    return getattr(address, "ipv4_mapped", None) or address
