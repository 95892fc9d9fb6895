"""The decision policy as the form of a run: every number of it, each empty unless this run wants another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.policy_fields import PolicyField, policy_fields, value_in_words
from tasks.form_fields import Choice, plain_input

EMPTY = "as the standing policy"

GROUPS = {
    "risk": ("policy", "migration_threshold", "predicted_quantile", "predicted_weight", "current_weight", "knee"),
    "goal": (
        "target_ceiling", "relief_probability", "minimum_gain", "epsilon", "balance", "balance_above",
        "strained_above", "strained_probability", "strained_ceiling", "reactive_threshold",
    ),
    "buckets": ("planner", "exact_pairs", "cooldown_s", "no_return_s", "pins", "apart", "shard_weights"),
    "time": ("start", "windows", "max_migrations", "margin_s", "soak_s"),
    "rates": (
        "copy_bytes_per_s", "verify_bytes_per_s", "wal_bytes_per_s", "network_bytes_per_s", "copy_load", "catch_up_s",
        "expected_pause_s", "operator_overhead",
    ),
}  # fmt: skip
"""The order of the form: what is changed most comes first. Each field's title begins with its group."""

UNITS = {"_bytes_per_s": "bytes/s", "_s": "seconds"}

ORDER = tuple(name for names in GROUPS.values() for name in names)


def title(name: str) -> str:
    """``cooldown_s`` is ``Buckets: cooldown (seconds)``."""
    group = next(group for group, names in GROUPS.items() if name in names)
    words, unit = name, ""
    for ending, said in UNITS.items():
        if name.endswith(ending):
            words, unit = name.removesuffix(ending), f" ({said})"
            break
    return f"{group.capitalize()}: {words.replace('_', ' ')}{unit}"


def _description(field: PolicyField) -> str:
    said = field.description
    default = value_in_words(field.default)
    built_in = "" if default == "-" else f"; built in: {default}"
    return f"{said[:1].upper()}{said[1:]}. Allowed: {field.allowed}{built_in}."


def _levels(field: PolicyField) -> list[float]:
    """Of a number that takes some values only: which."""
    if not isinstance(field.default, float) or "," not in field.allowed:
        return []
    return [float(one) for one in field.allowed.split(", ")]


def _is_plain(kind: Any) -> bool:
    """Numbers and lists of words have an input that may stay empty; of anything else the UIs show no empty one."""
    return kind in (float, int) or kind == tuple[str, ...]


def _extra(schema: dict[str, Any], *, position: int, plain: bool, levels: list[float]) -> None:
    schema["position"] = position  # PostgreSQL keeps the keys of JSON sorted by their length
    if plain:
        plain_input(schema)
    elif levels:
        schema["anyOf"][0]["enum"] = levels


def _optional(name: str, field: FieldInfo, described: PolicyField) -> tuple[Any, Any]:
    """The field with its type, range and description, None by default."""
    kind: Any = field.annotation
    levels = _levels(described)
    plain = _is_plain(kind) and not levels
    for rule in field.metadata:
        kind = Annotated[kind, rule]
    kind = kind | None if plain else Annotated[kind | None, Choice("another", EMPTY)]
    return kind, Field(
        None,
        title=title(name),
        description=_description(described),
        json_schema_extra=partial(_extra, position=ORDER.index(name), plain=plain, levels=levels),
    )


class _Overrides(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """Those that are not empty."""
        return self.model_dump(exclude_none=True)


if TYPE_CHECKING:
    PolicyOverrides = _Overrides
else:
    PolicyOverrides = create_model(
        "PolicyOverrides",
        __base__=_Overrides,
        __module__=__name__,
        __doc__="Numbers of the decision policy for this run only. Empty: as the standing policy has it.",
        **{
            one.name: _optional(one.name, DecisionPolicy.model_fields[one.name], one)
            for one in sorted(policy_fields(), key=lambda one: ORDER.index(one.name))
        },
    )

STANDING = PolicyOverrides()
"""Nothing of its own."""
