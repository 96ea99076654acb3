"""The claims of a client, and their insertion into a rule's filter."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from brook.errors import Forbidden, MissingClaim

Claims = Mapping[str, Any]
"""The facts about a client, from a token or from the application."""

PREFIX: Final = "$claims."

# Each value of a list costs a look-up for each change.
MAX_LIST: Final = 100
MAX_TEXT: Final = 1000

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Identity:
    """A client with proven claims."""

    claims: Claims
    expires: float = math.inf
    """The time at which the claims expire, in seconds since 1970."""

    @property
    def subject(self) -> str:
        """The claim `sub`; empty without one. An integer counts as its text: some issuers write one."""
        subject = self.claims.get("sub")
        is_number = isinstance(subject, int) and not isinstance(subject, bool)
        return str(subject) if is_number or isinstance(subject, str) else ""


def is_reference(value: Any) -> bool:
    """True for a string such as `$claims.sub`."""
    return isinstance(value, str) and value.startswith(PREFIX)


def find(claims: Claims, path: str) -> Any:
    """Return the claim at a dotted path; None if it is missing. A claim whose name contains dots, such as a
    URL, is found by its whole name first.
    """
    whole = claims.get(path, _MISSING)
    if whole is not _MISSING:
        return whole
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def fill(template: Any, claims: Claims) -> Any:
    """Return a rule's filter with each reference replaced by its claim.

    A claim becomes a literal: a string, a number or a boolean; a list of them only under `$in`. Raises
    Forbidden for any other claim: a missing or null one would match documents without the field, and an
    object could be an operator.
    """
    if isinstance(template, dict):
        return {name: _operand(name, value, claims) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(item, claims) for item in template]
    return _literal(find(claims, template[len(PREFIX) :]), template) if is_reference(template) else template


def _operand(name: str, template: Any, claims: Claims) -> Any:
    if name == "$in":
        return _listed(template, claims)
    return _cast(name, fill(template, claims)) if is_reference(template) else fill(template, claims)


def _cast(name: str, literal: Any) -> Any:
    """Convert a number under a cast such as `$numberLong`: Extended JSON writes it as a string."""
    is_number = isinstance(literal, int | float) and not isinstance(literal, bool)
    return str(literal) if is_number and name.startswith("$number") else literal


def _listed(template: Any, claims: Claims) -> Any:
    """Return the operand of `$in`: a list as it is, or a claim that is a list, also with a cast around it."""
    if is_reference(template):
        return _literals(template, claims)
    if isinstance(template, dict) and len(template) == 1:
        ((cast, inner),) = template.items()
        if is_reference(inner):
            return [{cast: _cast(cast, literal)} for literal in _literals(inner, claims)]
    return fill(template, claims)


def _literals(reference: str, claims: Claims) -> list[Any]:
    value = find(claims, reference[len(PREFIX) :])
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_LIST:
        raise Forbidden(f"{reference} is a list of {len(values)} values, not of 1 to {MAX_LIST}")
    return [_literal(each, reference) for each in values]


def _literal(value: Any, reference: str) -> str | int | float | bool:
    if value is None:
        raise MissingClaim(reference)
    if isinstance(value, str):
        if not 1 <= len(value) <= MAX_TEXT:
            raise Forbidden(f"{reference} is a string of {len(value)} characters, not of 1 to {MAX_TEXT:,}")
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    # MongoDB has no larger integers.
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise Forbidden(f"{reference} is a value of type {json_type(value)}, which a rule does not take here")


def json_type(value: Any) -> str:
    """The name of a value's type in JSON."""
    kind = {"{": "object", "[": "list", '"': "string", "n": "null", "t": "boolean", "f": "boolean"}
    return kind.get(json.dumps(value)[0], "number")
