"""The table of what survives: its client must notice whatever is lost or repeated, or it says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from bench import survival
from bench.listener import Listener
from bench.servers import Brook
from bench.survival import Outcome, outcome, worst
from sources.sandbox import Sandbox

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def heard(body: bytes, last_id: str = "") -> Iterator[tuple[Listener, bytes]]:
    """A listener that a server has sent this, and its request."""
    requests = []

    def serve() -> None:
        connection, _ = bound.accept()
        with connection:
            requests.append(connection.recv(65536))
            connection.sendall(HEAD + body)

    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=serve)
        thread.start()
        with Listener(bound.getsockname()[1], "/stream", last_id) as listener:
            thread.join()
            listener.wait_for_end()
            yield listener, requests[0]


def test_listener_remembers_what_an_event_source_does():
    body = (
        b': hello\n\nid: a\ndata: {"n":1}\n\nid: b\nevent: reset\ndata: {}\n\nid: c\n\nid: d\ndata: {"n":2}\n'
    )
    with heard(body, "z") as (listener, request):
        assert b"\r\nLast-Event-ID: z\r\n" in request
        assert listener.numbers == [1]
        assert listener.others == {"reset": 1}
        assert listener.last_id == "c", "the last event is not whole"


def test_new_listener_sends_no_id():
    with heard(b'data: {"n": 17}\r\n\r\n') as (listener, request):
        assert b"Last-Event-ID" not in request
        assert (listener.numbers, listener.last_id) == ([17], "")


def frames(*numbers: int) -> bytes:
    return b"".join(b'data: {"n":%d}\n\n' % number for number in numbers)


def test_lost_and_repeated_events_are_counted():
    told = b"event: reset\ndata: {}\n\nevent: bye\ndata: {}\n\n"
    with heard(frames(1, 2, 3)) as (before, _), heard(told + frames(3, 3, 6)) as (after, _):
        assert outcome(before, after, 6) == Outcome(2, 2, frozenset({"reset"}))


def test_worst_of_some_rounds_is_shown():
    nothing, all_lost = Outcome(0, 0, frozenset()), Outcome(9, 0, frozenset())
    told = Outcome(3, 1, frozenset({"reset"}))
    assert worst([nothing, nothing]) == "nothing lost"
    assert worst([all_lost, all_lost]) == "9 lost"
    assert worst([nothing, told]) == "up to 3 lost, up to 1 repeated, told `reset`"


@pytest.mark.mongod
def test_server_is_killed_and_a_reader_stops(monkeypatch):
    """Small sizes: that it works is what this shows."""
    monkeypatch.setattr(survival, "BEFORE", 20)
    monkeypatch.setattr(survival, "MISSED", 20)
    monkeypatch.setattr(survival, "AFTER", 20)
    monkeypatch.setattr(survival, "LARGE_DOCUMENTS", 400)
    nothing = Outcome(0, 0, frozenset())
    brook = Brook("--write-timeout-seconds", "1")
    with Sandbox() as sandbox:
        assert survival.returning(brook, sandbox.uri, survival.stay, second=True) == nothing
        assert survival.returning(brook, sandbox.uri, survival.restart) == nothing
        found = survival.flood(brook, sandbox.uri, stopped=True)
    assert found.others_lost == 0
    assert found.cut_after_seconds is not None
