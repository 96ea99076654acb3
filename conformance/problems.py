"""Rules of refusals: a status, a problem document (RFC 9457) and a code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.stream import Stream
from conformance.target import Answer, Query


def check_problem(answer: Answer, status: int, code: str) -> None:
    """Raise Breach if an answer is not this problem."""
    equal(answer.status, status, "the status")
    kind = answer.headers.get("content-type", "").partition(";")[0]
    equal(kind, "application/problem+json", "the Content-Type")
    body = answer.json()
    expect(isinstance(body, dict), "the body is no JSON object")
    equal(body.get("code"), code, "the code")
    equal(body.get("status"), status, "the status in the body")
    for name in ("type", "title", "detail"):
        expect(isinstance(body.get(name), str) and body[name], f"the problem has no {name}")


def _refused(status: int, code: str, query: Query) -> Callable[[Subject], None]:
    """A check that a stream with these parameters is refused."""

    def check(subject: Subject) -> None:
        check_problem(subject.target.ask("GET", subject.path, query), status, code)

    return check


def _unknown_stream(subject: Subject) -> None:
    answer = subject.target.ask("GET", "/stream/no-such-stream-of-the-conformance-suite")
    # With access rules, a stranger is not even told that much.
    if answer.status != 401:
        check_problem(answer, 404, "unknown-stream")


def _not_found(subject: Subject) -> None:
    check_problem(subject.target.ask("GET", "/no/such/path"), 404, "not-found")


def _method(subject: Subject) -> None:
    answer = subject.target.ask("DELETE", "/stream")
    check_problem(answer, 405, "method-not-allowed")
    expect("GET" in answer.headers.get("allow", ""), "Allow does not name GET")


def _garbage_in_the_header(subject: Subject) -> None:
    # An error would stop a browser for good.
    with Stream(subject.target, subject.path, headers={"Last-Event-ID": "nonsense"}) as stream:
        equal(stream.status, 200, "the status")
        reset = stream.event("reset")
        equal(reset.data, {"reason": "invalid-id", "since": "nonsense"}, "the data of the reset")
        equal(reset.id, "", "the id of the reset, which makes a browser forget its own")


def _post(subject: Subject, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json"} | dict(headers or {})
    return subject.target.ask("POST", "/stream", headers=all_headers, body=text)


def _bad_body(subject: Subject) -> None:
    check_problem(_post(subject, b"{"), 400, "bad-request")
    check_problem(_post(subject, {"subscriptions": {}}), 400, "bad-request")
    check_problem(_post(subject, {}, {"Content-Type": "text/plain"}), 400, "bad-request")


def _place(subject: Subject) -> None:
    good = {"stream": subject.collection, "mode": "live"}
    answer = _post(subject, {"subscriptions": {"good": good, "bad": {**good, "filter": {"$where": "1"}}}})
    check_problem(answer, 400, "invalid-filter")
    place = str(answer.json().get("at", ""))
    expect(place.startswith("subscriptions.bad"), f"at is {place!r}, which does not name the subscription")


_UNKNOWN_OPERATOR = {"filter": '{"a":{"$where":"true"}}'}
_NO_JSON = {"filter": "{type: newt"}
_MISSPELT = {"flter": "{}"}
_TWICE = {"fields": ["a", "b"]}

RULES = (
    Rule("not-found", "An unknown path is 404 not-found", _not_found),
    Rule("unknown-stream", "A stream that nobody configured is 404 unknown-stream", _unknown_stream),
    Rule("method", "Another method is 405, with Allow", _method),
    Rule(
        "unknown-parameter",
        "A misspelt parameter is an error",
        _refused(400, "invalid-parameter", {"flter": "{}"}),
    ),
    Rule(
        "garbage-id",
        "A malformed Last-Event-ID gets a reset",
        _garbage_in_the_header,
        Needs.DOCUMENTS,
    ),
    Rule("since", "A since that is no id is an error", _refused(400, "invalid-id", {"since": "nonsense"})),
    Rule("repeated", "A parameter given twice is an error", _refused(400, "invalid-parameter", _TWICE)),
    Rule(
        "value",
        "A value out of a parameter's list is an error",
        _refused(400, "invalid-parameter", {"format": "xml"}),
        Needs.DOCUMENTS,
    ),
    Rule(
        "operator",
        "An operator that is not allowed is an error",
        _refused(400, "invalid-filter", _UNKNOWN_OPERATOR),
        Needs.DOCUMENTS,
    ),
    Rule(
        "filter-json",
        "A filter that is no JSON is an error",
        _refused(400, "invalid-filter", _NO_JSON),
        Needs.DOCUMENTS,
    ),
    Rule(
        "limit",
        "limit without sort is an error",
        _refused(400, "invalid-parameter", {"mode": "live", "limit": "3"}),
        Needs.DOCUMENTS,
    ),
    Rule(
        "body",
        "A malformed body of POST /stream is 400 bad-request",
        _bad_body,
        Needs.DOCUMENTS,
    ),
    Rule("at", "A problem in a bundle names the subscription", _place, Needs.DOCUMENTS),
)
