"""The rules of a stream: the claims that are accepted, and the part that they open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brook.access.claims import Claims, fill, find
from brook.access.grant import Grant
from brook.errors import Forbidden, InvalidFilter, Unauthenticated
from brook.query import Fields, Filter
from brook.subscription import Mode


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to be let in: the claims that must hold, and the part of the stream that they open."""

    require: Mapping[str, Any]
    """The value of each claim, or a list of values of which the claim is one, or has one."""
    filter: Mapping[str, Any]
    fields: Sequence[str] | None
    """The most that leaves the server; None for all."""
    client_filter: Sequence[str] | None
    """The fields that a client may filter and sort on; None for those that it is shown."""
    modes: frozenset[Mode]
    public: bool = False
    """True if it lets in clients without a token."""

    def accepts(self, claims: Claims | None) -> bool:
        """True if the required claims hold; None stands for a client without a token."""
        if claims is None:
            return self.public
        return all(_holds(find(claims, path), wanted) for path, wanted in self.require.items())

    def grant(self, namespace: str, claims: Claims) -> Grant:
        """Return the part of a collection that a client may hear. Raises Forbidden."""
        reach = None
        if self.filter:
            text = json.dumps(fill(self.filter, claims))
            try:
                reach = Filter.parse(text)
            except InvalidFilter as error:
                # The claim does not fit its place, such as a text that is no ObjectId.
                raise Forbidden(f"a claim does not fit into the rule: {error}") from None
        fields = None if self.fields is None else selection(self.fields)
        return Grant(namespace, reach, fields, self.client_filter, self.modes)


@dataclass(frozen=True, slots=True)
class StreamRules:
    """A stream that the configuration names."""

    name: str
    namespace: str
    rules: Sequence[Rule]

    def grant(self, claims: Claims | None) -> Grant:
        """Return the part that the first rule that accepts the claims opens.

        Raises Forbidden, or Unauthenticated for a client without a token.
        """
        for rule in self.rules:
            if rule.accepts(claims):
                return rule.grant(self.namespace, claims or {})
        if claims is None:
            raise Unauthenticated(f"the stream {self.name} needs a token")
        raise Forbidden(f"your claims do not open the stream {self.name}")


def selection(fields: Sequence[str]) -> Fields:
    """The fields that a rule shows; `_id` alone if it lists none. Raises InvalidParameter."""
    return Fields.parse(",".join(fields)) if fields else Fields(frozenset(), excluding=False)


def _holds(value: Any, wanted: Any) -> bool:
    """True if a claim is a wanted value, or, for lists, has one of them. True and 1 are two values."""
    values = value if isinstance(value, list) else [value]
    allowed = wanted if isinstance(wanted, list) else [wanted]
    return any(type(one) is type(other) and one == other for one in values for other in allowed)
