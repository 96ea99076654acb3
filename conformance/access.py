"""Rules of a guarded stream: nothing of it without a token, and the problems say what is missing."""

from __future__ import annotations

import dataclasses
import json

from conformance.problems import check_problem
from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.target import Answer, Target

# Three parts, as a token has them.
NONSENSE = "bm9uc2Vuc2U.bm9uc2Vuc2U.bm9uc2Vuc2U"


def _asked(subject: Subject, token: str) -> list[Answer]:
    """The answers to each way of opening the stream."""
    target = dataclasses.replace(subject.target, token=token)
    body = {"subscriptions": {"a": {"stream": subject.collection, "mode": "live"}}}
    return [
        target.ask("GET", subject.path),
        target.ask("GET", subject.path, {"mode": "live"}),
        target.ask("GET", subject.path, headers={"Last-Event-ID": "nonsense"}),
        target.ask("GET", f"/documents/{subject.collection}"),
        target.ask(
            "POST",
            "/stream",
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode(),
        ),
    ]


def _check_unauthorized(answer: Answer, code: str) -> None:
    check_problem(answer, 401, code)
    equal(answer.headers.get("www-authenticate", "").split(" ")[0], "Bearer", "WWW-Authenticate")


def _no_token(subject: Subject) -> None:
    for answer in _asked(subject, ""):
        _check_unauthorized(answer, "unauthenticated")


def _bad_token(subject: Subject) -> None:
    for answer in _asked(subject, NONSENSE):
        _check_unauthorized(answer, "token-invalid")
        expect(NONSENSE.encode() not in answer.body, "the problem repeats the token")


def _not_listed(subject: Subject) -> None:
    listed = names(dataclasses.replace(subject.target, token=""))
    expect(subject.collection not in listed, f"/streams lists {subject.collection!r} to a stranger")
    expect(subject.collection in names(subject.target), "/streams does not list it to the token's owner")


def names(target: Target) -> list[str]:
    """The names that /streams lists; none if it refuses."""
    answer = target.ask("GET", "/streams")
    if answer.status in (401, 403):
        return []
    return [one["name"] for one in answer.json()["streams"]]


RULES = (
    Rule("no-token", "A guarded stream without a token is 401 unauthenticated", _no_token, Needs.GUARD),
    Rule("bad-token", "A token that cannot be read is 401 token-invalid", _bad_token, Needs.GUARD),
    Rule("not-listed", "GET /streams lists a guarded stream to its readers alone", _not_listed, Needs.GUARD),
)
