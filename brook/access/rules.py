"""The rules of a stream: the claims that each accepts, and the part of the stream that it opens."""

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
    """For each claim a value, or a list of values. The claim is one of them, or a list that has one."""
    filter: Mapping[str, Any]
    fields: Sequence[str] | None
    """The fields that may leave the server; None for all."""
    client_filter: Sequence[str] | None
    """The fields that a client may filter and sort on; None for the fields that it is shown."""
    modes: frozenset[Mode]
    public: bool = False
    """True if it lets in clients without a token."""

    def accepts(self, claims: Claims | None) -> bool:
        """True if the required claims hold; None stands for a client without a token."""
        if claims is None:
            return self.public
        return all(_holds(find(claims, path), wanted) for path, wanted in self.require.items())

    def grant(self, namespace: str, claims: Claims) -> Grant:
        """Return the part of a collection that a client may read. Raises Forbidden."""
        reach = None
        if self.filter:
            text = json.dumps(fill(self.filter, claims))
            try:
                reach = Filter.parse(text)
            except InvalidFilter as error:
                # A claim is not a valid value there, such as a string that is not an ObjectId.
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
        """Return the part of the stream that is opened by the first rule that accepts the claims.

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
    """True if a claim is one of the wanted values, or a list that has one of them. 1 and true differ."""
    values = value if isinstance(value, list) else [value]
    allowed = wanted if isinstance(wanted, list) else [wanted]
    return any(type(one) is type(other) and one == other for one in values for other in allowed)
