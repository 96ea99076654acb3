"""A TOML file whose errors name the file, the line and the key."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from brook.errors import SettingsError

_KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}

_HEADING = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r'\s*((?:[A-Za-z0-9_-]+|"[^"]*")(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*=')

# Where the parser stopped, at the end of its message.
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")

MAX_BYTES = 1024 * 1024

# Number of names in one message. More would fill the screen.
MAX_NAMES = 12


class Table:
    """One table of the file. Each getter raises SettingsError for a value of another type."""

    def __init__(self, values: Mapping[str, Any], file: TomlFile, place: tuple[str, ...] = ()) -> None:
        self.values = values
        self.file = file
        self.place = place

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def only(self, known: Collection[str]) -> None:
        """Raise SettingsError for an unknown key: a misspelt one must not be ignored silently."""
        for key in self.values:
            if key not in known:
                self.refuse(key, f"is unknown{_suggestion(key, known)}")

    def text(self, key: str, default: str = "") -> str:
        value: str = self._get(key, default, str)
        return value

    def flag(self, key: str) -> bool:
        return bool(self._get(key, False, bool))

    def texts(self, key: str) -> list[str] | None:
        """A list of strings; None if it is not given. One string stands for a list of it."""
        value = self.values.get(key)
        if value is None:
            return None
        items = [value] if isinstance(value, str) else self._get(key, [], list)
        if not all(isinstance(item, str) for item in items):
            self.refuse(key, "takes a list of strings")
        return list(items)

    def table(self, key: str) -> Table:
        """The table at a key; an empty one if it is not given."""
        return Table(self._get(key, {}, dict), self.file, (*self.place, key))

    def tables(self, key: str) -> list[Table]:
        """The tables `[[...key]]`."""
        values = self._get(key, [], list)
        if not all(isinstance(value, dict) for value in values):
            self.refuse(key, "takes tables")
        return [Table(value, self.file, (*self.place, f"{key}[{n}]")) for n, value in enumerate(values)]

    def refuse(self, key: str, fault: str) -> NoReturn:
        """Raise SettingsError that names the file, the line and the key."""
        place = (*self.place, *key.split(".")) if key else self.place
        raise SettingsError(f"{self._named(place)} {fault}")

    def warn(self, fault: str) -> None:
        """Note a fault of the table that is no reason to refuse the file."""
        self.file.warnings.append(f"{self._named(self.place)} {fault}")

    def _named(self, place: tuple[str, ...]) -> str:
        return f"{self.file.path}:{self.file.line(place)}: {'.'.join(place)}"

    def _get(self, key: str, default: Any, kind: type) -> Any:
        value = self.values.get(key, default)
        # In Python, True and False are integers.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(key, f"takes {_KINDS[kind]}, got {in_toml(value)}"[:200])
        return value


class TomlFile:
    """A file, read and parsed. Raises SettingsError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        """Faults that are no reason to refuse the file."""
        try:
            data = path.read_bytes()
            if len(data) > MAX_BYTES:
                raise SettingsError(f"{path}: more than {MAX_BYTES:,} bytes")
            # Some editors put a byte order mark in front.
            self._text = data.decode("utf-8-sig")
            self.root = Table(tomllib.loads(self._text), self)
        except OSError as error:
            raise SettingsError(f"the configuration cannot be read: {error}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path}: is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(self._malformed(str(error))) from None

    def line(self, place: tuple[str, ...]) -> int:
        """The line of a key, or of the nearest table around it that has a line of its own.

        A table without a heading begins at its first key or table.
        """
        lines = self._lines()
        for end in range(len(place), 0, -1):
            inside = [line for name, line in lines.items() if name[:end] == place[:end]]
            if inside:
                return lines.get(place[:end], min(inside))
        return 1

    def _malformed(self, fault: str) -> str:
        """The parser's message, with the line in front."""
        found = _PLACE.search(fault)
        line = found[1] if found and found[1] else str(len(self._text.splitlines()) or 1)
        if twice := _TWICE.match(fault):
            name = tuple(re.findall(r"'([^']*)'", twice[1]))
            first = self._lines().get(name)
            before = f": the first [{'.'.join(name)}] is on line {first}" if first else ""
            return f"{self.path}:{line}: {'.'.join(name)} is there twice{before}"
        column = f", at column {found[2]}" if found and found[2] else ""
        return f"{self.path}:{line}: is not TOML: {_PLACE.sub('', fault)}{column}"

    def _lines(self) -> dict[tuple[str, ...], int]:
        found: dict[tuple[str, ...], int] = {}
        counts: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, text in enumerate(self._text.splitlines(), start=1):
            if heading := _HEADING.match(text):
                table = _names(heading[1])
                if text.lstrip().startswith("[["):
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table[:-1], f"{table[-1]}[{counts[table]}]")
                found.setdefault(table, number)
            elif key := _KEY.match(text):
                found.setdefault((*table, *_names(key[1])), number)
        return found


def in_toml(value: Any) -> str:
    """A value as it is written in the file."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    # A date is none of JSON's values.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def _suggestion(key: str, known: Collection[str]) -> str:
    if close := difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1):
        return f"; did you mean {close[0]}?"
    if len(known) > MAX_NAMES:
        return "; --help lists the settings, and there are mongo, [access] and [streams.NAME]"
    return f"; there are: {', '.join(sorted(known))}"


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip().strip('"') for name in re.findall(r'"[^"]*"|[^.]+', dotted))
