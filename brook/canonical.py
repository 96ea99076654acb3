"""The canonical form of a value: equal values have equal texts, in every process."""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import Any

# 40 bits: of the 32 subscriptions of a bundle, two have the same tag with a probability of 5 in 10^10.
TAG_BYTES = 5


def tag(value: Any) -> str:
    """A short name for a value, made from its canonical form alone: eight letters and digits."""
    digest = blake2b(canonical(value).encode("utf-8", "surrogatepass"), digest_size=TAG_BYTES).digest()
    return base64.b32encode(digest).decode().lower()


def canonical(value: Any) -> str:
    """Return a string that is the same for equal values, and different for others.

    Takes frozen dataclasses, sets, sequences and plain values. Numbers are equal across their types.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        compared = [getattr(value, field.name) for field in dataclasses.fields(value) if field.compare]
        return f"{type(value).__name__}({','.join(map(canonical, compared))})"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, frozenset | set):
        return "{" + ",".join(sorted(map(canonical, value))) + "}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, str | bytes) or value is None:
        return repr(value)
    return type(value).__name__


def _number(value: float | Decimal) -> str:
    return str(Fraction(value)) if math.isfinite(value) else repr(float(value))
