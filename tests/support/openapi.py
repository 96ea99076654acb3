"""docs/openapi.yaml as an object, and a check of what the events of a stream carry."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import schemathesis
import yaml
from schemathesis import CheckContext, Response

from tests.support.processes import ROOT

PATH = ROOT / "docs" / "openapi.yaml"


def read() -> dict[str, Any]:
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


class Description:
    """The description, with schemas that are looked up by reference."""

    def __init__(self) -> None:
        self.spec = read()
        self.schemas: dict[str, Any] = self.spec["components"]["schemas"]

    def response(self, name: str) -> dict[str, Any]:
        return self.spec["components"]["responses"][name]

    def events(self, name: str) -> dict[str, list[Any]]:
        """By the name of an event of a stream: the schemas that its data may have."""
        found: dict[str, list[Any]] = {}
        for reference in self.schemas[name]["oneOf"]:
            properties = self.schemas[reference["$ref"].rpartition("/")[2]]["properties"]
            names = properties["event"].get("enum") or [properties["event"]["const"]]
            for each in names:
                found.setdefault(each, []).append(properties["data"]["contentSchema"])
        return found

    def check_data(self, stream: str, event: dict[str, Any]) -> None:
        """Raise ValidationError if the data of an event is not as described. To `itemSchema` it is a text."""
        schemas = self.events(stream)[event["event"]]
        validator = jsonschema.Draft202012Validator(
            {"anyOf": schemas, "components": {"schemas": self.schemas}}
        )
        validator.validate(json.loads(event["data"]))


DESCRIPTION = Description()


@schemathesis.check
def data_of_events(context: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """The data of each event is JSON, and as its `contentSchema` says."""
    if "text/event-stream" not in response.headers.get("content-type", [""])[0]:
        return None
    name = "BundleEvent" if case.method == "POST" else "StreamEvent"
    for event in parsed(response.content):
        DESCRIPTION.check_data(name, event)
    return None


def parsed(body: bytes) -> list[dict[str, str]]:
    """The events of a whole stream."""
    found = []
    for block in body.decode().split("\n\n"):
        event = {"event": "message"}
        for line in block.splitlines():
            name, _, value = line.partition(": ")
            event[name] = value
        if "data" in event:
            found.append(event)
    return found
