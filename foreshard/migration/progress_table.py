"""A stored progress as a line and as a table for people, in the terminal and in the UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreshard.quantities import BYTES, UNKNOWN, amount, duration, rate, size

HEADINGS = ("", "done", "of", "rows", "rate", "left")
LINES = 20
"""Of parts under way; more than that nobody reads."""


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Texts under ``HEADINGS``: the whole step, then its parts under way. ``document``: `Progress.to_json`."""
    unit = document["unit"]
    whole = (amount(document["done"], unit), amount(document["total"], unit))
    return [
        ("all", *whole, _count(document), rate(document["per_s"], unit), duration(document["eta_s"])),
        *(_part(part, unit) for part in _under_way(document)[:LINES]),
    ]


def in_words(document: Mapping[str, Any]) -> str:
    """One line: done, of how much, rows, rate, what is left; what is not known is left out."""
    unit = document["unit"]
    text = f"{document['text']}, {amount(document['done'], unit)} of {amount(document['total'], unit)}"
    if document["rows"] is not None:
        text += f", {document['rows']:,} rows"
    if (per_s := rate(document["per_s"], unit)) != UNKNOWN:
        text += f", {per_s}"
    return text if document["eta_s"] is None else f"{text}, {duration(document['eta_s'])} left"


def counts(document: Mapping[str, Any]) -> str:
    """How many parts there are of each sort, in words; empty where the step told none."""
    parts = document["parts"]
    if not parts["total"]:
        return ""
    unseen = f" ({LINES} of them shown)" if parts["under_way"] > LINES else ""
    return f"{parts['finished']} finished, {parts['under_way']} under way{unseen}, {parts['waiting']} waiting"


def _under_way(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in document["parts"]["listed"] if 0 < part["done"] < part["total"]]


def _part(part: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    """One of a table in bytes; of anything else, as an index of which a part is built, the share that is done."""
    if unit == BYTES:
        figures = (size(part["done"]), size(part["total"]), _count(part), rate(part["per_s"], unit))
    else:
        figures = (f"{part['done'] / part['total']:.0%}", "", _count(part), "")
    return (part["name"], *figures, duration(part["eta_s"]))


def _count(one: Mapping[str, Any]) -> str:
    return UNKNOWN if one["rows"] is None else f"{one['rows']:,}"
