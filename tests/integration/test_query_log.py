"""The log test: what a real server's own log tells, against what pgbench really did."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.log_position import LogPositionStore
from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.server import PostgresServer, free_port
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.load.query_log.file import find_files
from foreshard.load.query_log.reading import Position, Reading, Server
from foreshard.load.sample import Sample
from tests.integration.moving_fleet import wait_until

LOGGED = {
    "logging_collector": "on",
    "log_destination": "jsonlog,csvlog",
    "log_min_duration_statement": "0",
    "log_disconnections": "on",
    "log_rotation_size": "100kB",
    "log_filename": "postgresql-%H%M%S.log",  # one a second: within the same second a rotation goes on in its file
}
BUCKETS = ("b1", 'Tenant "B" 1', "b3")
CANARY = "canary-7f3a"


@dataclass(frozen=True)
class Logged:
    """A server's log, split by format, and what was done while it was written."""

    files: dict[str, list[Path]]
    statements: dict[str | None, int]
    seconds: float
    """All of pgbench's own latencies together."""


@pytest.fixture(scope="module")
def logged(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    beside = servers.server("control")
    server = PostgresServer(
        "logged", beside.directory.parent / "logged", free_port({beside.port}), beside.binaries,
        beside.os_user, beside.passwords, {**beside.extra_settings, **LOGGED},
    )  # fmt: skip
    server.initialise()
    server.start()
    try:
        with server.connect() as conn:
            conn.execute("CREATE DATABASE app")
        with psycopg.connect(server.dsn("postgres", "app"), application_name="foreshard set-up") as conn:
            for bucket in BUCKETS:  # by Foreshard's own name: this is not counted
                conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(bucket)))
                conn.execute(
                    sql.SQL("CREATE TABLE {} (id int, note text)").format(sql.Identifier(bucket, "t"))
                )
        log = server.data_dir / "log"
        seconds = work(server, tmp_path_factory.mktemp("scripts"))
        last = "the last words of the workload"
        first = set(log.glob("*.json"))

        def another_file() -> bool:
            with server.connect() as conn:
                conn.execute("SELECT pg_rotate_logfile()")
            return set(log.glob("*.json")) > first

        wait_until(another_file, "a machine that is done within a second rotates too")
        with server.connect() as conn:
            conn.execute(sql.SQL("SELECT {}").format(sql.Literal(last)))
        for ending in (".json", ".csv"):
            wait_until(
                lambda ending=ending: any(last in path.read_text() for path in log.glob(f"*{ending}")),
                "all is logged",
            )
        files = sorted(log.iterdir())
        directory = tmp_path_factory.mktemp("log")
        yield Logged(
            {
                ending: bracketed([path for path in files if path.suffix == ending], directory)
                for ending in (".json", ".csv")
            },
            truth(),
            seconds,
        )
    finally:
        server.kill9()


TIMES = 40
QUALIFIED = {
    "b1": f"SELECT count(*) FROM b1.t WHERE note = '{CANARY} b3.t' /* b3.t */;\n",
    BUCKETS[1]: f'INSERT INTO "Tenant ""B"" 1".t VALUES (1, \'{CANARY}\');\n',
}
BY_PATH = 'BEGIN\\; SET LOCAL search_path = "b3", pg_temp\\; SELECT 1;\n'
BY_PATH += "SELECT count(*) FROM t;\nINSERT INTO t VALUES (1);\nCOMMIT;\n"
BOTH = "SELECT count(*) FROM b1.t, b3.t;\n"


def truth() -> dict[str | None, int]:
    """Statements by bucket: each script ran TIMES times by simple, extended and prepared protocol."""
    # Of BY_PATH the opening message names no bucket but reads with one in its path; COMMIT is of none.
    per_turn = {"b1": 2, BUCKETS[1]: 1, "b3": 1 + 3, None: 1 + 1 + 1 + 4}
    extended_path = {"b3": 0, None: 0}
    counts: dict[str | None, int] = {}
    for name, count in per_turn.items():
        counts[name] = 3 * TIMES * count
    # The extended protocols take no message of several statements; there each is sent by itself: two more each time.
    counts[None] += 2 * TIMES * 2 + extended_path[None]
    return counts


