"""Reads and writes a whole topology at once, for `foreshard adopt`."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from foreshard.adoption.changes import Adoption, DescribedShard, PlacedBucket, Topology, plan_adoption
from foreshard.adoption.description import FleetDescription
from foreshard.adoption.report import AdoptionReport
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration, MigrationBucket
from foreshard.control.models import Bucket, ControlPlane, Shard
from foreshard.control.topology_store import publish_routing
from foreshard.errors import ForeshardError
from foreshard.migration.lifecycle import ENDS
from foreshard.topology.bucketing import Bucketing
from foreshard.topology.keys import key_types_text, parse_key_types


class AdoptionStore:
    """The topology as one thing."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def present(self) -> Topology | None:
        """What the control database says; None if it describes no fleet, or has no tables yet."""
        current, newest = self._control.revision()
        if current is None:
            return None
        if current != newest:
            raise ForeshardError(
                f"The control database has schema revision {current}, not {newest}.",
                remedy="`foreshard serve` of this version brings it there.",
            )
        with self._control.transaction() as session:
            return _read(session)

    def write(self, description: FleetDescription, report: AdoptionReport) -> Adoption:
        """Write what was described and found; nothing if the result has refusals.

        Brings the control database's schema to the newest revision first.
        """
        self._control.migrate()
        with self._control.transaction() as session:
            # No migration may begin, go on or end between our look and our word. Routers read on.
            session.execute(text("LOCK TABLE migrations, migration_buckets IN SHARE ROW EXCLUSIVE MODE"))
            adoption = plan_adoption(description, report, _read(session))
            if adoption.changes and not adoption.refusals:
                _write(session, adoption.topology)
            return adoption


def _read(session: Session) -> Topology | None:
    plane = session.get(ControlPlane, True)
    if plane is None:
        return None
    live = session.execute(
        select(MigrationBucket.bucket, Migration.id)
        .join(Migration, Migration.id == MigrationBucket.migration_id)
        .where(Migration.stage.not_in(ENDS), MigrationBucket.live)
    ).tuples()
    return Topology(
        parse_key_types(plane.key_type),
        dict(plane.tables),
        Bucketing.from_json(plane.bucketing),
        {
            row.name: DescribedShard(row.dsn, row.application_dsn, dict(row.capacity))
            for row in session.scalars(select(Shard).where(Shard.state != "removed").order_by(Shard.name))
        },
        {
            row.name: PlacedBucket(row.number, row.shard)
            for row in session.scalars(select(Bucket).order_by(Bucket.number))
        },
        dict(live.all()),
        plane.shadow_role,
    )


def _write(session: Session, topology: Topology) -> None:
    plane = session.get(ControlPlane, True)
    if plane is None:
        plane = ControlPlane(id=secrets.token_hex(2), routing_epoch=1)
        session.add(plane)
    plane.key_type = key_types_text(topology.key_type)
    plane.tables = dict(topology.tables)
    plane.bucketing = topology.bucketing.to_json()
    plane.shadow_role = topology.shadow_role
    for name, shard in topology.shards.items():
        row = session.get(Shard, name)
        if row is None:
            row = Shard(name=name)
            session.add(row)
        if row.state == "removed":
            row.state = "active"
        row.dsn, row.application_dsn, row.capacity = shard.dsn, shard.application_dsn, dict(shard.capacity)
    session.flush()
    session.execute(delete(Bucket).where(Bucket.name.not_in(list(topology.buckets))))
    # Numbers are unique: those that change places step aside first.
    session.execute(update(Bucket).values(number=-1 - Bucket.number))
    known = {bucket.name: bucket for bucket in session.scalars(select(Bucket))}
    for name, placed in topology.buckets.items():
        if name in known:
            known[name].number, known[name].shard = placed.number, placed.shard
        else:
            session.add(Bucket(name=name, number=placed.number, shard=placed.shard))
    session.flush()
    publish_routing(session)
