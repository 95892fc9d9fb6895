"""What every stage works with: the migration, both shards, the stores, the lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.lease import Lease
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.router_store import RouterStore
from foreshard.control.shadow_store import ShadowStore
from foreshard.control.stream_store import Reading
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import FailedOver, ShardUnavailable
from foreshard.migration.settlement import Bounds
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import MarkerLine
from foreshard.postgres.names import MigrationNames
from foreshard.settings import MigrationSettings, Settings
from foreshard.topology.keys import KeyType


class Work:
    """One migration being worked on by the holder of its lease."""

    def __init__(self, control: ControlDatabase, settings: Settings, lease: Lease) -> None:
        self.lease = lease
        self.control = control
        self.settings: MigrationSettings = settings.migration
        self.approval = settings.approval
        self.checks = settings.checks
        self.policy = settings.decision
        self.clock = settings.clock.fleet_clock()
        self.lease_seconds = settings.migration.lease_s
        self.state_dir = settings.state_dir
        self.store = MigrationStore(control)
        self.flips = FlipStore(control)
        self.approvals = ApprovalStore(control)
        self.plans = PlanStore(control)
        self.shadows = ShadowStore(control)
        self.routers = RouterStore(control)
        self.topology = TopologyStore(control)
        self.loads = LoadStore(control)
        self.forecasts = ForecastStore(control)
        topology = self.topology
        record = self.record
        self.names = MigrationNames(topology.control_plane_id(), record.id)
        self.source: ShardRecord = topology.shard(record.source)
        self.target: ShardRecord = topology.shard(record.target)
        self.buckets = record.buckets
        self.tables = topology.tables()
        self.key_type: KeyType = topology.key_type()
        self.shadow_role = topology.shadow_role()
        self.reading: Reading | None = None
        """Of the streams, by who looked last (`HeadroomWatch`)."""

    @property
    def record(self) -> MigrationRecord:
        """The migration as it stands in the control database now."""
        return self.store.get(self.lease.migration)

    @property
    def archive(self) -> Path:
        """Where the dump of the buckets' definitions is kept until the migration ends."""
        directory = self.state_dir / "migrations" / str(self.lease.migration)
        directory.mkdir(parents=True, exist_ok=True)
        return directory / "schema.dump"

    @property
    def application(self) -> str:
        """What this migration's sessions on the shards are called; `session_name` adds the lease."""
        return f"foreshard migration {self.lease.migration}"

    @property
    def session_name(self) -> str:
        """``application_name`` of our own sessions: the next holder of the lease knows them by it."""
        return f"{self.application} lease {self.lease.token}"

    def shard(self, side: Side) -> ShardRecord:
        """The shard on that side."""
        return self.source if side is Side.SOURCE else self.target

    @contextmanager
    def connection(self, side: Side, statement_timeout_s: float = 0) -> Iterator[Connection]:
        """A connection to one side, closed at the end."""
        conn = connect(
            self.shard(side).dsn,
            application=self.session_name,
            statement_timeout_s=statement_timeout_s,
        )
        with conn:
            yield conn

    def answers(self, side: Side) -> bool:
        """Whether that shard takes connections now."""
        try:
            with self.connection(side):
                return True
        except ShardUnavailable:
            return False

    @contextmanager
    def connections(self, statement_timeout_s: float = 0) -> Iterator[tuple[Connection, Connection]]:
        """Connections to source and target."""
        with (
            self.connection(Side.SOURCE, statement_timeout_s) as source,
            self.connection(Side.TARGET, statement_timeout_s) as target,
        ):
            yield source, target

    @contextmanager
    def marker_line(self, sender: Side) -> Iterator[MarkerLine]:
        """Markers from ``sender`` to the other side."""
        with self.connection(sender) as here, self.connection(sender.other) as there:
            yield MarkerLine(here, there, self.names)

    def bounds(self) -> Bounds:
        """Who owns what, asked on both shards.

        Raises:
            ShardUnavailable: a shard does not answer.
            FailedOver: the bounds would give a key two owners.
        """
        bounds = self._read_bounds()
        if bounds.overlap:
            bounds = self._read_bounds()  # one was read before, one after a flip of a late runner
        if bounds.overlap:
            raise FailedOver(
                f"Migration {self.lease.migration}: the target claims slots below {bounds.target}, the source "
                f"those from {bounds.source}.",
                remedy="A server was restored. Stop writes to these buckets and ask for help.",
                bounds=asdict(bounds),
            )
        return bounds

    def _read_bounds(self) -> Bounds:
        with self.connections() as (source, target):
            theirs, ours = guard.state(target, self.names), guard.state(source, self.names)
        return Bounds(None if ours is None else ours.bound, None if theirs is None else theirs.bound)

    def facts(self) -> dict[str, Any]:
        """What earlier stages left."""
        return dict(self.record.facts)
