"""Numbers of metrics, shards and buckets, by which the tables of load know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import psycopg
from numpy.typing import NDArray

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_sql import statement, transaction
from foreshard.load.metric import additive, check_metric
from foreshard.load.rollup import Several

_METRICS = "SELECT name, id, additive FROM load_metrics ORDER BY name"
_SHARDS = "SELECT name, id FROM load_shards ORDER BY name"
_MEMBERS = "SELECT shard, bucket FROM load_members ORDER BY shard, position"
_NEW_METRIC = "INSERT INTO load_metrics (name, additive) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_NEW_SHARD = "INSERT INTO load_shards (name) VALUES (%s) ON CONFLICT DO NOTHING"
_SHARD = "SELECT id FROM load_shards WHERE name = %s FOR NO KEY UPDATE"


@dataclass(frozen=True)
class Metric:
    """A metric's number, and whether its values add up."""

    id: int
    name: str
    additive: bool


@dataclass(frozen=True)
class LoadNames:
    """All names as they are in the database. ``members``: of each shard the names by column, '' (itself) first."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    members: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, conn: psycopg.Connection) -> LoadNames:
        """As they are now. None of them ever changes or goes."""
        members: dict[int, list[str]] = {}
        for shard, bucket in conn.execute(_MEMBERS):
            members.setdefault(shard, []).append(bucket)
        return cls(
            {name: Metric(number, name, adds) for name, number, adds in conn.execute(_METRICS)},
            dict(conn.execute(_SHARDS).fetchall()),
            {shard: tuple(names) for shard, names in members.items()},
        )

    def buckets(self) -> tuple[list[str], dict[int, NDArray[np.intp]]]:
        """All buckets by name, and of each shard their numbers in that list, by column from 1 on."""
        names = sorted({name for of_shard in self.members.values() for name in of_shard[1:]})
        number = {name: at for at, name in enumerate(names)}
        return names, {
            shard: np.array([number[name] for name in of_shard[1:]], np.intp)
            for shard, of_shard in self.members.items()
        }

    def several(self) -> Several:
        """The buckets that were ever seen on more than one shard, for `rollup.roll_up`."""
        names, numbers = self.buckets()
        if not names:
            return {}
        seen = np.bincount(np.concatenate(list(numbers.values())), minlength=len(names))
        wanted = np.flatnonzero(seen > 1)
        found: dict[int, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        for shard, here in numbers.items():
            columns = np.flatnonzero(np.isin(here, wanted))
            if len(columns):
                found[shard] = columns + 1, np.searchsorted(wanted, here[columns])
        return found


class NameKeeper:
    """Gives numbers to new names, and remembers those it has seen. To be shared by threads."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._metrics: dict[str, int] = {}
        self._shards: dict[str, int] = {}
        self._positions: dict[str, dict[str, int]] = {}

    def metric(self, name: str) -> int:
        """Its number; `know` was told of it."""
        return self._metrics[name]

    def shard(self, name: str) -> int:
        """Its number; `know` was told of it."""
        return self._shards[name]

    def positions(self, shard: str) -> Mapping[str, int]:
        """Bucket -> column of the shard's arrays; '' is in column 0."""
        return self._positions[shard]

    def know(self, metrics: Iterable[str], buckets: Mapping[str, Iterable[str]]) -> None:
        """Look up or make numbers for ``metrics`` and, by shard, for ``buckets``; in transactions of its own.

        Raises:
            InvalidInput: a new metric's name is none.
        """
        new = [name for name in metrics if name not in self._metrics]
        wanted = {
            shard: {"", *names} for shard, names in buckets.items() if not self._positions_hold(shard, names)
        }
        for name in new:
            check_metric(name)
        if new:
            with transaction(self._control) as conn:
                known = {name: number for name, number, _ in conn.execute(_METRICS)}
                for name in sorted(set(new) - known.keys()):
                    conn.execute(_NEW_METRIC, [name, additive(name)])
                self._metrics = {name: number for name, number, _ in conn.execute(_METRICS)}
        for shard, names in wanted.items():
            self._know_shard(shard, names)

    def _positions_hold(self, shard: str, names: Iterable[str]) -> bool:
        return shard in self._positions and self._positions[shard].keys() >= set(names)

    def _know_shard(self, name: str, buckets: set[str]) -> None:
        with transaction(self._control) as conn:
            shard = _number(conn, name)
            if shard is None or not buckets <= (positions := _positions(conn, shard)).keys():
                conn.execute(_NEW_SHARD, [name])
                shard = conn.execute(_SHARD, [name]).fetchone()[0]  # type: ignore[index]
                ordered = sorted(buckets)  # '' is the first, and so at position 1
                conn.execute(statement("load_members"), {"shard": shard, "buckets": ordered})
                positions = _positions(conn, shard)
        self._shards[name], self._positions[name] = shard, positions


def _number(conn: psycopg.Connection, name: str) -> int | None:
    row = conn.execute("SELECT id FROM load_shards WHERE name = %s", [name]).fetchone()
    return None if row is None else int(row[0])


def _positions(conn: psycopg.Connection, shard: int) -> dict[str, int]:
    rows = conn.execute("SELECT bucket, position - 1 FROM load_members WHERE shard = %s", [shard])
    return dict(rows.fetchall())
