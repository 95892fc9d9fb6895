"""Every fault that somebody or something may put into a copy: the real gate names each. And it names nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.data_checks.checked_pair import CheckedPair, checked_pair, unseen_by_replication
from tests.data_checks.faults import faults_of, inject, repair

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
    with unseen_by_replication(checked.pair.target) as target:
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
            said = {said for fault in batch for said in fault.said}
            assert {(f.table, f.what.partition(":")[0]) for f in verdict.failed} == said
    (tmp_path / "after").mkdir()
    assert checked.check(tmp_path / "after").failed == (), "what was repaired is still a fault"
