"""Which numbers decide: settings, the standing overrides above them, a run's own; and every change of them, kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select

from foreshard.control.engine import ControlDatabase
from foreshard.control.models import PolicyChange
from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy

VARIABLE = "foreshard_policy"
"""The Prefect Variable of the standing overrides: JSON, field -> value."""


class Layer(StrEnum):
    """Where a number comes from; each wins over the one before."""

    SETTINGS = "settings"
    VARIABLE = "variable"
    PARAMETERS = "parameters"


@dataclass(frozen=True)
class PolicyChangeRecord:
    """One change. ``before`` and ``after``: the changed fields only; ``given``: all that the layer gives since then."""

    id: int
    at: datetime
    layer: Layer
    who: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    given: Mapping[str, Any]


def effective(
    settings_policy: DecisionPolicy, variable: object = None, parameters: object = None
) -> DecisionPolicy:
    """``settings_policy`` with the Variable's fields in its place, and with the parameters' in theirs.

    Raises:
        InvalidInput: naming layer and field, e.g. ``foreshard_policy.knee`` or ``parameters.knee``.
    """
    policy = settings_policy
    for name, given in ((VARIABLE, variable), (Layer.PARAMETERS.value, parameters)):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise InvalidInput(
                name,
                f"is no JSON object of fields and values (given: {given!r}).",
                remedy='E.g. {"knee": 0.7}.',
            )
        try:
            policy = DecisionPolicy(**{**policy.model_dump(), **given})
        except InvalidInput as refused:
            raise InvalidInput(
                f"{name}.{refused.field}",
                refused.message.removeprefix(f"{refused.field}: "),
                remedy="Correct or remove it; nothing was decided." if given is variable else None,
            ) from None
    return policy


def document(policy: DecisionPolicy) -> dict[str, Any]:
    """The policy as JSON-ready values: equal ones alike, whatever the order in sets."""
    values = policy.model_dump(mode="json")
    return values | {"apart": sorted(sorted(one) for one in policy.apart)}


class PolicyStore:
    """Reads and writes the changes of the policy. Nothing of them is ever changed or deleted."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def note(
        self,
        settings_policy: DecisionPolicy,
        variable: Mapping[str, Any],
        parameters: Mapping[str, Any],
        who: str,
    ) -> list[PolicyChangeRecord]:
        """Keep what of the layers is other than when it was last noted, and a run's own parameters each time.

        All of them must have been found good by `effective`. Before anything was noted the settings were the defaults.
        """
        standing = document(effective(settings_policy, variable))
        of_settings, own = (
            document(settings_policy),
            document(effective(settings_policy, variable, parameters)),
        )
        made = []
        with self._control.transaction() as session:
            session.connection().exec_driver_sql("LOCK TABLE policy_changes IN SHARE ROW EXCLUSIVE MODE")
            last = {
                layer: session.scalar(
                    select(PolicyChange.given)
                    .where(PolicyChange.layer == layer)
                    .order_by(PolicyChange.id.desc())
                    .limit(1)
                )
                for layer in (Layer.SETTINGS, Layer.VARIABLE)
            }
            defaults = document(DecisionPolicy())
            before = defaults | {
                name: value for name, value in (last[Layer.SETTINGS] or {}).items() if name in defaults
            }
            made.append(_change(Layer.SETTINGS, who, before, of_settings))
            overrides = {name: standing[name] for name in variable}
            made.append(_change(Layer.VARIABLE, who, last[Layer.VARIABLE] or {}, overrides))
            if parameters:
                made.append(
                    PolicyChange(
                        layer=Layer.PARAMETERS, who=who, before={name: standing[name] for name in parameters},
                        after={name: own[name] for name in parameters},
                        given={name: own[name] for name in parameters},
                    )
                )  # fmt: skip
            rows = [one for one in made if one is not None]
            session.add_all(rows)
            session.flush()
            for row in rows:
                session.refresh(row)
            return [_record(row) for row in rows]

    def changes(self, limit: int = 100) -> list[PolicyChangeRecord]:
        """The newest changes, newest first."""
        with self._control.transaction() as session:
            rows = session.scalars(select(PolicyChange).order_by(PolicyChange.id.desc()).limit(limit))
            return [_record(row) for row in rows]


def _change(
    layer: Layer, who: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> PolicyChange | None:
    """Only what is other; None if nothing is."""
    changed = {
        name for name in before.keys() | after.keys() if name not in before or name not in after
        or before[name] != after[name]
    }  # fmt: skip
    if not changed:
        return None
    return PolicyChange(
        layer=layer.value, who=who, given=dict(after),
        before={name: before[name] for name in sorted(changed) if name in before},
        after={name: after[name] for name in sorted(changed) if name in after},
    )  # fmt: skip


def _record(row: PolicyChange) -> PolicyChangeRecord:
    return PolicyChangeRecord(row.id, row.at, Layer(row.layer), row.who, row.before, row.after, row.given)
