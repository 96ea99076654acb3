"""The check of a request's `Host`, against DNS rebinding.

The author of a page may point the page's host name to 127.0.0.1. The browser then takes the server on this
machine for the page's own server, and CORS does not apply. Only the `Host` header shows the foreign name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any

import tornado.web
from tornado.httputil import HTTPServerRequest

from brook.errors import BodyTooLarge, ForeignHost, UriTooLong
from brook.exposure import is_loopback
from brook.settings import Settings
from handlers.base import ProblemHandler
from handlers.cors import Cors


class Hosts:
    """The host names of this server. `localhost` and all IP addresses are always among them."""

    def __init__(self, names: Collection[str]) -> None:
        self._any = "*" in names
        self._names = frozenset({"localhost", "127.0.0.1", "[::1]", *(name.lower() for name in names)})

    @classmethod
    def of(cls, settings: Settings, *, guarded: bool = False) -> Hosts:
        """Return the configured names; any name if there are none, no access rules guard the server, and the
        network reaches it.
        """
        if not settings.allowed_host and not guarded and not is_loopback(settings.host):
            return cls("*")
        return cls({settings.host, *settings.allowed_host})

    def has(self, name: str) -> bool:
        """True if a request may be for this name, in lower case."""
        return self._any or name in self._names or self._is_ours(name.rstrip("."))

    def _is_ours(self, name: str) -> bool:
        # Browsers resolve localhost and all names below it by themselves (RFC 6761). An IP address cannot be
        # pointed elsewhere.
        return name in self._names or name.endswith(".localhost") or _address(name) is not None


class HostApplication(tornado.web.Application):
    """An application that refuses foreign host names and long URLs, before it looks for a route."""

    def __init__(
        self, routes: list[Any], hosts: Hosts, url_max_bytes: int, cors: Cors, **settings: Any
    ) -> None:
        super().__init__(routes, **settings)
        self._hosts = hosts
        self._cors = cors
        self._url_max_bytes = url_max_bytes

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """The handler of the route, or of the refusal."""
        if not self._hosts.has(request.host_name):
            return self.get_handler_delegate(request, ForeignHostHandler, {"cors": Cors(())})
        if len(request.uri or "") > self._url_max_bytes:
            kwargs = {"cors": self._cors, "max_bytes": self._url_max_bytes}
            return self.get_handler_delegate(request, UriTooLongHandler, kwargs)
        return super().find_handler(request, **kwargs)

    def refuse_body(self, request: HTTPServerRequest, max_bytes: int) -> Any:
        """The handler of the refusal of a body that has more than so many bytes."""
        if not self._hosts.has(request.host_name):
            return self.find_handler(request)
        kwargs = {"cors": self._cors, "max_bytes": max_bytes}
        return self.get_handler_delegate(request, BodyTooLargeHandler, kwargs)


class ForeignHostHandler(ProblemHandler):
    """Refuses a request for another host."""

    def prepare(self) -> None:
        """Raise ForeignHost for every method."""
        super().prepare()
        name = self.request.host_name
        known = name if len(name) < 100 else "NAME"
        raise ForeignHost(
            f"this server is not {name[:100]!r}: it answers to localhost, to addresses, and to configured "
            f"names; if this name is its own, start it with --allowed-host {known}"
        )


class UriTooLongHandler(ProblemHandler):
    """Refuses a request with a long URL."""

    def initialize(self, cors: Cors, max_bytes: int) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._max_bytes = max_bytes

    def prepare(self) -> None:
        """Raise UriTooLong for every method."""
        super().prepare()
        raise UriTooLong(
            f"the path and query have {len(self.request.uri or ''):,} bytes, more than {self._max_bytes:,}; "
            "POST /stream takes filters in its body"
        )


class BodyTooLargeHandler(ProblemHandler):
    """Refuses a request with a large body."""

    def initialize(self, cors: Cors, max_bytes: int) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._max_bytes = max_bytes

    def prepare(self) -> None:
        """Raise BodyTooLarge for every method."""
        super().prepare()
        raise BodyTooLarge(
            f"the body has more than {self._max_bytes:,} bytes; a bundle can be sent as several smaller ones"
        )


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
