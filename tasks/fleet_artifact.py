"""The front page in the UI: one artifact, `fleet`, written over every minute so that its address stays the same."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import InvalidInput
from foreshard.settings import Settings
from tasks import fleet_markdown, links
from tasks.fleet_markdown import FleetFacts

ENDED = 5
"""Migrations that ended last, on the page."""


def show(control: ControlDatabase, settings: Settings) -> None:
    """Writes the page. No task of its own, which would cost more than the page; no error of showing stops the run."""
    try:
        facts = read(control, settings)
        newest = links.newest(fleet_markdown.keys(facts))
        markdown, said = fleet_markdown.as_markdown(facts, newest), fleet_markdown.description(facts)
        if links.FLEET not in newest:
            create_markdown_artifact(key=links.FLEET, markdown=markdown, description=said)
            return
        with get_client(sync_client=True) as client:
            update = ArtifactUpdate(data=markdown, description=said)
            client.update_artifact(newest[links.FLEET], update)
    except Exception as error:  # a picture of the work must never stop the work
        get_run_logger().warning("The fleet cannot be shown: %s", error)


def read(control: ControlDatabase, settings: Settings) -> FleetFacts:
    """What the control database knows now."""
    now, topology = settings.clock.fleet_clock().now(), TopologyStore(control)
    shards, placement, plans = topology.shards(), topology.placement(), PlanStore(control)
    try:
        decision = plans.newest_decision()
    except InvalidInput:  # of another version
        decision = None
    return FleetFacts(
        now=now,
        timezone=settings.clock.timezone,
        shards=shards,
        present=LoadStore(control).present(now).shards,
        buckets={one.name: len(placement.buckets_on(one.name)) for one in shards},
        decision=decision,
        plans=plans.open(),
        migrations=MigrationStore(control).shown(ENDED),
    )
