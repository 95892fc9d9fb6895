"""Finds and removes what migrations that have ended left on any shard.

Dead is a migration that the control database calls aborted, reversed or done: `RemainsStore.look_up` says why that
cannot race a runner. A live one is never touched, one that the control database does not know (it was restored from a
backup) is reported and never touched, and what carries another control plane's id is not looked at.

The shard has the last word. Before anything of a migration is touched there, its bound must be what that end implies:
0 after an abort or a reversal, 1024 when it is done; and the buckets that move must be those of the record. So a
number that a restored control database has given out twice, or a shard that was restored itself, costs nothing but a
line in the report. A copy is dropped by `foreshard.drop_copy` alone, which asks the bound once more under the fence
lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

import psycopg

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Resource
from foreshard.control.remains_store import Known, RemainsStore
from foreshard.control.router_store import RouterStore
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.migration import removal
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard, migration_objects, preflight_queries, replication_slots
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames
from foreshard.topology.keys import SLOTS

ATTEMPTS = 8
"""Fewer than a teardown's: the janitor comes again."""

STATEMENT_TIMEOUT_S = 30


class Action(StrEnum):
    """What became of a finding."""

    REMOVED = "removed"
    WOULD_REMOVE = "would remove"
    LEFT = "left"


@dataclass(frozen=True)
class Finding:
    """One thing on one shard. ``why`` it was left; ``migration`` is None for a shard that does not answer."""

    shard: str
    kind: str
    name: str
    migration: int | None
    action: Action
    why: str = ""


@dataclass
class _Remains:
    """What one ended migration has on one shard. ``why`` nothing more is done here, once something is in the way."""

    shard: str
    conn: Connection
    names: MigrationNames
    known: Known
    things: list[tuple[str, str]]
    recorded: list[Resource]
    why: str = field(default="")

    @property
    def side(self) -> Side:
        return Side.SOURCE if self.shard == self.known.source else Side.TARGET

    @property
    def bound(self) -> int:
        """The bound that the end implies, on both sides."""
        return SLOTS if self.known.stage is Stage.DONE else 0

    @property
    def lost(self) -> bool:
        """Whether this side ended as the one that owns nothing."""
        return self.side is (Side.SOURCE if self.known.stage is Stage.DONE else Side.TARGET)

    def names_of(self, kind: str) -> list[str]:
        return [one.name for one in self.recorded if one.kind == kind]


def clean(control: ControlDatabase, *, dry_run: bool = False) -> list[Finding]:
    """Remove everything of dead migrations on all shards; ``dry_run`` only says what would be removed.

    A shard that does not answer is one finding, and does not stop the rest. May run several times at once.
    """
    store, plane = RemainsStore(control), TopologyStore(control).control_plane_id()
    findings: list[Finding] = []
    remains: list[_Remains] = []
    with ExitStack() as stack:
        for shard in TopologyStore(control).shards():
            try:
                conn = stack.enter_context(
                    connect(
                        shard.dsn, application="foreshard janitor", statement_timeout_s=STATEMENT_TIMEOUT_S
                    )
                )
                removal.lock_briefly(conn)
                for one in _remains(store, plane, shard.name, conn):
                    if isinstance(one, Finding):
                        findings.append(one)
                    else:
                        remains.append(one)
            except (ShardUnavailable, psycopg.Error) as away:
                findings.append(
                    Finding(shard.name, "shard", shard.name, None, Action.LEFT, _first_line(away))
                )
        if not dry_run:
            for step in (_end_subscription, _end_slots, _drop_copy_and_guards):
                _everywhere(remains, step)
        for one in remains:
            findings += _outcome(store, one, dry_run)
    if not dry_run:
        RouterStore(control).forget_silent()
    return sorted(findings, key=lambda one: (one.shard, one.migration or 0, one.kind, one.name))


