"""The tables of load. Samples of one metric, of one shard, at one time are one row with an array of values.

Element 1 is the shard's own value, the others are those of its buckets, in the order in which they were first seen
there (`LoadMember`). What was not sampled is NULL: a gap, never zero.

`RawLoad` is rolled up to `FiveMinuteLoad` and that to `HourLoad`, all of one shape, each partitioned by time: the
partitions stand in the schema ``load_partitions``, see `load_partitions`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from foreshard.control.models import Base, one_of


class LoadShard(Base):
    """A shard that load was ever stored of; it need not be in the fleet (any more)."""

    __tablename__ = "load_shards"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class LoadMetric(Base):
    """A metric that was ever stored. ``additive``: see `load.metric`."""

    __tablename__ = "load_metrics"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    additive: Mapped[bool]


class LoadMember(Base):
    """Which element of a shard's arrays is which bucket's. Only ever added to. Position 1 is the shard, bucket ''."""

    __tablename__ = "load_members"
    __table_args__ = (
        UniqueConstraint("shard", "bucket"),
        CheckConstraint("position >= 1 AND (position = 1) = (bucket = '')", name="position"),
    )
    shard: Mapped[int] = mapped_column(ForeignKey("load_shards.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bucket: Mapped[str]


class _Load:
    """One time of one metric of one shard. ``live``: how many of the values were taken by `collect`."""

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:  # noqa: N805
        return (
            CheckConstraint("0 <= ALL (amounts) AND 'infinity' > ALL (amounts)", name="amounts"),
            {"postgresql_partition_by": "RANGE (ts)"},
        )

    # The order of the key: what is read and rolled up is a time of one metric, of all shards.
    metric: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ts: Mapped[datetime] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    live: Mapped[int]
    amounts: Mapped[list[float | None]] = mapped_column(ARRAY(REAL))


class RawLoad(_Load, Base):
    """Samples as they were measured; ``ts`` as in `load.sample`."""

    __tablename__ = "load_raw"


class FiveMinuteLoad(_Load, Base):
    """Means of five minutes; ``ts`` is their start."""

    __tablename__ = "load_five_minutes"


class HourLoad(_Load, Base):
    """Means of an hour; ``ts`` is its start."""

    __tablename__ = "load_hours"


class LoadMark(Base):
    """A window that is to be rolled up (again). ``claimed``: the keeper is at it; who adds to it marks it anew."""

    __tablename__ = "load_marks"
    __table_args__ = (CheckConstraint(one_of("step", ["five_minutes", "hours"]), name="step"),)
    step: Mapped[str] = mapped_column(primary_key=True)
    claimed: Mapped[bool] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)


class LoadHorizon(Base):
    """Before ``at`` rows of the table may have been dropped: windows above them are filled in, never replaced."""

    __tablename__ = "load_horizons"
    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class CounterState(Base):
    """The last reading of a shard's counters, from which the next rate is made."""

    __tablename__ = "counter_states"
    shard: Mapped[str] = mapped_column(primary_key=True)
    reading: Mapped[dict[str, Any]]
