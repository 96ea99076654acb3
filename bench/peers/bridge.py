"""Forwards changes to a server without a MongoDB driver: the floor, nchan or Mercure."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode

import jwt

from bench.changes import batches

Change = dict[str, Any]

# Only between the bridge and the hub of one measurement.
MERCURE_KEY = "a key of the benchmark, of 32 bytes or more"


def pipe(changes: list[Change]) -> None:
    """Write each batch, rendered as frames, in one piece to the output, which the floor reads."""
    frames = [f"id: {change['_id']['_data']}\ndata: {document(change)}\n\n" for change in changes]
    body = "".join(frames).encode()
    sys.stdout.buffer.write(struct.pack("=I", len(body)) + body)
    sys.stdout.buffer.flush()


class Hub:
    """A server that takes each change in a request of its own, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port)

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            answer = self._answer(*self.request(change))
            if answer not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
                raise SystemExit(f"the server answered {answer}")

    def request(self, change: Change) -> tuple[str, str, dict[str, str]]:
        """Return path, body and headers."""
        raise NotImplementedError

    def _answer(self, path: str, body: str, headers: dict[str, str]) -> int:
        """Try again while the server is down: it may still be starting, or be started again."""
        until = time.monotonic() + 30
        while True:
            try:
                self._connection.request("POST", path, body.encode(), headers)
                answer = self._connection.getresponse()
                answer.read()
            except (OSError, HTTPException):
                self._connection.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return answer.status


class Nchan(Hub):
    """nchan creates the event ids."""

    def request(self, change: Change) -> tuple[str, str, dict[str, str]]:
        return "/publish", document(change), {}


class Mercure(Hub):
    """The event's id is the resume token, so that it is the same at each hub."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        token = jwt.encode({"mercure": {"publish": ["*"]}}, MERCURE_KEY, "HS256")
        form = "application/x-www-form-urlencoded"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": form}

    def request(self, change: Change) -> tuple[str, str, dict[str, str]]:
        form = {"topic": "creatures", "id": change["_id"]["_data"], "data": document(change)}
        return "/.well-known/mercure", urlencode(form), self._headers


def document(change: Change) -> str:
    return json.dumps(change["fullDocument"], default=str, separators=(",", ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--nchan-port", type=int, help="post to nchan")
    parser.add_argument("--mercure-port", type=int, help="post to Mercure; without any port, write out")
    options = parser.parse_args()
    take = pipe
    if options.nchan_port:
        take = Nchan(options.nchan_port).take
    elif options.mercure_port:
        take = Mercure(options.mercure_port).take
    for changes in batches(options.uri, options.database, options.collection):
        if changes:
            take(changes)


if __name__ == "__main__":
    main()
