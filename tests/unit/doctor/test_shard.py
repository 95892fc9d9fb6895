"""What the doctor says of shards, alone and together: each fault is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foreshard.control.topology_store import ShardRecord
from foreshard.doctor import clock, shard, shards
from foreshard.doctor.shard import ShardFacts
from foreshard.postgres import shard_state
from foreshard.postgres.room import Disk
from foreshard.postgres.server_facts import ClockOffset, ServerFacts
from foreshard.postgres.shard_state import ShardState, Slot
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import KeyType

SETTINGS = MigrationSettings()
SERVER = ServerFacts(
    version=170010, in_recovery=False, read_only=False, backend_pid=7, keeps_settings=True, wal_level="logical",
    free_slots=10, free_senders=10, free_origins=10, free_appliers=10, free_workers=10, sync_workers=2,
    keep_bytes=None, idle_timeout_s=None, may_replicate=True, may_subscribe=True, may_monitor=True, may_create=True,
    owns_schema=True, may_keep_quiet=True, prepared=[], old_transactions=[], system_identifier=1, session="s",
    database="app", encoding="UTF8", collation="c C.UTF-8 C.UTF-8", collation_version="",
)  # fmt: skip
STATE = ShardState((), (), True, shard_state.functions_wanted(), ())
RECORD = ShardRecord("shard-1", "dbname=a", "dbname=a", {})
FACTS = ShardFacts(RECORD, SERVER, 7, ClockOffset(0.0, 0.01), STATE, Disk(10**12, "measured"))


def server(**changes: Any) -> ShardFacts:
    return replace(FACTS, server=replace(SERVER, **changes))


def state(**changes: Any) -> ShardFacts:
    return replace(FACTS, state=replace(STATE, **changes))


def slot(**changes: Any) -> ShardFacts:
    return state(slots=(replace(Slot("s", "logical", "app", False, "reserved", 10), **changes),))


def test_a_shard_in_order_is_one_finding_that_says_so() -> None:
    (finding,) = shard.judge(FACTS, SETTINGS)
    assert finding.severity == "ok"
    assert "PostgreSQL 17.10" in finding.what


@pytest.mark.parametrize(
    ("facts", "severity", "says"),
    [
        (server(version=150004), "wrong", "older than PostgreSQL 16"),
        (server(version=190000), "warn", "tested up to 18"),
        (server(wal_level="replica"), "wrong", "wal_level is replica"),
        (server(free_slots=2), "wrong", "max_replication_slots leaves 2 free"),
        (server(free_senders=0), "wrong", "max_wal_senders leaves 0 free"),
        (server(free_appliers=2), "warn", "max_logical_replication_workers leaves 2 free"),
        (server(keep_bytes=10**6), "warn", "max_slot_wal_keep_size"),
        (server(idle_timeout_s=60.0), "warn", "idle_replication_slot_timeout"),
        (server(may_replicate=False), "wrong", "lacks the attribute REPLICATION"),
        (server(may_subscribe=False), "wrong", "lacks pg_create_subscription"),
        (server(may_create=False), "wrong", "lacks CREATE on the database"),
        (server(may_keep_quiet=False), "wrong", "out of the log"),
        (server(may_monitor=False), "wrong", "lacks pg_read_all_stats"),
        (server(owns_schema=False), "wrong", "is not there or not ours"),
        (server(in_recovery=True), "wrong", "leads to a standby"),
        (server(backend_pid=8), "wrong", "leads to a pooler"),
        (state(may_see_wal=False), "wrong", "pg_ls_waldir"),
        (state(foreign_owners=("app",)), "wrong", "no member (INHERIT, SET) of app"),
        (state(missing_buckets=("b1",)), "wrong", "1 bucket(s) of the routing map are not there: b1"),
        (state(functions=frozenset()), "wrong", "no functions"),
        (state(functions=frozenset(sorted(STATE.functions)[1:])), "warn", "functions of another version"),
        (slot(), "warn", "slot s is read by nobody"),
        (slot(kept_bytes=2 * SETTINGS.wal_budget_bytes), "wrong", "is read by nobody and keeps"),
        (slot(wal_status="lost", kept_bytes=None), "wrong", "is lost"),
        (replace(FACTS, disk=Disk(None, "unknown")), "warn", "cannot be seen from here"),
        (replace(FACTS, disk=Disk(10**6, "measured")), "wrong", "no migration can begin"),
    ],
)
def test_each_fault_is_found(facts: ShardFacts, severity: str, says: str) -> None:
    found = [one for one in shard.judge(facts, SETTINGS) if says in one.what]
    assert [one.severity for one in found] == [severity]
    assert found[0].remedy
    assert found[0].check == "shard-1"


def test_a_slot_of_ours_is_the_janitors() -> None:
    (finding,) = shard.judge(slot(name="foreshard_ab12_3_fwd"), SETTINGS)
    assert "foreshard janitor" in finding.remedy


def other(**changes: Any) -> ShardFacts:
    facts = server(**{"system_identifier": 2} | changes)
    return replace(facts, record=replace(RECORD, name="shard-2"))


@pytest.mark.parametrize(
    ("second", "severity", "says"),
    [
        (other(encoding="LATIN1"), "wrong", "encodings differ: UTF8 on shard-1; LATIN1 on shard-2"),
        (other(collation="i de"), "warn", "default collations differ"),
        (other(collation_version="2.36"), "warn", "versions of the default collation differ"),
        (other(system_identifier=1), "wrong", "shard-1 and shard-2 are the same database"),
    ],
)
def test_shards_that_disagree_are_found(second: ShardFacts, severity: str, says: str) -> None:
    (finding,) = shards.judge([FACTS, second], KeyType.TEXT)
    assert finding.severity == severity
    assert says in finding.what


def test_shards_that_agree_are_in_order() -> None:
    assert [one.severity for one in shards.judge([FACTS, other()], KeyType.TEXT)] == ["ok"]


def test_text_keys_want_utf8() -> None:
    both = [server(encoding="LATIN1"), other(encoding="LATIN1")]
    assert "UTF-8" in shards.judge(both, KeyType.TEXT)[0].remedy


def test_few_shards_are_all_tried_and_many_along_a_ring() -> None:
    records = [replace(RECORD, name=f"s{n}") for n in range(10)]
    assert len(shards.links(records[:3])) == 6
    tried = shards.links(records)
    assert len(tried) == 10 * shards.OTHERS
    assert {one.name for one, _ in tried} == {two.name for _, two in tried} == {one.name for one in records}
    assert all(one.name != two.name for one, two in tried)


def test_a_shard_that_does_not_reach_another_is_named() -> None:
    (finding,) = shards.judge_reach({("a", "b"): None, ("b", "a"): "no route to host"})
    assert finding.what == "b cannot subscribe to a: no route to host"


@pytest.mark.parametrize(
    ("seconds", "severity"), [(0.5, "ok"), (-2.0, "warn"), (30.0, "warn"), (-90.0, "wrong")]
)
def test_clocks(seconds: float, severity: str) -> None:
    (finding,) = clock.judge({"shard-1": ClockOffset(seconds, 0.01)})
    assert finding.severity == severity
