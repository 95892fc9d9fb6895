"""The settings of the demo: a patient installation would wait minutes where this one waits seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from deployments.stack import Stack
from foreshard.fleet.load_history import FLEET_START
from foreshard.fleet.server import free_port

TIMEZONE = "America/New_York"

SOAK_S = 25.0
SOAK_OF_A_PERSON_S = 180.0
"""Who looks for the flow `reverse` for the first time needs a while, and it is possible until the soak is over."""

DEMO: Mapping[str, Mapping[str, object]] = {
    # Without Prophet, whose fits take longer than all others together.
    "forecast": {"horizon_hours": 12, "models": ["seasonal_naive", "ets", "lightgbm"], "workers": 2},
    # At once: the next trough is hours away.
    "decision": {"start": "now", "margin_s": 300.0},
    "migration": {
        "canary_percent": [1.0, 10.0, 50.0],
        "canary_min_writes": 200,
        "canary_soak_s": 25.0,
        "shadow_percent": 50.0,
        "shadow_min_reads": 100,
        "shadow_timeout_s": 30.0,
    },
}

OWN_SUITES = Path(__file__).resolve().parent.parent / "examples" / "data_checks"
"""What the airline expects of its data, whichever shard holds it."""

BACKFILL_BYTES_PER_S_WHEN_KILLED = 1_500_000
"""A kill test needs a backfill that lasts: at least twenty seconds for the forty megabytes of the plan."""


def clock_offset_s() -> float:
    """What makes the fleet's clock stand at its start now."""
    return round((FLEET_START - datetime.now(UTC)).total_seconds(), 3)


def write(stack: Stack, offset_s: float, *, soak_s: float = SOAK_S, kill_test: bool = False) -> None:
    """Writes the stack's `foreshard.toml`."""
    assert stack.prefect is not None
    migration = {**DEMO["migration"], "soak_s": soak_s}
    if kill_test:
        migration["backfill_max_bytes_per_s"] = BACKFILL_BYTES_PER_S_WHEN_KILLED
    docs_port = free_port({stack.prefect.port})
    checks: dict[str, object] = {"docs_port": docs_port}
    if OWN_SUITES.is_dir():  # an installed package comes without the examples
        checks["suites"] = str(OWN_SUITES)
    sections: dict[str, Mapping[str, object]] = {
        "control": {"dsn": stack.fleet.control_dsn()},
        "clock": {"offset_seconds": offset_s, "timezone": TIMEZONE},
        "prefect": {"api_url": stack.prefect.api_url},
        "checks": checks,
        "metrics": {"port": free_port({stack.prefect.port, docs_port})},
        **DEMO,
        "decision": {**DEMO["decision"], "soak_s": soak_s},
        "migration": migration,
    }
    lines = [
        "# Written by `foreshard demo`; the next demo replaces it.",
        f"state_dir = {_toml(str(stack.state_dir))}",
        f"passfile = {_toml(str(stack.fleet.passwords.path))}",
    ]
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{field} = {_toml(value)}" for field, value in values.items())]
    stack.config_file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    """Strings, numbers and lists of them are written alike in TOML and JSON."""
    return json.dumps(value)
