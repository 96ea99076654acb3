"""The part of a request that identifies the client."""

from __future__ import annotations

from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from brook.admission import Credentials, Transport
from brook.errors import BadRequest, Forbidden
from handlers.cors import Cors
from handlers.proxies import Proxies

QUERY_PARAMETER = "access_token"

NONE = Credentials()

_SCHEME = "bearer "


class CredentialReader:
    """Finds a token in the header, the cookie or the query, in this order."""

    def __init__(self, transport: Transport | None, cors: Cors, proxies: Proxies) -> None:
        self._transport = transport
        self._cors = cors
        self._proxies = proxies

    @property
    def takes_query(self) -> bool:
        """True if the query parameter `access_token` is allowed."""
        return self._transport is not None and self._transport.query

    def read(self, request: HTTPServerRequest) -> Credentials:
        """Return the credentials. Raises Forbidden for a cookie that a page of a foreign origin sends."""
        if self._transport is None:
            return NONE
        authorization = request.headers.get("Authorization", "")
        if authorization[: len(_SCHEME)].lower() == _SCHEME:
            token = authorization[len(_SCHEME) :].strip()
        else:
            token = self._cookie(request) or self._query(request)
        cookie = request.headers.get("Cookie", "") if self._transport.any_cookie else ""
        if cookie and not (token or authorization):
            self._check_origin(request)
        address = ""
        if self._transport.any_cookie:
            forwarded = request.headers.get("X-Forwarded-For")
            address = self._proxies.client(request.remote_ip or "", forwarded)
        return Credentials(token, authorization, cookie, address)

    def _cookie(self, request: HTTPServerRequest) -> str:
        assert self._transport is not None
        if not self._transport.cookie or self._transport.cookie not in request.cookies:
            return ""
        self._check_origin(request)
        return request.cookies[self._transport.cookie].value

    def _query(self, request: HTTPServerRequest) -> str:
        values = request.query_arguments.get(QUERY_PARAMETER, []) if self.takes_query else []
        if len(values) > 1:
            raise BadRequest(f"the parameter {QUERY_PARAMETER!r} is given {len(values)} times")
        return values[0].decode(errors="replace") if values else ""

    def _check_origin(self, request: HTTPServerRequest) -> None:
        """Raise Forbidden for a request of another site's page: the browser adds the cookie by itself."""
        origin = request.headers.get("Origin")
        if origin is not None:
            # The scheme is not compared: behind a proxy, this server does not know its own.
            if self._cors.names(origin) or _host(origin) == request.host:
                return
        elif request.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
            return
        raise Forbidden(
            "pages of this origin may not use the cookie; the operator can allow the origin: --cors-origin"
        )


def _host(origin: str) -> str:
    """The host and port of an origin; empty for a malformed one."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
