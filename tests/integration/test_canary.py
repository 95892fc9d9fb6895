"""Canary steps as shares of writes: what is measured, what is chosen, and what happens when neither is possible."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
from psycopg import sql

from foreshard.errors import WritesNotMeasured
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.migration.stages import write_redirect
from foreshard.migration.work import Work
from foreshard.postgres import write_sample
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import KeyType, slot
from tests.integration.moving_fleet import BUCKETS, MovingFleet, allow, assert_whole, ignore, writers
from tests.integration.test_fence import tailnums

pytestmark = pytest.mark.slow

STATEMENTS = (
    "UPDATE {aircraft} SET cycles = cycles + 1 WHERE tailnum = %(key)s",
    "INSERT INTO {events} (tailnum, flight_id, kind, passenger, at, detail)"
    " SELECT tailnum, flight_id, 'boarded', 'P', now(), 'x' FROM {flights} WHERE tailnum = %(key)s LIMIT 3",
    "DELETE FROM {events} WHERE tailnum = %(key)s AND detail = 'x'",
    "UPDATE {events} SET event_id = event_id + 1000000 WHERE tailnum = %(key)s AND detail = 'moved'",
)
"""Update, insert, delete, and an update whose old key is in the WAL too."""


def write(shard: ShardDatabase, key: str) -> int:
    """Every kind of write to the rows of one aircraft; returns how many rows were written."""
    written = 0
    with shard.connect() as conn:
        for bucket in BUCKETS:
            for statement in STATEMENTS:
                names = {
                    name: sql.Identifier(bucket, table)
                    for name, table in (
                        ("aircraft", "aircraft"),
                        ("flights", "flights"),
                        ("events", "passenger_events"),
                    )
                }
                written += conn.execute(sql.SQL(statement).format(**names), {"key": key}).rowcount
    return written


def measured(
    fleet: MovingFleet, work: Work, keys: list[str]
) -> tuple[write_sample.WriteSample, Counter[int]]:
    """A sample during which every key was written on its owner, and what was written."""
    wrote: Counter[int] = Counter()
    bound = work.record.bound

    def waited(_: float) -> None:
        for key in keys if not wrote else ():
            owner = fleet.pair.target if slot(key, KeyType.TEXT) < bound else fleet.pair.source
            wrote[slot(key, KeyType.TEXT)] += write(owner, key)
        with fleet.pair.source.connect() as conn:  # what is no write of the buckets does not count
            conn.execute("CREATE TABLE IF NOT EXISTS public.other (id int PRIMARY KEY)")
            conn.execute("INSERT INTO public.other VALUES (1) ON CONFLICT DO NOTHING")
            with conn.transaction(force_rollback=True):
                for key in keys:
                    if slot(key, KeyType.TEXT) >= bound:
                        conn.execute("UPDATE b0000.aircraft SET cycles = 0 WHERE tailnum = %s", (key,))

    with work.connections(write_sample.SLOT_PATIENCE_S) as (source, target):
        sample = write_sample.measure(
            [source, target], work.names, work.lease.token,
            partial(write_sample.KeyDecoder, BUCKETS, work.tables), KeyType.TEXT, 0.6, waited,
        )  # fmt: skip
    return sample, wrote


@pytest.mark.parametrize("bound", [0, 400])
def test_what_is_measured_is_what_was_committed_on_the_owners(copied_fleet: MovingFleet, bound: int) -> None:
    fleet = copied_fleet
    with fleet.runner() as runner:
        flip(runner.work, bound)
        keys = tailnums(fleet)[:12]
        sample, wrote = measured(fleet, runner.work, keys)
        assert sample.writes == {at: count for at, count in wrote.items() if count}
        assert sample.total == sum(wrote.values()) >= 12 * 3
        assert sample.unplaced == 0
        assert not [name for name in slots(fleet) if "_sample_" in name]
        flip(runner.work, 0)


def test_batches_of_changes_add_up(copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_sample, "BATCH", 5)
    with copied_fleet.runner() as runner:
        sample, wrote = measured(copied_fleet, runner.work, tailnums(copied_fleet)[:10])
    assert sample.total == sum(wrote.values())


def test_no_slot_in_time_is_an_error_that_leaves_no_slot(copied_fleet: MovingFleet) -> None:
    with copied_fleet.runner() as runner, copied_fleet.pair.source.connect() as holder:
        holder.execute("BEGIN; SELECT pg_current_xact_id()")
        with (
            runner.work.connections(statement_timeout_s=0.3) as (source, target),
            pytest.raises(WritesNotMeasured, match="No slot"),
        ):
            write_sample.measure(
                [target, source], runner.work.names, runner.work.lease.token,
                partial(write_sample.KeyDecoder, BUCKETS, runner.work.tables), KeyType.TEXT, 0.1, lambda _: None,
            )  # fmt: skip
        holder.execute("ROLLBACK")
        assert not [name for name in slots(copied_fleet) if "_sample_" in name]


@pytest.fixture
def by_writes(fleet: MovingFleet) -> MovingFleet:
    """A migration whose canary steps measure for a second."""
    fleet.settings = fleet.settings.model_copy(
        update={
            "migration": fleet.settings.migration.model_copy(
                update={"canary_sample_s": 1.5, "canary_percent": (20.0, 60.0)}
            )
        }
    )
    return fleet


def test_steps_take_their_share_of_the_writes_under_writers(by_writes: MovingFleet) -> None:
    fleet = by_writes
    told: list[Progress] = []
    with writers(fleet) as writing:
        fleet.run_until(Stage.WRITE_REDIRECT)
        with fleet.runner() as runner:
            while (step := runner.next_step()) is not None:
                allow(runner, step)
                runner.perform(step, told.append)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)
    record = fleet.store.get(fleet.migration)
    assert record.stage is Stage.DONE
    assert fleet.leftovers() == []
    small, large = (record.facts["canary"][percent] for percent in ("20.0", "60.0"))
    # 40 aircraft are written alike: a step is never farther from its wish than one of them.
    assert small["writes_percent"] == pytest.approx(20, abs=5)
    assert large["writes_percent"] == pytest.approx(60, abs=5)
    assert small["not_by_writes"] is None
    bounds = [flipped.to_bound for flipped in fleet.flips.flips(fleet.migration)]
    assert bounds == [small["bound"], large["bound"], 1024]
    texts = {progress.text for progress in told}
    assert any("% of writes (" in text and "% of slots)" in text for text in texts), texts
    details = [run.detail for run in fleet.store.stage_runs(fleet.migration) if run.stage == "write_redirect"]
    assert [detail["bound"] for detail in details] == bounds[:2]
    confirmation = fleet.store.confirmation(fleet.migration)
    assert confirmation is not None
    assert confirmation["canary"] == record.facts["canary"]


def test_a_resumed_step_keeps_its_choice_and_flips_once(
    by_writes: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = by_writes
    fleet.run_until(Stage.WRITE_REDIRECT)

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    with writers(fleet) as writing:
        with monkeypatch.context() as patched:
            patched.setattr(write_redirect, "flip", died)
            with pytest.raises(KeyboardInterrupt), fleet.runner() as runner:
                perform_next(runner)
        choice = fleet.store.get(fleet.migration).facts["canary"]["20.0"]
        with monkeypatch.context() as patched:  # dies after the flip, before the step is finished
            patched.setattr(write_redirect, "refuse_mismatch", died)
            with pytest.raises(KeyboardInterrupt), fleet.runner() as runner:
                perform_next(runner)
        writing.stop()
    assert fleet.store.get(fleet.migration).bound == choice["bound"]
    with fleet.runner() as runner:
        perform_next(runner)
    assert fleet.store.get(fleet.migration).facts["canary"]["20.0"] == choice
    assert len(fleet.flips.flips(fleet.migration)) == 1


def test_a_step_that_has_flipped_needs_no_second_approval(
    by_writes: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By slots it would have to flip further: a bound that was chosen by writes may lie below the share of slots."""
    fleet = by_writes
    fleet.configure(canary_sample_s=0.1)
    fleet.configure_approval(before="every_flip")
    fleet.run_until(Stage.WRITE_REDIRECT)
    hot = write_sample.WriteSample({3: 1000}, 0, 0.1)
    monkeypatch.setattr(write_sample, "measure", lambda *_: hot)

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # after the flip, before the step is finished
        patched.setattr(write_redirect, "refuse_mismatch", died)
        with pytest.raises(KeyboardInterrupt), fleet.runner() as runner:
            perform_next(runner)
    assert fleet.store.get(fleet.migration).bound == 4
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        assert (step.percent, step.approval, step.checkpoint) == (20.0, False, None)
        runner.perform(step, ignore)
        step = runner.next_step()
        assert step is not None
        assert (step.percent, step.approval) == (60.0, True)


