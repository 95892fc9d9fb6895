"""The decision policy as the form of a run: every number of it, each empty unless this run wants another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from foreshard.planning.policy import DecisionPolicy


def _optional(field: FieldInfo) -> tuple[Any, Any]:
    """The field with its type, range and description, None by default."""
    kind: Any = field.annotation
    for rule in field.metadata:
        kind = Annotated[kind, rule]
    return kind | None, Field(None, description=field.description)


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
        **{name: _optional(field) for name, field in DecisionPolicy.model_fields.items()},
    )

STANDING = PolicyOverrides()
"""Nothing of its own."""
