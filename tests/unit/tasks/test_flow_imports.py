"""What a flow's process waits for before its first line: `collect` and `janitor` are started each minute."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "alembic", "great_expectations", "holidays", "lightgbm", "matplotlib", "pandas", "prefect.server", "prophet",
    "scipy", "sklearn", "statsforecast", "torch",
)  # fmt: skip
"""Seconds to import. Whatever needs one of them imports it where it is needed."""


@pytest.mark.parametrize("flow", ["collect", "janitor", "migrate", "reverse", "verify"])
def test_a_flow_that_draws_and_forecasts_nothing_imports_nothing_that_does(flow: str) -> None:
    look = f"import sys, flows.{flow}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.split() == []
