"""Minutes of logs: gaps, interruptions, damage. Logs are files here, as they are in life."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.load_logs import read_in_child, write_log
from foreshard.errors import InvalidInput
from foreshard.load.query_log.file import find_files
from foreshard.load.query_log.histogram import RELATIVE_ERROR, Histogram
from foreshard.load.query_log.reading import Position, Reading, Server
from foreshard.load.query_log.record import Record, Zones, csv_records, read_json
from foreshard.load.sample import Sample

T0 = datetime(2026, 3, 2, 10, tzinfo=UTC)
SERVER = Server("one", "app", ("b1", "b2", "b3"), ("b3",))
START = int(T0.timestamp())


def line(seconds: float, message: str, backend: str = "client backend", **more: str) -> str:
    at = T0 + timedelta(seconds=seconds)
    record = {
        "timestamp": f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC", "dbname": "app",
        "session_id": f"{START:x}.1", "session_start": f"{T0:%Y-%m-%d %H:%M:%S} UTC", "vxid": "1/0",
        "error_severity": "LOG", "message": message, "backend_type": backend, **more,
    }  # fmt: skip
    return json.dumps(record) + "\n"


def statement(seconds: float, text: str, ms: float = 2, **more: str) -> str:
    return line(seconds, f"duration: {ms:.3f} ms  statement: {text}", **more)


def minutes_of(*ranges: tuple[int, int]) -> str:
    """A statement on b1 every ten seconds of these minutes."""
    return "".join(
        statement(60 * at + second, "SELECT * FROM b1.t")
        for first, last in ranges
        for at in range(first, last)
        for second in range(0, 60, 10)
    )


class Killed(Exception):
    """The import ends here."""


def read(
    files: Sequence[Path], position: Position | None = None, factor: float = 1.0
) -> tuple[list[Sample], Position | None, Reading]:
    samples: list[Sample] = []
    kept: list[Position | None] = [position]

    def store(more: Sequence[Sample], where: Position) -> None:
        samples.extend(more)
        kept.append(json.loads(json.dumps(where)) or kept[-1])

    reading = Reading(SERVER, find_files(files)[0], factor, position)
    reading.run(store)
    return samples, kept[-1], reading


def written(directory: Path, text: str, name: str = "log.json") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def rates(samples: Sequence[Sample], bucket: str | None) -> dict[int, float]:
    """Statements by the minute that they were in."""
    return {
        round((one.ts - T0).total_seconds() / 60) - 1: 60 * one.value
        for one in samples
        if (one.bucket, one.metric) == (bucket, "statements_per_s")
    }


def test_minutes_without_a_record_are_gaps_and_those_at_the_ends_are_left(tmp_path: Path) -> None:
    samples, _, _ = read([written(tmp_path, minutes_of((0, 3), (5, 7)))])
    assert rates(samples, None) == rates(samples, "b1") == {1: 6, 2: 6, 5: 6}
    assert rates(samples, "b3") == {1: 0, 2: 0, 5: 0}  # it is placed here
    assert rates(samples, "b2") == {}


def test_minutes_in_which_the_server_was_down_are_gaps(tmp_path: Path) -> None:
    stop = line(60 * 3 - 0.1, "received fast shutdown request", "postmaster")
    start = line(60 * 5 + 1, "starting PostgreSQL 17.10", "postmaster")
    clean = minutes_of((0, 3)) + stop + start + minutes_of((6, 9))
    assert rates(read([written(tmp_path, clean)])[0], None) == {1: 6, 6: 6, 7: 6}
    crash = minutes_of((0, 3)) + start + minutes_of((6, 9))
    assert rates(read([written(tmp_path, crash)])[0], None) == {1: 6, 6: 6, 7: 6}


def test_who_is_not_counted(tmp_path: Path) -> None:
    text = "SELECT * FROM b1.t"
    more = statement(70, text, dbname="other") + statement(70, text, application_name="foreshard-move")
    more += statement(70, text, backend_type="walsender")
    samples, _, _ = read([written(tmp_path, minutes_of((0, 1)) + more + minutes_of((2, 4)))])
    assert rates(samples, None) == {1: 0, 2: 6}


def test_sampled_statements_stand_for_others_and_parse_and_bind_are_time(tmp_path: Path) -> None:
    middle = "".join(
        line(70, f"duration: {ms:.3f} ms  {kind} <unnamed>: SELECT * FROM b1.t, b2.t")
        for kind, ms in (("parse", 1), ("bind", 2), ("execute", 3))
    )
    samples, _, _ = read([written(tmp_path, minutes_of((0, 1)) + middle + minutes_of((2, 3)))], factor=10)
    found = {(one.bucket, one.metric): one.value for one in samples}
    for bucket in ("b1", "b2", None):
        assert found[bucket, "statements_per_s"] == pytest.approx(10 / 60)
        assert found[bucket, "statement_seconds_per_s"] == pytest.approx(0.06 / 60)
        assert found[bucket, "statement_p95_s"] == pytest.approx(0.003, rel=RELATIVE_ERROR)


def busy_log(draw: random.Random, minutes: int) -> list[str]:
    lines = []
    for number in range(minutes * 20):
        at, session = number * 3 + draw.random() * 3, f"{START:x}.{draw.randrange(5)}"
        text = draw.choice(["SELECT * FROM b1.t", "SELECT * FROM t", "SET search_path = b2", "RESET ALL"])
        lines.append(statement(at, text, draw.random() * 9, session_id=session))
    return lines


def test_killed_anywhere_and_run_again_it_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshard.load.query_log.reading.BATCH", 20)
    draw = random.Random(7)
    lines = busy_log(draw, 30)
    cut = len(lines) // 2
    written(tmp_path, "".join(lines[:cut]), "z.json")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress("".join(lines[cut:]).encode()))
    whole = {(one.ts, one.bucket, one.metric): one.value for one in read([tmp_path])[0]}
    for _ in range(25):
        stored: dict[tuple[datetime, str | None, str], float] = {}
        position: Position | None = None
        while True:
            life = draw.randrange(2, 8)

            def store(samples: Sequence[Sample], where: Position) -> None:
                nonlocal life, position
                life -= 1
                for one in samples:
                    if life == 0 and draw.random() < 0.5:
                        raise Killed
                    key = (one.ts, one.bucket, one.metric)
                    assert stored.setdefault(key, one.value) == one.value  # noqa: B023
                if life == 0:
                    raise Killed  # stored, and the position not kept
                position = json.loads(json.dumps(where))

            try:
                Reading(SERVER, find_files([tmp_path])[0], position=position).run(store)
                break
            except Killed:
                continue
        assert stored == whole


def test_a_truncated_gzip_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = "".join(busy_log(random.Random(1), 40))
    expected, _, _ = read([written(tmp_path, whole)])
    packed = gzip.compress(whole.encode())
    path = tmp_path / "log.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    first, position, reading = read([path])
    assert first
    assert "not complete" in reading.told.broken[0]
    path.write_bytes(packed)
    second, _, reading = read([path], position)
    assert first + second == expected
    assert reading.told.broken == []


def test_older_files_that_come_later_are_read(tmp_path: Path) -> None:
    new = written(tmp_path, minutes_of((5, 9)), "new.json")
    samples, position, _ = read([new])
    assert set(rates(samples, None)) == {6, 7}
    old = written(tmp_path, minutes_of((0, 5)), "old.json")
    samples, position, _ = read([old, new], position)
    assert set(rates(samples, None)) == {1, 2, 3, 4, 5, 6, 7}
    assert read([old, new], position)[0] == []


def test_garbage_is_told_and_too_much_of_it_refused(tmp_path: Path) -> None:
    few = minutes_of((0, 30)) + "garbage\n" + '{"half": \n'
    _, _, reading = read([written(tmp_path, few)])
    assert reading.told.unreadable == 2
    with pytest.raises(InvalidInput, match=r"log\.json.*cannot be read, the first in .*byte"):
        read([written(tmp_path, minutes_of((0, 2)) + "garbage\n" * 12)])


def test_what_tells_no_statements_is_refused(tmp_path: Path) -> None:
    checkpoints = "".join(line(60 * at, "checkpoint starting: time", "checkpointer") for at in range(5))
    with pytest.raises(InvalidInput, match="no statement with its duration"):
        read([written(tmp_path, checkpoints)])
    for message in ("duration: 0.154 ms", "Dauer: 0.154 ms  Anweisung: SELECT 1"):
        with pytest.raises(InvalidInput, match=r"lc_messages = 'C'"):
            read([written(tmp_path, "".join(line(at, message) for at in range(0, 300, 10)))])


def test_time_zones_are_learnt_from_the_session_ids() -> None:
    record = read_json(
        json.dumps(
            {
                "timestamp": "2026-03-02 11:30:07.250 XYZ", "session_id": f"{START:x}.1", "error_severity": "LOG",
                "session_start": "2026-03-02 11:00:00 XYZ",
            }
        ).encode()
    )  # fmt: skip
    assert record is not None
    assert Zones().seconds(record) == START + 30 * 60 + 7


def test_a_csvlog_survives_a_broken_record() -> None:
    def row(text: str) -> bytes:
        stamp = "2026-03-02 10:00:00.000 UTC"
        start = f'{stamp},"u","app",1,"h",{START:x}.1,1,"SELECT",{stamp},1/2,0,LOG,00000,'
        return f'{start}"{text}",,,,,,,,,"","client backend",,0'.encode()

    good = row('say ""hi""\nand more')
    lines = [*good.split(b"\n"), row("x")[:130], row("y"), *good.split(b"\n")]
    found = list(csv_records(lines, 0))
    messages = [one.message if isinstance(one, Record) else None for _, one in found]
    assert messages == ['say "hi"\nand more', None, "y", 'say "hi"\nand more']
    text = b"\n".join(lines)
    assert [text[place:].startswith(b"2026") for place, _ in found] == [True] * 4


def test_quantiles_are_as_near_as_stated() -> None:
    draw = random.Random(3)
    values = sorted(draw.lognormvariate(-6, 2) for _ in range(5000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.95, 1):
        exact = values[max(0, round(share * len(values)) - 1)]
        assert histogram.quantile(share) == pytest.approx(exact, rel=RELATIVE_ERROR)


def test_memory_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    count = write_log(log, 25_000_000)
    done = read_in_child(log)
    assert done["statements"] == count
    own = bytearray(300_000_000)  # a child that told its parent's memory once passed with any
    bare = read_in_child()["peak_mb"]
    del own
    assert bare < 200
    assert done["peak_mb"] < bare + 25
