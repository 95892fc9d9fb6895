"""Shards, buckets and the routing map in the control database."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from foreshard.adoption.description import checked_identifier
from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration, MigrationBucket
from foreshard.control.models import Bucket, ControlPlane, Shard
from foreshard.errors import InvalidInput, NotFound
from foreshard.migration.lifecycle import ENDS
from foreshard.postgres.passwords import without_secret
from foreshard.topology.bucketing import Bucketing
from foreshard.topology.keys import KeyType, KeyTypes, distribution_type, key_types_text, parse_key_types
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Redirection, RoutingMap

ROUTING_CHANNEL = "foreshard_routing"
"""NOTIFY channel; the payload is the new routing epoch."""

HASHED = Bucketing()

DISK_BYTES = "disk_bytes"
"""The capacity that no load is measured against."""


@dataclass(frozen=True)
class ShardRecord:
    """A shard as the control database knows it. Neither DSN holds a password."""

    name: str
    dsn: str
    application_dsn: str
    capacity: Mapping[str, float]
    """Metric -> capacity. ``disk_bytes``, the size of its disk, is looked at by migrations, not by forecasts."""
    draining: bool = False
    """Its buckets are to leave, and none comes to it."""

    @property
    def load_capacity(self) -> Mapping[str, float]:
        """The capacities that load is forecast against."""
        return {metric: limit for metric, limit in self.capacity.items() if metric != DISK_BYTES}


class TopologyStore:
    """Reads and writes the fleet's topology."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    def describe_fleet(
        self,
        key_type: KeyTypes,
        tables: Mapping[str, str],
        bucketing: Bucketing = HASHED,
        *,
        shadow_role: str | None = None,
    ) -> None:
        """Set what all buckets share: the key's type, each table's distribution column, how a key's bucket is found.

        ``shadow_role`` reads copies that do not serve yet; None: no shadow reads. Idempotent.

        Raises:
            InvalidInput: there is no table, a DSN holds a password, or the role's name is none.
        """
        if not tables:
            raise InvalidInput("tables", "a bucket needs at least one table.")
        if shadow_role is not None:
            _refuse_no_identifier("shadow_role", shadow_role)
        if bucketing.dsn is not None:
            _refuse_password("bucketing.dsn", bucketing.dsn)
        with self._control.transaction() as session:
            plane = session.get(ControlPlane, True)
            if plane is None:
                plane = ControlPlane(id=secrets.token_hex(2), routing_epoch=1)
                session.add(plane)
            plane.key_type = key_types_text(key_type)
            plane.tables = dict(tables)
            plane.bucketing = bucketing.to_json()
            plane.shadow_role = shadow_role

    def control_plane_id(self) -> str:
        """The four hex digits in the names of all objects this control plane makes on shards."""
        with self._control.transaction() as session:
            return _plane(session).id

    def tables(self) -> dict[str, str]:
        """Distribution column of every table of a bucket, by table name."""
        with self._control.transaction() as session:
            return dict(_plane(session).tables)

    def key_type(self) -> KeyType:
        """Type of every distribution column."""
        with self._control.transaction() as session:
            return distribution_type(parse_key_types(_plane(session).key_type))

    def bucketing(self) -> Bucketing:
        """How the bucket of a key is found."""
        with self._control.transaction() as session:
            return Bucketing.from_json(_plane(session).bucketing)

    def shadow_role(self) -> str | None:
        """The role that shadow reads are made as; None: none are made."""
        with self._control.transaction() as session:
            return _plane(session).shadow_role

    def routing_epoch(self) -> int:
        """Version of the newest routing map."""
        with self._control.transaction() as session:
            return _plane(session).routing_epoch

    def put_shard(self, shard: ShardRecord) -> None:
        """Add a shard or replace what is known of it; whether it is draining stays as it is (`ShardStore`).

        One that was removed comes back.
        """
        for field, dsn in (("dsn", shard.dsn), ("application_dsn", shard.application_dsn)):
            _refuse_password(f"shards.{shard.name}.{field}", dsn)
        with self._control.transaction() as session:
            row = session.merge(
                Shard(
                    name=shard.name,
                    dsn=shard.dsn,
                    application_dsn=shard.application_dsn,
                    capacity=dict(shard.capacity),
                )
            )
            if row.state == "removed":
                row.state = "active"

    def shards(self) -> tuple[ShardRecord, ...]:
        """All shards of the fleet, by name."""
        with self._control.transaction() as session:
            present = select(Shard).where(Shard.state != "removed").order_by(Shard.name)
            return tuple(_record(shard) for shard in session.scalars(present))

    def shard(self, name: str) -> ShardRecord:
        """One shard, also one that was removed: its migrations are still told.

        Raises:
            NotFound: no such shard.
        """
        with self._control.transaction() as session:
            row = session.get(Shard, name)
            if row is None:
                raise NotFound(f"There is no shard {name!r}.", remedy="`foreshard status` lists the shards.")
            return _record(row)

    def put_buckets(self, names: Iterable[str], placement: Placement) -> None:
        """Register the fleet's buckets, in the order of their numbers, with their placement."""
        with self._control.transaction() as session:
            for number, name in enumerate(names):
                session.merge(Bucket(name=name, number=number, shard=placement.shard_of(name)))
            publish_routing(session)

    def placement(self) -> Placement:
        """Which shard holds each bucket."""
        with self._control.transaction() as session:
            return _placement(session)

    def buckets(self) -> tuple[Bucket, ...]:
        """All buckets, by number."""
        with self._control.transaction() as session:
            return tuple(session.scalars(select(Bucket).order_by(Bucket.number)))

    def routing_map(self) -> RoutingMap:
        """The placements and the redirections under way, read in one snapshot."""
        with self._control.transaction() as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            plane = _plane(session)
            names = tuple(session.scalars(select(Bucket.name).order_by(Bucket.number)))
            moving = session.execute(
                select(Migration, func.array_agg(MigrationBucket.bucket))
                .join(MigrationBucket)
                .where(Migration.stage.not_in(ENDS), MigrationBucket.live)
                .group_by(Migration.id)
                .order_by(Migration.id)
            )
            return RoutingMap(
                epoch=plane.routing_epoch,
                key_type=parse_key_types(plane.key_type),
                buckets=names,
                placement=_placement(session),
                redirections=tuple(
                    Redirection(
                        migration=migration.id,
                        buckets=frozenset(buckets),
                        source=migration.source,
                        target=migration.target,
                        bound=migration.bound,
                        shadow_percent=migration.shadow_percent,
                    )
                    for migration, buckets in moving
                ),
                bucketing=Bucketing.from_json(plane.bucketing).kind,
            )


