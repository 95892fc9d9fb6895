"""Tables without a key on two real servers: rows are counted by what is in them, also under writers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.postgres import chunks, recheck
from foreshard.postgres.digests import CheckedTable, TableComparison, compare_tables
from foreshard.postgres.fence import Fence
from foreshard.postgres.last_word import Word
from foreshard.topology.keys import KeyType
from tests.data_checks.checked_pair import (
    BOUND,
    BUCKET,
    CheckedPair,
    checked_pair,
)
from tests.data_checks.checked_writers import writing
from tests.integration.moving_fleet import drop_pair
from tests.unseen_session import unseen

REMARKS = CheckedTable(BUCKET, "remarks", "account", KeyType.INT8)
OF_SOURCE, OF_TARGET = "remark 8", "remark 9"


@pytest.fixture(scope="module")
def checked(servers: ThrowawayServers) -> Iterator[CheckedPair]:
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    with checked_pair(pair, rows=2000) as checked:
        yield checked
    drop_pair(servers, pair)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 10)


def compare(
    checked: CheckedPair, table: CheckedTable = REMARKS, fence: Fence | None = None
) -> TableComparison:
    (compared,) = compare_tables(
        checked.ends.source,
        checked.ends.target,
        [table],
        bound=lambda: BOUND,
        drain=checked.drain,
        fence=fence,
    )
    return compared


@pytest.mark.parametrize(
    ("inject", "repair", "counted", "kind"),
    [
        (
            f"INSERT INTO b0000.remarks SELECT * FROM b0000.remarks WHERE remark = '{OF_SOURCE}'",
            "DELETE FROM b0000.remarks WHERE ctid ="
            f" (SELECT max(ctid) FROM b0000.remarks WHERE remark = '{OF_SOURCE}')",
            "1 on the source, 2 on the target",
            Word.GHOST,
        ),
        (
            f"INSERT INTO b0000.remarks SELECT * FROM b0000.remarks WHERE remark = '{OF_TARGET}'",
            "DELETE FROM b0000.remarks WHERE ctid ="
            f" (SELECT max(ctid) FROM b0000.remarks WHERE remark = '{OF_TARGET}')",
            "1 on the source, 2 on the target",
            Word.MISSING,  # the target owns it, and the source lacks one
        ),
        (
            f"CREATE TEMP TABLE gone AS SELECT * FROM b0000.remarks WHERE remark = '{OF_SOURCE}';"
            f"DELETE FROM b0000.remarks WHERE remark = '{OF_SOURCE}'",
            "INSERT INTO b0000.remarks SELECT * FROM gone; DROP TABLE gone",
            "1 on the source, 0 on the target",
            Word.MISSING,
        ),
    ],
)
def test_one_more_or_less_is_named_by_its_digest_and_its_owner(
    checked: CheckedPair, inject: str, repair: str, counted: str, kind: Word
) -> None:
    with unseen(checked.pair.target) as target:
        target.execute(inject.encode())
        (row,) = compare(checked).differences
        target.execute(repair.encode())
    assert row.key.startswith("row of digest ")
    assert row.key.endswith(counted)
    assert "(one at ctid (" in row.key
    assert "remark" not in row.key
    assert row.kind is kind
    assert compare(checked).differences == ()


def test_a_changed_row_is_one_missing_and_one_too_many(checked: CheckedPair) -> None:
    change = "UPDATE b0000.remarks SET remark = {} WHERE remark {}"
    with unseen(checked.pair.target) as target:
        target.execute(change.format("NULL", f"= '{OF_SOURCE}'").encode())
        found = {(row.kind, row.key.partition(": ")[2]) for row in compare(checked).differences}
        target.execute(change.format(f"'{OF_SOURCE}'", "IS NULL").encode())
    assert found == {
        (Word.MISSING, "1 on the source, 0 on the target"),
        (Word.GHOST, "0 on the source, 1 on the target"),
    }


def test_many_equal_rows_are_one_group(checked: CheckedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hash divides them; what is held of them is one row all the same."""
    monkeypatch.setattr(recheck, "ROWS_AT_ONCE", 50)
    with unseen(checked.pair.target) as target:
        target.execute(
            "INSERT INTO b0000.remarks SELECT account, remark FROM b0000.remarks, generate_series(1, 3000)"
            f" WHERE remark = '{OF_SOURCE}'".encode()
        )
        compared = compare(checked)
        target.execute(
            "DELETE FROM b0000.remarks WHERE ctid <>"
            f" (SELECT min(ctid) FROM b0000.remarks WHERE remark = '{OF_SOURCE}') AND remark = '{OF_SOURCE}'".encode()
        )
    (row,) = compared.differences
    assert row.key.endswith("1 on the source, 3001 on the target")
    assert compared.rechecked_rows < 50


def test_what_is_a_key_on_one_side_only_is_none(checked: CheckedPair) -> None:
    """A row that is there twice would look like one, were it read by a key that the target has lost."""
    accounts = replace(REMARKS, table="accounts")
    with unseen(checked.pair.target) as target:

        def run(statement: str) -> None:
            target.execute(statement.encode())

        run("ALTER TABLE b0000.remarks DROP CONSTRAINT of_account")
        run("ALTER TABLE b0000.accounts DROP CONSTRAINT accounts_pkey")
        run("ALTER TABLE b0000.accounts DROP CONSTRAINT accounts_position_key")
        run("ALTER TABLE b0000.accounts REPLICA IDENTITY FULL")  # or the row could not be deleted again
        run("INSERT INTO b0000.accounts SELECT * FROM b0000.accounts WHERE position = 8")
        compared = compare(checked, accounts)
        run(
            "DELETE FROM b0000.accounts WHERE ctid ="
            " (SELECT max(ctid) FROM b0000.accounts WHERE position = 8)"
        )
        run(
            "ALTER TABLE b0000.accounts REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY (account), ADD UNIQUE (position)"
        )
        run(
            "ALTER TABLE b0000.remarks ADD CONSTRAINT of_account FOREIGN KEY (account) REFERENCES b0000.accounts"
        )
    (row,) = compared.differences
    assert row.key.endswith("1 on the source, 2 on the target")
    assert compare(checked, accounts).differences == ()


@pytest.mark.parametrize("fenced", [True, False])
def test_writers_raise_no_false_alarm_and_hide_no_fault(checked: CheckedPair, fenced: bool) -> None:
    """They double rows and take them away again, at both owners. With a fence nothing stays undecided."""
    fence = checked.fence if fenced else None
    quiet: list[TableComparison] = []
    with writing(checked, 500):
        deadline = time.monotonic() + 60
        while len(quiet) < 10 or not any(one.rechecked for one in quiet):
            assert time.monotonic() < deadline, "the writers never got in the way"
            quiet.append(compare(checked, fence=fence))
        with unseen(checked.pair.target) as target:
            target.execute(
                f"INSERT INTO b0000.remarks SELECT * FROM b0000.remarks WHERE remark = '{OF_SOURCE}'".encode()
            )
            found = compare(checked, fence=fence)
            target.execute(
                "DELETE FROM b0000.remarks WHERE ctid ="
                f" (SELECT max(ctid) FROM b0000.remarks WHERE remark = '{OF_SOURCE}')".encode()
            )
    assert [one.differences for one in quiet if one.differences] == []
    assert [row.key.partition(": ")[2] for row in found.differences] == ["1 on the source, 2 on the target"]
    if fenced:
        assert sum(one.undecided for one in (*quiet, found)) == 0