def _remains(store: RemainsStore, plane: str, shard: str, conn: Connection) -> Iterator[_Remains | Finding]:
    objects = migration_objects.of_plane(conn, plane)
    things = {number: [(k, n) for _, k, n in rows] for number, rows in groupby(objects, key=lambda o: o[0])}
    recorded: dict[int, list[Resource]] = {}
    for resource in store.unremoved(shard):
        recorded.setdefault(resource.migration_id, []).append(resource)
    for number in sorted(things.keys() | recorded.keys()):
        known = store.look_up(number)
        if known is None:
            why = "the control database knows no such migration (was it restored?): a person must look"
            for kind, name in things[number]:
                yield Finding(shard, kind, name, number, Action.LEFT, why)
        elif known.ended:
            found = _Remains(shard, conn, MigrationNames(plane, number), known, [], recorded.get(number, []))
            found.things = [*things.get(number, []), *_unnamed(found)]
            found.why = _objection(found)
            yield found


def _unnamed(found: _Remains) -> list[tuple[str, str]]:
    """What does not carry our name: copies on the side that lost, and slots by which tables were copied."""
    copies = found.names_of("copy") if found.lost else []
    present = preflight_queries.schemas_present(found.conn, copies) if copies else []
    slots = [
        slot
        for name in found.names_of(removal.SYNC_SLOTS)
        for slot in replication_slots.like(found.conn, name)
    ]
    return [*(("copy", name) for name in present), *(("slot", name) for name in slots)]


def _objection(found: _Remains) -> str:
    """Why nothing may be touched here; empty if nothing speaks against it."""
    known = found.known
    if found.shard not in (known.source, known.target):
        return f"{found.shard} is neither source nor target of migration {known.number}"
    strangers = sorted({name for kind, name in found.things if kind == "moving"} - known.owners.keys())
    if strangers:
        return (
            f"{', '.join(strangers)} moves here under this number, which the control database does not know"
        )
    state = guard.state(found.conn, found.names)
    if state is not None and state.bound != found.bound:
        return (
            f"its bound here is {state.bound}, not {found.bound} as after a migration that is {known.stage}"
        )
    if found.lost:
        owned = sorted(bucket for bucket, owner in known.owners.items() if owner == found.shard)
        if owned:
            return f"the placement says that {found.shard} owns {', '.join(owned)}"
        if state is None and any(kind == "copy" for kind, _ in found.things):
            return "no bound of the migration is left here to say that nobody owns the copy"
    return ""


def _end_subscription(one: _Remains) -> None:
    removal.drop_subscription(one.conn, one.names, one.side, publisher_gone=False, attempts=ATTEMPTS)


def _end_slots(one: _Remains) -> None:
    removal.drop_slots(one.conn, one.names, one.side, one.names_of(removal.SYNC_SLOTS), ATTEMPTS)


def _drop_copy_and_guards(one: _Remains) -> None:
    if any(kind == "copy" for kind, _ in one.things):
        removal.drop_copy(one.conn, one.names, one.bound, ATTEMPTS)
    removal.retire(one.conn, one.names, ATTEMPTS)


def _everywhere(remains: Iterable[_Remains], step: Callable[[_Remains], None]) -> None:
    """One step on all shards before the next one: no copy is dropped while a subscription reads it."""
    for one in remains:
        if one.things and not one.why:
            with _noted(one):
                step(one)


@contextmanager
def _noted(one: _Remains) -> Iterator[None]:
    try:
        yield
    except (ForeshardError, psycopg.Error) as error:
        one.why = _first_line(error)


def _outcome(store: RemainsStore, one: _Remains, dry_run: bool) -> Iterator[Finding]:
    left, action = one.things, Action.WOULD_REMOVE
    if not dry_run:
        action = Action.REMOVED
        with _noted(one):
            objects = migration_objects.of_plane(one.conn, one.names.plane)
            left = [*((k, n) for number, k, n in objects if number == one.known.number), *_unnamed(one)]
            if not left:
                store.all_removed(one.known.number, one.shard)
    for kind, name in one.things:
        stays = one.why if dry_run else (kind, name) in left
        why = (one.why or "it is still in use; the next run tries again") if stays else ""
        yield Finding(one.shard, kind, name, one.known.number, Action.LEFT if stays else action, why)


def _first_line(error: Exception) -> str:
    message = error.message if isinstance(error, ForeshardError) else str(error)
    return message.strip().splitlines()[0] if message.strip() else type(error).__name__
