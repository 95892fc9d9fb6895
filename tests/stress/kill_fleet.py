"""The fleet of one chain of kills: servers that die, writers that never stop, and what is asked of both sides."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from foreshard.control.models import Plan
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ForeshardError
from foreshard.fleet.airline import TABLES
from foreshard.fleet.checker import CheckResult
from foreshard.fleet.ledger import Ledger
from foreshard.fleet.operations import Operations
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration import janitor
from foreshard.migration.lifecycle import Stage
from foreshard.router.fleet_router import fleet_router
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import SLOTS
from tests.integration.moving_fleet import BUCKETS, QUICK, MovingFleet, drop_pair, wait_until

# Many canary steps: each is one more flip to die in, and costs next to nothing.
SETTINGS = QUICK.model_copy(
    update={
        "lease_s": 1.0,
        "canary_percent": (1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0),
        "canary_soak_s": 0.0,
        "soak_s": 0.1,
        "shadow_timeout_s": 0.0,
        "marker_timeout_s": 3.0,
    }
)

OWNERS = {Stage.DONE: "target", Stage.ABORTED: "source", Stage.REVERSED: "source"}
"""Who owns the buckets at each end."""

WRITERS = 2
DEADLINE_S = 30.0
"""How long a writer tries before it gives a write up; a server is up again much sooner."""

LEVEL_PATIENCE_S = 20.0


class CheckFailed(Exception):
    """Something that must never be was seen; the text says what."""


class KillFleet:
    """A moving fleet under writers. Use as a context manager; `writing` ends with `stop_writers`."""

    def __init__(self, servers: ThrowawayServers, settings: MigrationSettings = SETTINGS) -> None:
        self._servers = servers
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> KillFleet:
        with ExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foreshard-kill-")))
            pair = ShardPair(self._servers.new_shard("source"), self._servers.new_shard("target"))
            stack.callback(drop_pair, self._servers, pair)
            control_dsn = self._servers.new_control_database()
            database = str(psycopg.conninfo.conninfo_to_dict(control_dsn)["dbname"])
            stack.callback(self._servers.drop, "control", database)
            self.moving = stack.enter_context(
                closing(MovingFleet(pair, control_dsn, self.directory, self._settings))
            )
            self._start_writers(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, party: str) -> PostgresServer:
        """The server that ``source``, ``target`` or ``control`` is on, running or not."""
        return {
            "source": self.moving.pair.source.server,
            "target": self.moving.pair.target.server,
            "control": self._servers.server("control"),
        }[party]

    # -- writers ----------------------------------------------------------------------------------------

    def _start_writers(self, stack: ExitStack) -> None:
        starts = self.moving.starts()[:30]  # few aircraft: the same keys are written again and again
        self._ledger = stack.enter_context(closing(Ledger(self.directory / "ledger.sqlite")))
        router = stack.enter_context(
            closing(fleet_router(self.moving.control, "kill", deadline_s=DEADLINE_S))
        )
        self._ledger.note_starts(starts)
        self._operations = Operations(router, self._ledger, starts)
        self._stop = threading.Event()
        self._turns = [threading.Lock() for _ in range(WRITERS)]

        def write(number: int) -> None:
            draw = random.Random(number)
            while not self._stop.wait(0.002):
                with self._turns[number]:
                    self._operations.write(draw.choice(starts), draw)

        self._threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in self._threads:
            thread.start()
        stack.callback(self.stop_writers)

    def stop_writers(self) -> None:
        """Let the writers finish what they are at, and end them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No writer is inside a transaction while this lasts."""
        with ExitStack() as stack:
            for turn in self._turns:
                stack.enter_context(turn)
            yield

    # -- checks -----------------------------------------------------------------------------------------

    def probe(self) -> None:
        """No key has two owners, asked on the servers themselves.

        Raises:
            CheckFailed: one has.
        """
        seen = []
        for _ in range(3):  # the two are not read at one instant, and a flip may go on between
            target, source = _bound(self.moving.pair.target), _bound(self.moving.pair.source)
            if (0 if target is None else target) <= (SLOTS if source is None else source):
                return
            seen.append((source, target))
        raise CheckFailed(f"keys with two owners: (source, target) bounds {seen}")

    def compare(self) -> None:
        """Both copies hold the same rows, once the streams have brought them there.

        Raises:
            CheckFailed: they do not become equal while nobody writes.
        """
        pair = self.moving.pair
        with self.quiet():
            try:
                wait_until(lambda: _rows(pair.source) == _rows(pair.target), "equal", LEVEL_PATIENCE_S)
            except AssertionError:
                raise CheckFailed("source and target differ while nobody writes") from None

    def check_end(self) -> CheckResult:
        """What a migration must have left at its end: every write once, one copy, nothing else.

        Raises:
            CheckFailed: what is wrong, all of it.
        """
        self.stop_writers()
        moving = self.moving
        record = moving.store.get(moving.migration)
        if record.stage not in OWNERS:
            raise CheckFailed(f"the migration stands in {record.stage}")
        pair = moving.pair
        owner, other = (
            (pair.target, pair.source) if OWNERS[record.stage] == "target" else (pair.source, pair.target)
        )
        result = moving.checked(self._ledger, owner)
        wrong = []
        if not result.passed:
            wrong.append(f"history: {result}")
        if any(run.detail.get("left_to_the_janitor") for run in moving.store.stage_runs(moving.migration)):
            janitor.clean(moving.control)  # it was aborted while its target was down, which is back now
        if left := moving.leftovers():
            wrong.append(f"leftovers: {left}")
        if moving.schemas(owner) != list(BUCKETS) or moving.schemas(other):
            wrong.append(
                f"copies: {moving.schemas(owner)} at the owner, {moving.schemas(other)} at the other"
            )
        if set(TopologyStore(moving.control).placement().buckets_on(owner.name)) & set(BUCKETS) != set(
            BUCKETS
        ):
            wrong.append("the placement names another owner")
        with moving.control.transaction() as session:
            plan = session.get(Plan, record.plan_id)
            if plan is None or plan.state != record.stage:
                wrong.append("the plan is not settled")
        if moving.flips.unfinished(moving.migration) is not None:
            wrong.append("a flip is unfinished")
        if moving.store.confirmation(moving.migration) is None:
            wrong.append("there is no confirmation")
        if unremoved := [r.name for r in moving.store.resources(moving.migration) if r.removed_at is None]:
            wrong.append(f"not noted as removed: {unremoved}")
        status = self._operations.status()
        counts: Any = status["operations"]
        if odd := {name: counts[name] for name in ("errors", "lost_update_visible") if counts[name]}:
            wrong.append(f"writers: {odd}, last {status['last_error']}")
        if wrong:
            raise CheckFailed("; ".join(wrong))
        return result


def _bound(shard: ShardDatabase) -> int | None:
    """The bound on that server; None if the migration has nothing there."""
    with shard.connect() as conn:
        row = conn.execute(
            "SELECT (pg_sequence_last_value(bound_sequence::regclass) % 2048)::int FROM foreshard.sides"
        ).fetchone()
    return None if row is None else int(str(row[0]))


def _rows(shard: ShardDatabase) -> list[object]:
    """A digest of every table of the plan's buckets, as text."""
    digest = sql.SQL(
        "SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(t::text) AS h FROM {} t) x"
    )
    try:
        with shard.connect() as conn:
            return [
                conn.execute(digest.format(sql.Identifier(bucket, table))).fetchone()
                for bucket in BUCKETS
                for table in TABLES
            ]
    except psycopg.OperationalError as error:
        raise ForeshardError(f"{shard.name} does not answer: {error}") from error
