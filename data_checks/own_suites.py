"""A team's own suites: a folder of Great Expectations' JSON, read and refused by name, without loading that library.

What it alone can tell, whether the arguments of an expectation are right, `data_checks.own_run` asks in a process.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from data_checks.own_expectations import ACCEPTED, REFUSED
from data_checks.own_scope import OwnScope, item
from foreshard.errors import ConfigurationError, InvalidInput

SEVERITIES = ("critical", "warning", "info")
"""Great Expectations' own; the first stops a flip, the others are shown."""

_OF_SUITE = {"name", "id", "expectations", "suite_parameters", "meta", "notes"}
_OF_EXPECTATION = {"type", "kwargs", "severity", "meta", "notes", "description", "id", "rendered_content"}
_OURS = {"batch_id", "catch_exceptions", "result_format", "windows"}
"""Arguments that say how to evaluate, not what should be."""


@dataclass(frozen=True)
class OwnExpectation:
    """One expectation as the file has it."""

    type: str
    kwargs: Mapping[str, Any]
    severity: str
    notes: str

    def __str__(self) -> str:
        columns = [
            ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in self.kwargs.items()
            if name in ("column", "column_A", "column_B", "column_list")
        ]
        return f"{self.type} ({', '.join(columns)})" if columns else self.type


@dataclass(frozen=True)
class OwnSuite:
    """One file: its name without the ending, the table that it is about in every bucket, and its content."""

    name: str
    table: str
    sha256: str
    expectations: tuple[OwnExpectation, ...]

    @property
    def scope(self) -> OwnScope:
        """What a gate run must cover of it."""
        return OwnScope(self.name, self.table, len(self.expectations), self.sha256)

    def described(self) -> dict[str, Any]:
        """As a document."""
        return {
            "name": self.name,
            "table": self.table,
            "sha256": self.sha256,
            "expectations": [
                {
                    "item": item(self.name, number),
                    "type": expectation.type,
                    "kwargs": dict(expectation.kwargs),
                    "severity": expectation.severity,
                    "notes": expectation.notes,
                }
                for number, expectation in enumerate(self.expectations, 1)
            ],
        }


def read_suites(folder: Path, tables: Iterable[str]) -> tuple[OwnSuite, ...]:
    """The suites of every ``*.json`` of ``folder``, by name. ``tables`` are those of a bucket.

    Raises:
        ConfigurationError: the folder is not there, or holds none.
        InvalidInput: a file is no suite that can be run; names the file and the field.
    """
    setting = "checks.suites"
    if not folder.is_dir():
        raise ConfigurationError(
            setting,
            f"names {folder}, which is no folder",
            remedy="A relative path begins at the working directory. Without the setting no own suite is run.",
        )
    try:
        files = sorted(folder.glob("*.json"))
        below = sorted(folder.glob("*/**/*.json"))
        contents = {file: file.read_bytes() for file in files}
    except OSError as error:
        raise ConfigurationError(setting, f"{folder} cannot be read ({error.strerror})") from None
    if below:
        raise ConfigurationError(
            setting,
            f"{below[0]} would not be run",
            remedy=f"Move it: suites stand in {folder} itself.",
        )
    if not files:
        raise ConfigurationError(
            setting, f"{folder} holds no suite (*.json)", remedy="Put one there, or remove the setting."
        )
    known = tuple(tables)
    return tuple(_suite(file, content, known) for file, content in contents.items())


def _suite(file: Path, content: bytes, tables: tuple[str, ...]) -> OwnSuite:
    document = _parsed(file, content)
    if not isinstance(document, dict):
        _refuse(file, "", "is not a suite, a JSON object with name and expectations")
    _only_known(file, document, _OF_SUITE, "")
    _text(file, document, "name", "")
    if document.get("suite_parameters"):
        _refuse(file, "suite_parameters", "are given by nobody here", "Write the values into the kwargs.")
    listed = document.get("expectations")
    if not isinstance(listed, list) or not listed:
        _refuse(file, "expectations", "is not a list that holds any, so nothing would be checked")
    return OwnSuite(
        file.stem,
        _table(file, document, tables),
        hashlib.sha256(content).hexdigest(),
        tuple(_expectation(file, entry, f"expectations[{n}]") for n, entry in enumerate(listed)),
    )


def _parsed(file: Path, content: bytes) -> Any:
    def number(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"{text} is no finite number")
        return float(text)

    def constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice} stands twice in one object")
        return document

    try:
        document = json.loads(
            content.decode("utf-8"), parse_float=number, parse_constant=constant, object_pairs_hook=members
        )
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        _refuse(file, "", f"is not valid JSON in UTF-8 ({error})", "Mend it there.")
    return document


def _table(file: Path, document: Mapping[str, Any], tables: tuple[str, ...]) -> str:
    meta = document.get("meta") or {}
    ours = meta.get("foreshard") if isinstance(meta, dict) else None
    field, table = "meta", file.stem
    if ours is not None:
        if not isinstance(ours, dict) or set(ours) != {"table"}:
            _refuse(file, "meta.foreshard", "says one thing: table", 'Write {"table": "..."}.')
        field, table = "meta.foreshard.table", ours["table"]
    if table not in tables:
        _refuse(
            file,
            field,
            f"{table!r} is no table of the fleet's buckets ({', '.join(sorted(tables))})",
            'Name it: "meta": {"foreshard": {"table": "..."}}.',
        )
    return str(table)


def _expectation(file: Path, entry: Any, field: str) -> OwnExpectation:
    if not isinstance(entry, dict):
        _refuse(file, field, "is not an object with type and kwargs")
    if "expectation_type" in entry:
        _refuse(
            file,
            f"{field}.expectation_type",
            "is how Great Expectations wrote it before 1.0",
            'Name it "type", or let a newer version write the suite.',
        )
    _only_known(file, entry, _OF_EXPECTATION, f"{field}.")
    kind = _text(file, entry, "type", f"{field}.")
    if kind in REFUSED:
        _refuse(file, f"{field}.type", f"{kind} {REFUSED[kind]}; it is not run")
    if kind not in ACCEPTED:
        _refuse(
            file,
            f"{field}.type",
            f"{kind!r} is not built into Great Expectations; a class of one's own is not run",
            "docs/own-suites.md lists those that are.",
        )
    severity = entry.get("severity", SEVERITIES[0])
    if severity not in SEVERITIES:
        _refuse(file, f"{field}.severity", f"{severity!r} is not one of {', '.join(SEVERITIES)}")
    kwargs = entry.get("kwargs", {})
    if not isinstance(kwargs, dict):
        _refuse(file, f"{field}.kwargs", "is not an object")
    for name, value in kwargs.items():
        if name in _OURS:
            _refuse(file, f"{field}.kwargs.{name}", "is set by Foreshard for all of them", "Remove it.")
        if isinstance(value, dict) and "$PARAMETER" in value:
            _refuse(file, f"{field}.kwargs.{name}", "names a suite parameter, which nobody gives here")
    notes = entry.get("notes") or entry.get("description") or ""
    return OwnExpectation(
        kind, kwargs, severity, notes if isinstance(notes, str) else "; ".join(map(str, notes))
    )


def _text(file: Path, document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        _refuse(file, f"{where}{name}", "is missing" if value is None else "is not a text that says anything")
    return value


def _only_known(file: Path, document: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in document:
        if name not in known:
            _refuse(file, f"{where}{name}", "is no field of Great Expectations' suites", "Correct its name.")


def _refuse(file: Path, field: str, why: str, remedy: str | None = None) -> NoReturn:
    raise InvalidInput(f"{file}: {field}" if field else str(file), why, remedy=remedy)
