"""Every fault that somebody or something may put into a copy: the real gate names each. And it names nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from foreshard.postgres import table_shape
from foreshard.postgres.row_text import row_text
from tests.data_checks.checked_pair import CheckedPair, checked_pair
from tests.data_checks.faults import faults_of, inject, repair
from tests.data_checks.injection_runs import Alarms, run_alarms
from tests.unseen_session import unseen

if TYPE_CHECKING:
    from tests.integration.conftest import ShardPair

ROWS = 2000
BATCHES = 2
"""A finding names five rows, and there are more faults of rows."""


@pytest.fixture
def checked(shard_pair: ShardPair) -> Iterator[CheckedPair]:
    with checked_pair(shard_pair, ROWS) as checked:
        yield checked


def test_every_fault_is_named(checked: CheckedPair, tmp_path: Path) -> None:
    """By its own finding, many at a time; one at a time is a program: python -m tests.data_checks.injections."""
    faults = faults_of(ROWS)
    with unseen(checked.pair.target) as target:
        for number in range(BATCHES):
            batch = faults[number::BATCHES]
            directory = tmp_path / str(number)
            directory.mkdir()
            inject(target, batch)
            verdict = checked.check(directory)
            repair(target, batch)
            assert not verdict.passed
            assert verdict.evaluated == verdict.expected
            assert [fault.name for fault in batch if not fault.named(verdict)] == [], verdict
            said = {said for fault in batch for said in (*fault.said, *fault.warned)}
            found = {(f.table, f.what.partition(":")[0]) for f in (*verdict.failed, *verdict.warnings)}
            assert found == said
    (tmp_path / "after").mkdir()
    assert checked.check(tmp_path / "after").failed == (), "what was repaired is still a fault"


BLIND = {
    "amount": "one changed value in one row",
    "note": "NULL for an empty string",
    "fare": "1.0 for 1.00 (numeric)",
    "load": "a float's last bit",
    "mood": "a changed enum value",
    "at": "a timestamptz shifted by an hour",
    "local": "a timestamp shifted by an hour",
}


def test_a_digest_that_ignores_a_column_misses_its_fault(
    checked: CheckedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control: then the test above fails, and so does the program, for each column by its own fault."""
    faults = {fault.name: fault for fault in faults_of(ROWS)}
    with unseen(checked.pair.target) as target:
        inject(target, [faults[name] for name in BLIND.values()])
        for column, name in BLIND.items():
            _ignore(monkeypatch, [column])
            compared = checked.compare(tmp_path / f"{column}.sqlite")
            seen = {row.key for table in compared for row in table.differences}
            assert len(seen) == len(BLIND) - 1
            assert not any(f"entries {key}," in faults[name].words for key in seen)
        _ignore(monkeypatch, list(BLIND))
        verdict = checked.check(tmp_path)
        repair(target, [faults[name] for name in BLIND.values()])
    assert verdict.passed
    assert all(faults[name].missed(verdict) for name in BLIND.values())


def _ignore(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    blind = [sql.Identifier("t", name) for name in names]
    monkeypatch.setattr(
        table_shape, "row_text", lambda columns: row_text([one for one in columns if one[0] not in blind])
    )


@pytest.mark.slow
def test_equal_copies_pass_under_500_writes_a_second(shard_pair: ShardPair) -> None:
    """A hundred runs are a program: python -m tests.data_checks.injections --alarms 100."""
    turns: list[Alarms] = []
    with checked_pair(shard_pair, 50_000) as checked:
        # The rows are read within half a second: in five runs, and more, the writers may miss them all.
        while len(turns) < 12 and not any(one.rechecked for one in turns):
            turns.append(run_alarms(checked, 5, print))
    for alarms in turns:
        assert alarms.raised == ()
        assert [run.verdict.passed for run in alarms.runs] == [True] * 5
        assert alarms.written > 0
    assert turns[-1].rechecked > 0, "the writers never got in the way"
