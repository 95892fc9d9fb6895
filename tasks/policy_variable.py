"""The standing overrides of the policy: a Prefect Variable, so that numbers change without a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.variables import Variable

from foreshard.control.policy_store import VARIABLE


def read() -> Any:
    """What the Variable holds; None if there is none. Not checked: a person may have edited it in the UI."""
    return Variable.get(VARIABLE)


def write(overrides: Mapping[str, Any]) -> None:
    """Put these in the place of what it holds; the next decision uses them."""
    Variable.set(VARIABLE, dict(overrides), overwrite=True)