def work(server: PostgresServer, directory: Path) -> float:
    """Runs all scripts by all protocols; the sum of latencies that pgbench measured, in seconds."""
    seconds = 0.0
    for protocol in ("simple", "extended", "prepared"):
        by_path = BY_PATH if protocol == "simple" else BY_PATH.replace("\\;", ";\n")
        for number, script in enumerate([*QUALIFIED.values(), by_path, BOTH]):
            file = directory / f"{protocol}-{number}.sql"
            file.write_text(script, encoding="utf-8")
            done = subprocess.run(
                [
                    str(find_binaries().tool("pgbench")), "--no-vacuum", f"--protocol={protocol}", "--client=2",
                    f"--transactions={TIMES // 2}", f"--file={file}", server.dsn("postgres", "app"),
                ],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found = re.search(r"latency average = ([0-9.]+) ms", done.stdout)
            assert found is not None, done.stdout
            seconds += TIMES * float(found[1]) / 1000
    return seconds


def bracketed(files: Sequence[Path], directory: Path) -> list[Path]:
    """The same files, with a checkpoint two minutes before the first record and one two minutes after the last."""
    copies = []
    for number, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        if number == 0:  # without the server's start, which makes a minute a gap
            text = "".join(
                line for line in text.splitlines(True) if not re.search('"(postmaster|startup)"', line)
            )
            text = checkpoint(text.splitlines()[0], -2) + text
        if number == len(files) - 1:
            text += checkpoint(text.splitlines()[0], +4)
        copies.append(directory / f"{9 - number}{path.suffix}")  # the names tell the wrong order
        copies[-1].write_text(text, encoding="utf-8")
    return copies


def checkpoint(line: str, minutes: int) -> str:
    stamp = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)
    assert stamp is not None
    at = datetime.fromisoformat(stamp[0]) + timedelta(minutes=minutes)
    moved = f"{at:%Y-%m-%d %H:%M}:30.000 UTC"
    if line.startswith("{"):
        record = {
            "timestamp": moved, "pid": 1, "session_id": "6b03924e.1", "session_start": moved,
            "error_severity": "LOG", "message": "checkpoint starting: time", "backend_type": "checkpointer",
        }  # fmt: skip
        return json.dumps(record) + "\n"
    return f'{moved},,,1,,6b03924e.1,1,,{moved},,0,LOG,00000,"checkpoint starting: time",,,,,,,,,"","checkpointer",,0\n'


SERVER = Server("logged", "app", BUCKETS, ("b1",))


def read(files: Sequence[Path], position: Position | None = None) -> tuple[list[Sample], Position, Reading]:
    samples: list[Sample] = []
    kept: list[Position] = []

    def store(more: Sequence[Sample], where: Position) -> None:
        samples.extend(more)
        kept.append(json.loads(json.dumps(where)))

    reading = Reading(SERVER, find_files(files)[0], position=position)
    reading.run(store)
    return samples, kept[-1], reading


def statements(samples: Sequence[Sample]) -> dict[str | None, int]:
    counts: dict[str | None, float] = {}
    for one in samples:
        if one.metric == "statements_per_s":
            counts[one.bucket] = counts.get(one.bucket, 0) + 60 * one.value
    return {bucket: round(count) for bucket, count in counts.items()}


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_the_log_tells_what_pgbench_did(logged: Logged, ending: str) -> None:
    samples, _, reading = read(logged.files[ending])
    assert len(logged.files[ending]) > 1
    assert statements(samples) == logged.statements
    seconds = sum(
        60 * one.value for one in samples if (one.bucket, one.metric) == (None, "statement_seconds_per_s")
    )
    assert 0 < seconds < logged.seconds
    assert (reading.told.bare, reading.told.late, reading.told.unreadable) == (0, 0, 0)


def assert_same(found: Sequence[Sample], expected: Sequence[Sample]) -> None:
    """To the rounding of sums: lines of several sessions do not stand in the same order in both formats."""
    assert [replace(one, value=0) for one in found] == [replace(one, value=0) for one in expected]
    assert [one.value for one in found] == pytest.approx([one.value for one in expected], rel=1e-9)


def test_both_formats_tell_the_same(logged: Logged) -> None:
    assert_same(read(logged.files[".json"])[0], read(logged.files[".csv"])[0])


def test_in_pieces_gzipped_and_renamed_it_is_the_same(logged: Logged, tmp_path: Path) -> None:
    whole, _, _ = read(logged.files[".json"])
    samples: list[Sample] = []
    position: Position | None = None
    for number, path in enumerate(logged.files[".json"]):
        text = path.read_bytes()
        growing = tmp_path / "growing.json"
        growing.write_bytes(text[: len(text) // 2])  # in the midst of a line
        more, position, _ = read(sorted(tmp_path.iterdir()), position)
        samples += more
        growing.unlink()
        (tmp_path / f"{5 - number}.json.gz").write_bytes(gzip.compress(text))
    more, position, _ = read([tmp_path], position)
    assert sorted(map(str, samples + more)) == sorted(map(str, whole))
    assert read([tmp_path], position)[0] == []


def test_no_literal_reaches_the_control_database(logged: Logged, control_dsn: str) -> None:
    control = ControlDatabase(control_dsn)
    control.migrate()
    positions, load = LogPositionStore(control), LoadStore(control)

    def store(samples: Sequence[Sample], position: Position) -> None:
        load.add(samples, "history")
        positions.put("logged", position)

    Reading(SERVER, find_files(logged.files[".json"])[0]).run(store)
    assert positions.position("logged") is not None
    with psycopg.connect(control_dsn) as conn:
        tables = conn.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        dump = "".join(
            str(conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table))).fetchall())
            for table in tables
        )
    assert BUCKETS[0] in dump
    assert CANARY not in dump
    control.close()
