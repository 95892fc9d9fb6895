"""A team's own suites on real servers, with the real Great Expectations in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

from data_checks import migration_gate, own_run
from data_checks.evidence import EvidenceWriter
from data_checks.own_expectations import ACCEPTED
from data_checks.own_run import OwnChecks
from data_checks.own_suites import OwnSuite, read_suites
from data_checks.run_gate import library_environment, run_gate
from data_checks.scope import Checkpoint, Scope
from deployments.demo_settings import OWN_SUITES
from foreshard.cli import Commands
from foreshard.cli_check_suites import commands
from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import TopologyStore
from foreshard.fleet.airline import TABLES
from foreshard.fleet.grants import OPERATOR
from foreshard.postgres import passwords
from foreshard.postgres.digests import CHUNKS
from foreshard.postgres.passwords import PasswordSource
from foreshard.topology.keys import KeyType
from tests.integration.moving_fleet import MovingFleet, wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import ShardPair

BUCKETS = ("b0001", "B-2")  # a name that has to be quoted, too
TABLE = "Odd Table"
SCHEMA = """
CREATE SCHEMA "{bucket}" AUTHORIZATION airline;
SET ROLE airline;
CREATE TABLE "{bucket}"."Odd Table" (id int PRIMARY KEY, tag text, delay int, arr int, nothing text);
INSERT INTO "{bucket}"."Odd Table"
SELECT n, CASE n % 2 WHEN 0 THEN 'even' ELSE 'canary value' END, n, n, NULL FROM generate_series(1, 100) n;
"""
DELAY = {"column": "delay"}
TAG = {"column": "tag"}
AT_WORST = {"min_value": 0, "max_value": 1e9}
TAGS = {"value_set": ["even", "canary value"]}
HOLDS: dict[str, dict[str, Any]] = {
    # Every accepted expectation, with arguments that the table meets.
    "expect_column_distinct_values_to_be_in_set": {**TAG, **TAGS},
    "expect_column_distinct_values_to_contain_set": {**TAG, "value_set": ["even"]},
    "expect_column_distinct_values_to_equal_set": {**TAG, **TAGS},
    "expect_column_kl_divergence_to_be_less_than": {
        **TAG,
        "partition_object": {"values": ["even", "canary value"], "weights": [0.5, 0.5]},
        "threshold": 0.1,
    },
    "expect_column_max_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_mean_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_median_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_min_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_most_common_value_to_be_in_set": {**TAG, **TAGS, "ties_okay": True},
    "expect_column_pair_values_a_to_be_greater_than_b": {
        "column_A": "arr",
        "column_B": "delay",
        "or_equal": True,
    },
    "expect_column_pair_values_to_be_equal": {"column_A": "arr", "column_B": "delay"},
    "expect_column_pair_values_to_be_in_set": {
        "column_A": "tag",
        "column_B": "tag",
        "value_pairs_set": [["even", "even"], ["canary value", "canary value"]],
    },
    "expect_column_proportion_of_non_null_values_to_be_between": {**DELAY, "min_value": 1},
    "expect_column_proportion_of_unique_values_to_be_between": {**DELAY, "min_value": 1},
    "expect_column_quantile_values_to_be_between": {
        **DELAY,
        "quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[9, 11], [49, 51]]},
    },
    "expect_column_stdev_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_sum_to_be_between": {**DELAY, **AT_WORST},
    "expect_column_to_exist": DELAY,
    "expect_column_type_to_be": {**DELAY, "type_": "INTEGER"},
    "expect_column_unique_value_count_to_be_between": {**DELAY, "min_value": 100, "max_value": 100},
    "expect_column_value_lengths_to_be_between": {**TAG, "min_value": 4, "max_value": 12},
    "expect_column_value_lengths_to_equal": {**TAG, "value": 4, "mostly": 0.5},
    "expect_column_value_z_scores_to_be_less_than": {**DELAY, "threshold": 5, "double_sided": True},
    "expect_column_values_to_be_between": {
        **DELAY,
        "max_value": 50,
        "row_condition": 'col("delay")<=50',
        "condition_parser": "great_expectations",
    },
    "expect_column_values_to_be_in_set": {**TAG, **TAGS},
    "expect_column_values_to_be_in_type_list": {**DELAY, "type_list": ["INTEGER"]},
    "expect_column_values_to_be_null": {"column": "nothing"},
    "expect_column_values_to_be_of_type": {**DELAY, "type_": "INTEGER"},
    "expect_column_values_to_be_unique": {"column": "id"},
    "expect_column_values_to_match_like_pattern": {**TAG, "like_pattern": "%e%"},
    "expect_column_values_to_match_like_pattern_list": {
        **TAG,
        "like_pattern_list": ["%e%"],
        "match_on": "any",
    },
    "expect_column_values_to_match_regex": {**TAG, "regex": "e"},
    "expect_column_values_to_match_regex_list": {**TAG, "regex_list": ["e"], "match_on": "any"},
    "expect_column_values_to_not_be_in_set": {**TAG, "value_set": ["odd"]},
    "expect_column_values_to_not_be_null": DELAY,
    "expect_column_values_to_not_be_outliers": {**DELAY, "method": "iqr", "multiplier": 3.0},
    "expect_column_values_to_not_match_like_pattern": {**TAG, "like_pattern": "z%"},
    "expect_column_values_to_not_match_like_pattern_list": {**TAG, "like_pattern_list": ["z%"]},
    "expect_column_values_to_not_match_regex": {**TAG, "regex": "z"},
    "expect_column_values_to_not_match_regex_list": {**TAG, "regex_list": ["z"]},
    "expect_compound_columns_to_be_unique": {"column_list": ["id", "tag"]},
    "expect_multicolumn_sum_to_equal": {"column_list": ["delay", "arr"], "sum_total": 2, "mostly": 0.01},
    "expect_multicolumn_values_to_be_equal": {"column_list": ["delay", "arr"]},
    "expect_select_column_values_to_be_unique_within_record": {"column_list": ["tag", "nothing"]},
    "expect_table_column_count_to_be_between": {"min_value": 5, "max_value": 5},
    "expect_table_column_count_to_equal": {"value": 5},
    "expect_table_columns_to_match_ordered_list": {"column_list": ["id", "tag", "delay", "arr", "nothing"]},
    "expect_table_columns_to_match_set": {"column_set": ["id", "tag", "delay", "arr", "nothing"]},
    "expect_table_row_count_to_be_between": {"min_value": 1},
    "expect_table_row_count_to_equal": {"value": 100},
}


def suites(folder: Path, **files: list[dict[str, Any]]) -> tuple[OwnSuite, ...]:
    folder.mkdir()
    for name, expectations in files.items():
        document = {"name": name, "meta": {"foreshard": {"table": TABLE}}, "expectations": expectations}
        (folder / f"{name}.json").write_text(json.dumps(document))
    return read_suites(folder, [TABLE])


def fill(pair: ShardPair) -> None:
    for shard in (pair.source, pair.target):
        with shard.connect() as conn:
            for bucket in BUCKETS:
                conn.execute(SCHEMA.format(bucket=bucket).encode())


def scope_of(own: OwnChecks) -> Scope:
    scopes = tuple(suite.scope for suite in own.suites)
    return Scope(12, 3, "attempt", Checkpoint.BEFORE_CUTOVER, BUCKETS, (TABLE,), chunks=4, own=scopes)


def without_passfile(dsn: str) -> str:
    return make_conninfo("", **{k: v for k, v in conninfo_to_dict(dsn).items() if k != "passfile"})


def test_each_side_is_judged_by_itself_and_nothing_leaks(
    shard_pair: ShardPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shard_pair)
    with shard_pair.target.connect() as conn:
        conn.execute("""UPDATE "B-2"."Odd Table" SET delay = 7777777 WHERE id = 5""")
    own = OwnChecks(
        suites(
            tmp_path / "suites",
            all=[{"type": name, "kwargs": kwargs, "severity": "info"} for name, kwargs in HOLDS.items()],
            some=[
                {"type": "expect_column_values_to_be_between", "kwargs": {**DELAY, "max_value": 100}},
                {"type": "expect_column_values_to_be_between", "kwargs": {**DELAY, "max_value": 60}},
                {"type": "expect_column_max_to_be_between", "kwargs": {**DELAY, "max_value": 100}},
                {"type": "expect_column_values_to_be_null", "kwargs": {"column": "gone"}, "severity": "warning"},
                # Twice the same: Great Expectations would keep one of them.
                {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 100}},
                {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 100}},
                # The server's words for it quote a row.
                {"type": "expect_column_values_to_match_regex", "kwargs": {**TAG, "regex": "canary value("}},
                {"type": "expect_column_sum_to_be_between", "kwargs": {**TAG, "max_value": 1}},
            ],
        ),
        120,
    )  # fmt: skip
    assert set(HOLDS) == ACCEPTED
    secrets = []
    for shard, variable in ((shard_pair.source, "SOURCE_PASSWORD"), (shard_pair.target, "TARGET_PASSWORD")):
        password = shard.server.passwords.password(shard.server.port, OPERATOR)
        assert password is not None
        secrets.append(password)
        monkeypatch.setenv(variable, password)
    passwords.use(
        [
            PasswordSource(role=OPERATOR, port=shard.server.port, env=variable)
            for shard, variable in (
                (shard_pair.source, "SOURCE_PASSWORD"),
                (shard_pair.target, "TARGET_PASSWORD"),
            )
        ]
    )
    ends = {
        "source": without_passfile(shard_pair.source.operator_dsn),
        "target": without_passfile(shard_pair.target.operator_dsn),
    }
    try:
        with own_run.beside(own, 12, BUCKETS, ends) as running:
            assert running is not None
            seen = [
                " ".join([*child.cmdline(), *child.environ().values()])
                for child in psutil.Process().children()
            ]
            rows = running.rows()
            said = [process.answers for process in running.sides]
    finally:
        passwords.use(())
    assert len(seen) >= 2
    assert not [text for text in (*seen, repr(said), repr(rows)) for secret in secrets if secret in text]
    assert "7777777" not in repr(said), "no row's value is told"
    outcome = {row[:2]: row[2:] for row in rows}
    assert len(outcome) == len(rows) == len(BUCKETS) * 2 * (len(HOLDS) + 8)

    def critical(number: int, side: str, bucket: str = "b0001") -> str:
        return outcome[bucket, f"some #{number} on the {side}"][1]

    between = "expect_column_values_to_be_between (delay)"
    assert {critical(1, "source"), critical(1, "target"), critical(1, "source", "B-2")} == {"held"}
    assert critical(1, "target", "B-2") == f"{between}: 1 of 100 rows"
    assert critical(2, "source") == f"{between}: 40 of 100 rows"
    assert critical(2, "target", "B-2") == f"{between}: 41 of 100 rows; not on the source either"
    assert critical(3, "target", "B-2") == "expect_column_max_to_be_between (delay): it does not hold"
    evaluated, dash, warning = outcome["b0001", "some #4 on the source"]
    assert (evaluated, dash) == (0, "-")
    assert 'not evaluated: MetricResolutionError: Error: The column "gone"' in warning
    assert critical(5, "source") == critical(6, "source") == "held"
    assert "not evaluated: InvalidRegularExpression" in critical(7, "source")
    assert outcome["b0001", "some #8 on the source"][0] == 0
    assert {row[4] for row in rows if row[1].startswith("all ") and row[0] == "b0001"} == {"held"}
    assert all(row[2] for row in rows if row[1].startswith("all "))

    scope = scope_of(own)
    evidence = tmp_path / "evidence.sqlite"
    with EvidenceWriter(evidence, scope, datetime.now(UTC)) as writer:
        writer.add("own_suites", rows)
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=timedelta(hours=1))
    (critical_ones, unevaluated) = [f.what for f in verdict.failed if f.table == "own_suites"][::-1]
    assert critical_ones.startswith("the critical ones hold: bucket=")
    assert unevaluated.startswith("every one was evaluated: bucket=")


def test_a_process_that_dies_or_hangs_or_whose_caller_dies_does_no_harm(
    shard_pair: ShardPair, tmp_path: Path
) -> None:
    fill(shard_pair)
    wanted = [{"type": "expect_table_row_count_to_equal", "kwargs": {"value": 100}}]
    said: list[str] = []
    own = OwnChecks(suites(tmp_path / "suites", only=wanted), 120, said.append)
    ends = {"source": shard_pair.source.operator_dsn, "target": shard_pair.target.operator_dsn}
    orphan = subprocess.Popen(
        [sys.executable, "-P", "-m", "data_checks.own_process"],
        env=library_environment(os.environ),
        stdin=subprocess.PIPE,
        text=True,
    )
    told = {**own_run.job(12, BUCKETS, own.suites), "conninfo": ends["target"], "side": "a", "timeout_s": 60}
    with shard_pair.target.connect() as conn, conn.transaction():
        conn.execute('LOCK TABLE b0001."Odd Table"')
        with own_run.beside(own, 12, BUCKETS, ends) as running:
            assert running is not None
            source, target = running.sides
            os.kill(source.pid, signal.SIGKILL)
            with shard_pair.target.connect() as admin:
                wait_until(lambda: sessions(admin) == 1, "it waits for the lock", 90)
                orphan.communicate(
                    json.dumps(told) + "\n", timeout=30
                )  # closes its standard input: we are gone
                target.time_is_up()  # as its timer says
                rows = running.rows()
                wait_until(lambda: sessions(admin) == 0, "the server has noticed")
    assert {
        (evaluated, what.partition(": ")[2]) for _, item, evaluated, what, _ in rows if "source" in item
    } == {(0, "not evaluated: its process ended with code -9: it said nothing")}
    assert {
        (evaluated, what.partition(": ")[2]) for _, item, evaluated, what, _ in rows if "target" in item
    } == {(0, "not evaluated: it took more than 120 s; not on the source either")}
    assert said[-1].startswith("own suites done: source 0 of 2, target 0 of 2")
    assert orphan.returncode == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("own-suites")]


def sessions(admin: Any) -> int:
    rows = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'foreshard-checks' AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(rows[0])


def test_the_demos_suites_hold_on_both_sides_of_its_migration(
    copied_fleet: MovingFleet, tmp_path: Path
) -> None:
    own = OwnChecks(read_suites(OWN_SUITES, TABLES), 120)
    with copied_fleet.runner() as runner:
        work = runner.work
        scope = Scope(
            work.lease.migration, 1, "attempt", Checkpoint.BEFORE_CUTOVER, work.buckets, tuple(work.tables),
            CHUNKS, tuple(suite.scope for suite in own.suites),
        )  # fmt: skip
        evidence = tmp_path / "evidence.sqlite"
        migration_gate.collect(work, scope, evidence, own)
        verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=timedelta(hours=1))
    assert verdict.failed == ()
    assert verdict.passed
    with closing(sqlite3.connect(evidence)) as database:
        (rows,) = database.execute("SELECT count(*) FROM own_suites WHERE evaluated").fetchone()
    assert rows == 2 * 2 * 13


def test_the_command_shows_what_would_run_and_refuses_what_could_not(
    control_dsn: str, control: ControlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TopologyStore(control).describe_fleet(KeyType.TEXT, TABLES, shadow_role=None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    app = typer.Typer(cls=Commands)
    app.add_typer(commands, name="check")

    def check(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["check", "suites", *arguments])

    unset = check()
    assert unset.exit_code == 2
    assert "checks.suites: is not set" in unset.stderr
    monkeypatch.setenv("FORESHARD_CHECKS__SUITES", str(OWN_SUITES))
    document = json.loads(check("--json").stdout)
    assert [(suite["name"], len(suite["expectations"])) for suite in document["suites"]] == [
        ("aircraft", 5),
        ("flights", 8),
    ]
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "flights.json").write_text(
        '{"name": "a", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"colum": "a"}}]}'
    )
    wrong = check("wrong")
    assert wrong.exit_code == 2
    assert "flights.json: expectations[0].kwargs.colum" in wrong.stderr
