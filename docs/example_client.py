"""A client in Python, with httpx: it prints each change once, across cuts, restarts and quiet times.

    python docs/example_client.py http://localhost:3333 creatures '{"type": "crawdad"}'

`docs/clients.md` explains it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse

# httpx gives up after 5 seconds of silence; the server's keep-alive comes after 15. Two may be late.
TIMEOUT = httpx.Timeout(5, read=2.5 * 15)
LONGEST_WAIT_SECONDS = 30


def changes(base: str, stream: str, token: str = "", **parameters: Any) -> Iterator[dict[str, Any]]:
    """The changes of a stream, for ever. Raises httpx.HTTPStatusError if the server refuses it for good."""
    position, retry, failures = "", 1.0, 0
    parameters = {"format": "envelope", **parameters}
    with httpx.Client(timeout=TIMEOUT) as client:
        while True:
            headers = {"Last-Event-ID": position} if position else {}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            try:
                with httpx_sse.connect_sse(
                    client, "GET", f"{base}/stream/{stream}", params=parameters, headers=headers
                ) as source:
                    raise_if_refused(source.response)
                    for event in source.iter_sse():
                        retry = event.retry / 1000 if event.retry else retry
                        # A checkpoint is a block without data: httpx-sse yields it as an empty event.
                        if event.data and event.event not in ("bye", "problem", "feed"):
                            yield {"op": event.event, **json.loads(event.data)}
                        position, failures = event.id, 0
            except httpx.TransportError:
                failures += 1
            time.sleep(random.uniform(0, min(LONGEST_WAIT_SECONDS, retry * 2 ** min(failures, 9))))


def raise_if_refused(response: httpx.Response) -> None:
    """A 4xx is for good. A 5xx, such as a proxy's while the server restarts, passes like a cut."""
    if response.is_client_error:
        response.read()
        raise httpx.HTTPStatusError(response.text, request=response.request, response=response)
    if response.is_error:
        raise httpx.RemoteProtocolError(f"status {response.status_code}", request=response.request)


if __name__ == "__main__":
    base, stream, *rest = sys.argv[1:]
    for change in changes(base, stream, **({"filter": rest[0]} if rest else {})):
        print(json.dumps(change), flush=True)  # noqa: T201