def test_where_nothing_can_be_measured_the_step_is_one_of_slots_and_says_why(
    by_writes: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = by_writes
    fleet.run_until(Stage.WRITE_REDIRECT)
    with fleet.pair.source.connect() as holder:
        holder.execute("BEGIN; SELECT pg_current_xact_id()")
        with monkeypatch.context() as impatient, fleet.runner() as runner:
            impatient.setattr(write_sample, "SLOT_PATIENCE_S", 0.3)
            perform_next(runner)
        holder.execute("ROLLBACK")
        with fleet.runner() as runner:
            perform_next(runner)
    first, second = (
        fleet.store.get(fleet.migration).facts["canary"][percent] for percent in ("20.0", "60.0")
    )
    assert (first["bound"], first["writes_percent"], first["measured_writes"]) == (205, None, None)
    assert "No slot could be had" in first["not_by_writes"]
    assert (second["bound"], second["writes_percent"], second["measured_writes"]) == (614, None, 0)
    assert "too few" in second["not_by_writes"]


def perform_next(runner: Any) -> None:
    step = runner.next_step()
    allow(runner, step)
    runner.perform(step, ignore)


def slots(fleet: MovingFleet) -> list[str]:
    found = []
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            rows = conn.execute(
                "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
            )
            found += [str(name) for (name,) in rows]
    return found


def test_defaults_measure() -> None:
    assert MigrationSettings().canary_sample_s == 5.0
