"""The policy's fields as they are shown and documented: default, range, meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy


@dataclass(frozen=True)
class PolicyField:
    """One number or word of the policy. ``allowed``: its range in words, such as ``0 to 1`` or ``above 0``."""

    name: str
    default: Any
    allowed: str
    description: str


def policy_fields() -> tuple[PolicyField, ...]:
    """All of them, in the policy's order."""
    schema = DecisionPolicy.model_json_schema()["properties"]
    defaults = DecisionPolicy().model_dump(mode="json")
    return tuple(
        PolicyField(name, defaults[name], _allowed(name, of), of.get("description", ""))
        for name, of in schema.items()
    )


def policy_table() -> str:
    """As a markdown table."""
    lines = ["| field | default | allowed | what it is |", "|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | {value_in_words(one.default)} | {one.allowed} | {one.description} |"
        for one in policy_fields()
    ]
    return "\n".join(lines)


def value_in_words(value: Any) -> str:
    """As one types it; a dash for what is empty."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value in ([], {}, ()):
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 and value == round(value) else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _allowed(name: str, of: Mapping[str, Any]) -> str:
    if "enum" in of:
        return ", ".join(of["enum"])
    kind = of.get("type")
    if kind == "boolean":
        return "true or false"
    if kind == "object":
        return "name: value, ..."
    if kind == "array":
        return "a list" if of["items"].get("type") == "string" else "lists of names"
    low, high = of.get("minimum"), of.get("maximum")
    above, below = of.get("exclusiveMinimum"), of.get("exclusiveMaximum")
    if low is None and above is None:
        return _listed(name)
    least = f"{low:g}" if low is not None else f"above {above:g}"
    if high is not None:
        return f"{least} to {high:g}"
    if below is not None:
        return f"{least} to below {below:g}"
    return f"{least} or more" if low is not None else least


def _listed(name: str) -> str:
    """Of a field that takes some values only: what the policy itself says when it is given another."""
    try:
        DecisionPolicy(**{name: -1.0})
    except InvalidInput as refused:
        return refused.message.partition("one of ")[2].partition(" (given")[0]
    return "any number"