def publish_routing(session: Session) -> int:
    """Raise the routing epoch inside the caller's transaction; routers are told when it commits."""
    epoch = session.execute(
        update(ControlPlane)
        .values(routing_epoch=ControlPlane.routing_epoch + 1)
        .returning(ControlPlane.routing_epoch)
    ).scalar_one()
    session.execute(select(func.pg_notify(ROUTING_CHANNEL, str(epoch))))
    return epoch


def _refuse_password(field: str, dsn: str) -> None:
    try:
        without_secret(dsn)
    except ValueError as refused:
        raise InvalidInput(field, f"{refused}.") from None


def _refuse_no_identifier(field: str, name: str) -> None:
    try:
        checked_identifier(name)
    except ValueError as refused:
        raise InvalidInput(field, f"{refused}.") from None


def _plane(session: Session) -> ControlPlane:
    plane = session.get(ControlPlane, True)
    if plane is None:
        raise NotFound(
            "The control database describes no fleet yet.",
            remedy="`foreshard adopt` takes over a fleet; `foreshard demo` makes one.",
        )
    return plane


def _placement(session: Session) -> Placement:
    rows = session.execute(select(Bucket.name, Bucket.shard)).tuples().all()
    return Placement(dict(rows))


def _record(row: Shard) -> ShardRecord:
    return ShardRecord(
        row.name, row.dsn, row.application_dsn, dict(row.capacity), draining=row.state == "draining"
    )
