"""The stack that the UI tests drive: the demo's, with short waits and a standing policy by which nothing moves.

After a forecast `decide` follows by itself, as everywhere. By the standing threshold it plans nothing, so that the
first plan is the one that a person asks for in the form of `decide`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from sqlalchemy import text

from deployments import demo_settings, leftovers
from deployments.demo import Demo
from deployments.stack import Stack
from deployments.steps import Steps
from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import TopologyStore
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.embedded import SHARDS
from foreshard.fleet.ledger import Ledger
from foreshard.fleet.server import free_port

STANDING_THRESHOLD = 50.0
"""No score comes near it."""

SOAK_S = 90.0
"""Long enough to open a form, fill it in and have its run started, on a busy machine too."""

SETTINGS: Mapping[str, object] = {
    "FORECAST__MODELS": ["seasonal_naive", "ets"],
    "DECISION__MIGRATION_THRESHOLD": STANDING_THRESHOLD,
    "DECISION__COOLDOWN_S": 0,  # what a person refused may be planned again at once
    "DECISION__NO_RETURN_S": 0,
    "MIGRATION__CANARY_PERCENT": [50],
    "MIGRATION__CANARY_SAMPLE_S": 1,
    "MIGRATION__CANARY_MIN_WRITES": 50,
    "MIGRATION__CANARY_SOAK_S": 10,
    "MIGRATION__SHADOW_MIN_READS": 20,
    "MIGRATION__SHADOW_TIMEOUT_S": 10,
    "DECISION__SOAK_S": SOAK_S,
    "MIGRATION__SOAK_S": SOAK_S,
}


class Cockpit:
    """What a test may ask of the stack beside what its UI shows."""

    def __init__(self, stack: Stack, control: ControlDatabase) -> None:
        self.stack, self.control = stack, control

    @property
    def address(self) -> str:
        """Where the UI is."""
        assert self.stack.prefect is not None
        return self.stack.prefect.ui_url

    def owners(self) -> Mapping[str, str]:
        """The shard of each bucket, by the routing map."""
        return TopologyStore(self.control).placement().of

    def left_over(self) -> list[str]:
        """What stands on any shard though no migration runs."""
        return leftovers.find(self.stack.fleet, self.owners())

    def words(self, migration_id: int) -> list[tuple[str, str]]:
        """Of each decision on the migration what it was, and who made it."""
        query = text("SELECT state, approver FROM approvals WHERE migration_id = :migration ORDER BY id")
        with self.control.transaction() as session:
            rows = session.execute(query, {"migration": migration_id})
            return [(state, approver) for state, approver in rows]

    def copy_artifacts(self, names: Mapping[str, str], *keys: str) -> list[str]:
        """Makes a copy of each artifact's newest version with other names in it; returns the copies' keys."""
        made = []
        with httpx.Client(base_url=f"{self.address}/api", timeout=60) as client:
            for key in keys:
                wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
                (found,) = client.post("/artifacts/filter", json=wanted).raise_for_status().json()
                for old, new in names.items():
                    found["data"] = found["data"].replace(old, new)
                copy = {"key": f"long-{key}", "type": found["type"], "data": found["data"]}
                client.post("/artifacts/", json=copy).raise_for_status()
                made.append(f"long-{key}")
        return made

    def history(self) -> CheckResult:
        """Every write that clients were told of, held against the owners; the workload must have been stopped."""
        dsns = {shard: self.stack.fleet.operator_dsn(shard) for shard in SHARDS}
        with closing(Ledger(self.stack.ledger)) as ledger:
            return check(ledger.operations(), ledger.starts(), OwnerReader(self.owners(), dsns))


@contextmanager
def cockpit(state_dir: Path) -> Iterator[Cockpit]:
    """Everything runs, and every flow is served; in the end everything is stopped and removed."""
    stack = Stack(state_dir)
    before = dict(os.environ)
    os.environ.update({f"FORESHARD_{name}": _text(value) for name, value in SETTINGS.items()})
    os.environ["FORESHARD_CHECKS__DOCS_PORT"] = str(free_port(set()))
    own_suites, demo_settings.OWN_SUITES = (
        demo_settings.OWN_SUITES,
        Path("without"),
    )  # they take most of a gate's time
    try:
        with Steps(Console(soft_wrap=True)) as steps:
            demo = Demo(stack, steps, once=False, failpoints="")
            stack.fleet.up()
            demo.control = ControlDatabase(stack.fleet.control_dsn())
            with closing(demo.control):
                demo.set_up()
                yield Cockpit(stack, demo.control)
    finally:
        demo_settings.OWN_SUITES = own_suites
        stack.wipe()
        os.environ.clear()
        os.environ.update(before)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
