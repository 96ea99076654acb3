"""Findings of a check (`--check`): facts about the surroundings of the server, each with its remedy."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


class Level(enum.StrEnum):
    """The weight of a finding."""

    OK = "ok"
    NOTE = "note"
    """The server works, but lacks a feature that some users want."""
    WARNING = "warning"
    """The server works, but this is likely to be a mistake."""
    ERROR = "error"
    """The server cannot work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact."""

    level: Level
    subject: str
    says: str
    remedy: str = ""


def text(findings: Sequence[Finding]) -> str:
    """The findings for people, one after the other."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.subject}: {finding.says}")
        if finding.remedy:
            lines.append(f"{'':<8} -> {finding.remedy}")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    return json.dumps({"works": works(findings), "findings": [asdict(each) for each in findings]}, indent=2)


def works(findings: Sequence[Finding]) -> bool:
    """True if no finding keeps the server from working."""
    return not any(finding.level is Level.ERROR for finding in findings)
