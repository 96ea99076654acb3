"""Forwards changes to a server without a MongoDB driver: the floor or nchan."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

from bench.changes import batches

Change = dict[str, Any]


def pipe(changes: list[Change]) -> None:
    """Write each batch, rendered as frames, in one piece to the output, which the floor reads."""
    frames = [f"id: {change['_id']['_data']}\ndata: {document(change)}\n\n" for change in changes]
    body = "".join(frames).encode()
    sys.stdout.buffer.write(struct.pack("=I", len(body)) + body)
    sys.stdout.buffer.flush()


def post(changes: list[Change], nchan: HTTPConnection) -> None:
    """Post each change to nchan in its own request, over one connection. nchan creates the event ids."""
    for change in changes:
        nchan.request("POST", "/publish", document(change).encode())
        answer = nchan.getresponse()
        answer.read()
        if answer.status not in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            raise SystemExit(f"nchan answered {answer.status}")


def document(change: Change) -> str:
    return json.dumps(change["fullDocument"], default=str, separators=(",", ":"))


def connect(port: int) -> HTTPConnection:
    """Connect to nginx, which may still be starting."""
    nchan = HTTPConnection("127.0.0.1", port)
    for _ in range(100):
        try:
            nchan.connect()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return nchan
    raise SystemExit(f"nothing listens at port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--nchan-port", type=int, help="post to nchan; without it, write to the output")
    options = parser.parse_args()
    nchan = connect(options.nchan_port) if options.nchan_port else None
    for changes in batches(options.uri, options.database, options.collection):
        if changes and nchan:
            post(changes, nchan)
        elif changes:
            pipe(changes)


if __name__ == "__main__":
    main()
