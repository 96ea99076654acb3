"""The log as JSON."""

from __future__ import annotations

import json
import logging
import sys

from brook.logs import JsonFormatter


def formatted(message: str, *arguments: object, exc_info=None) -> dict[str, object]:
    record = logging.LogRecord("brook.x", logging.WARNING, "x.py", 1, message, arguments, exc_info)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_facts_of_a_line_are_fields():
    line = formatted("client left after %(seconds).1f s, %(reason)s", {"seconds": 1.25, "reason": "max-age"})
    assert line.pop("time").endswith("+00:00")
    assert line.pop("process") > 0
    assert line == {
        "level": "warning", "logger": "brook.x", "message": "client left after 1.2 s, max-age",
        "seconds": 1.25, "reason": "max-age",
    }  # fmt: skip


def test_fact_does_not_replace_a_field_of_every_line():
    assert formatted("%(level)s", {"level": 3})["level"] == "warning"


def test_line_with_a_traceback_is_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = formatted("failed %d", 1, exc_info=sys.exc_info())
    assert line["message"] == "failed 1"
    assert "ValueError: two\nlines" in line["exception"]
