"""Requests to a server with access rules."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.error import HTTPError

from tests.support.processes import ServerProcess

SECRET = "a-secret-of-the-tests-that-is-long-enough"


def get(server: ServerProcess, path: str, *, guarded: bool = True, **headers: str) -> tuple[int, Any]:
    """Status and JSON of an answer that is no stream."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(server.url + path, headers=names))
    except HTTPError as error:
        answer = error
    with answer:
        if answer.status != 200:
            assert answer.headers["Content-Type"] == "application/problem+json"
        asks = answer.status == 401 or (guarded and answer.status == 200 and path == "/streams")
        assert (answer.headers["WWW-Authenticate"] == "Bearer") == asks
        return answer.status, json.load(answer)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def documents(server: ServerProcess, path: str = "/documents/mine", **headers: str) -> Any:
    status, body = get(server, path, **headers)
    assert status == 200, body
    return body["docs"]
