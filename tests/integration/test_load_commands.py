"""`foreshard load`: histories in, series out, on a real control database."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.load.history_file import HistoryFile
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.unit.load.test_query_log_reading import T0, minutes_of, written

NOWHERE = "host=127.0.0.1 port=1 dbname=shop user=x"
MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
DAY = NOW.replace(hour=0, minute=0) - timedelta(days=2)
"""Midnight two days ago: samples are kept as they are for three days."""


@pytest.fixture(autouse=True)
def _fleet(control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    monkeypatch.setenv("FORESHARD_CLOCK__TIMEZONE", "America/New_York")
    control = ControlDatabase(control_dsn)
    control.migrate()
    store = TopologyStore(control)
    store.describe_fleet(KeyType.INT8, {"orders": "customer_id"})
    store.put_shard(ShardRecord("s1", NOWHERE, NOWHERE, {"cpu_cores": 4.0}))
    store.put_buckets(("b1", "b2"), Placement({"b1": "s1", "b2": "s1"}))
    yield
    control.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["load", *arguments], terminal_width=80)


def done(*arguments: str) -> str:
    said = call(*arguments)
    assert said.exit_code == 0, said.output
    return said.stdout


def document(*arguments: str) -> Any:
    return json.loads(done(*arguments, "--json"))


def cpu(hour: float) -> float:
    return 2 + 1.5 * math.sin(2 * math.pi * (hour - 9) / 24)


def day_of_cpu() -> pd.DataFrame:
    """Minutes of a day of a shard; nothing was measured between six and nine."""
    ends = [DAY + (minute + 0.5) * MINUTE for minute in range(1440)]
    ends = [end for end in ends if not 6 <= (end - DAY).total_seconds() / 3600 < 9]
    values = [cpu((end - DAY).total_seconds() / 3600) for end in ends]
    return pd.DataFrame({"ts": ends, "shard": "s1", "metric": "cpu_cores", "value": values})


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "cpu.csv"
    day_of_cpu().to_csv(path, index=False)
    return path


def test_a_log_is_imported_as_far_as_it_goes_and_no_minute_twice(tmp_path: Path) -> None:
    def shop(minutes: int) -> str:
        return minutes_of((0, minutes)).replace('"dbname": "app"', '"dbname": "shop"')

    log = written(tmp_path, shop(4))
    dry = document("import", "log", str(log), "--shard", "s1", "--dry-run")
    assert (dry["minutes"], dry["new_samples"]) == (2, None)
    assert re.search(r"\nb1 +12 ", done("import", "log", str(log), "--shard", "s1", "--dry-run"))
    first = document("import", "log", str(log), "--shard", "s1")
    assert first["minutes"] == 2
    # The first minute is not whole, the last one not over.
    assert first["new_samples"] == first["samples"] == 16
    written(tmp_path, shop(6))
    assert document("import", "log", str(log), "--shard", "s1")["minutes"] == 2
    assert document("import", "log", str(log), "--shard", "s1")["minutes"] == 0
    assert "bucket" not in done("import", "log", str(log), "--shard", "s1")  # nothing new: no table
    span = ("--since", T0.isoformat(), "--until", (T0 + timedelta(hours=1)).isoformat())
    shown = document("show", "--bucket", "b1", "--metric", "statements_per_s", *span, "--step", "raw")
    assert [value for _, value in shown["values"]] == [pytest.approx(0.1)] * 4
    for wrong, says in (
        ((str(log), "--shard", "s9"), "s9"),
        ((str(tmp_path / "none"), "--shard", "s1"), "none"),
    ):
        refused = call("import", "log", *wrong)
        assert refused.exit_code != 0
        assert says in refused.stderr


SPAN = ("--since", DAY.isoformat(), "--until", (DAY + timedelta(days=1)).isoformat())


def test_a_file_is_imported_once_however_often(history: Path) -> None:
    dry = document("import", "csv", str(history), "--dry-run")
    [series] = dry["series"]
    assert (series["samples"], series["step_s"], series["gaps"], dry["new"]) == (1260, 60.0, 1, None)
    assert document("show") == []
    assert "1,260 new" in done("import", "csv", str(history)).replace("\n", " ")
    assert "0 new" in done("import", "csv", str(history)).replace("\n", " ")
    assert document("import", "csv", str(history))["new"] == 0


def test_nothing_of_a_file_with_one_wrong_value_is_stored(history: Path) -> None:
    history.write_text(history.read_text() + f"{DAY.isoformat()},s1,cpu_cores,-3\n")
    refused = call("import", "csv", str(history))
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"{history}: line 1262, column value: -3.0 is negative")
    assert len(refused.stderr.splitlines()) == 1
    assert document("show", "--since", "7d") == []


def test_series_of_buckets_from_parquet(tmp_path: Path) -> None:
    ends = [DAY + 5 * n * MINUTE for n in range(1, 13)]
    frame = pd.concat(
        pd.DataFrame(
            {
                "series_id": bucket,
                "ts": [end.replace(tzinfo=None) for end in ends],
                "metric": metric,
                "value": pd.Series([value] * 12, dtype="float32"),
            }
        )
        for bucket in ("b1", "b2")
        for metric, value in (("cpu_pct_avg", 0.5), ("cpu_pct_max", 2.0))
    )
    frame.to_parquet(tmp_path / "vms.parquet")
    given = (
        str(tmp_path / "vms.parquet"),
        "--shard",
        "s1",
        "--bucket-column",
        "series_id",
        "--timezone",
        "UTC",
    )
    refused = call("import", "parquet", *given)
    assert (refused.exit_code, "'cpu_pct_avg' ends in no unit" in refused.stderr) == (2, True), refused.output
    imported = document(
        "import", "parquet", *given, "--rename", "cpu_pct_avg=cpu_cores", "--rename", "cpu_pct_max="
    )
    assert (imported["new"], len(imported["series"])) == (24, 2)
    shown = document("show", "--bucket", "b1", "--metric", "cpu_cores", *SPAN, "--step", "raw")
    assert [value for _, value in shown["values"]] == [0.5] * 12


def test_a_series_is_shown_with_its_gaps(history: Path, tmp_path: Path) -> None:
    done("import", "csv", str(history))
    one = ("show", "--shard", "s1", "--metric", "cpu_cores", *SPAN)
    hours = document(*one)
    assert len(hours["values"]) == 21
    [(begin, end)] = hours["gaps"]
    assert datetime.fromisoformat(begin) == DAY + timedelta(hours=6)
    assert datetime.fromisoformat(end) == DAY + timedelta(hours=9)
    for text, value in hours["values"]:
        hour = (datetime.fromisoformat(text) - DAY).total_seconds() / 3600
        assert value == pytest.approx(cpu(hour + 0.5), abs=0.1)
    samples = document(*one, "--step", "raw")
    assert len(samples["values"]) == 1260
    assert len(samples["gaps"]) == 1
    table = done(*one)
    assert "gap" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "capacity 4 cores" in table
    assert max(map(len, done(*one, "--plot").splitlines())) <= 80
    png = tmp_path / "cpu.png"
    done(*one, "--step", "5m", "--png", str(png))
    assert Image.open(png).size == (720, 280)
    listed = document("show", *SPAN)
    assert [(row["metric"], row["shards"], row["buckets"]) for row in listed] == [("cpu_cores", 1, 0)]
    assert document("show", "--shard", "s1", *SPAN)[0]["samples"] == 1260


def test_what_is_shown_as_csv_can_be_imported(history: Path, tmp_path: Path) -> None:
    done("import", "csv", str(history))
    again = tmp_path / "again.csv"
    again.write_text(done("show", "--shard", "s1", "--metric", "cpu_cores", *SPAN, "--step", "raw", "--csv"))
    assert document("import", "csv", str(again)) | {"source": "", "series": []} == {
        "source": "",
        "samples": 1260,
        "without_value": 0,
        "new": 0,
        "series": [],
    }


REFUSED = [
    ("--shard", ("show", "--shard", "s9")),
    ("--bucket", ("show", "--bucket", 'b"9')),
    ("--metric", ("show", "--shard", "s1", "--metric", "nonsense")),
    ("--shard", ("show", "--metric", "cpu_cores")),
    ("--metric", ("show", "--shard", "s1", "--plot")),
    ("--since", ("show", "--since", "1h", "--until", "2h")),
    ("--since", ("show", "--since", "soon")),
    ("--png", ("show", "--png", "x.jpg")),
    ("none.csv", ("import", "csv", "none.csv")),
    ("load.prometheus", ("import", "prometheus", "--since", "1d")),
    ("--value", ("import", "csv", __file__, "--value", "cpu")),
    ("--timezone", ("import", "csv", __file__, "--timezone", "Nowhere")),
]


def test_what_cannot_be_used_is_named() -> None:
    for field, arguments in REFUSED:  # one fleet for all: it takes the time
        refused = call(*arguments)
        assert refused.exit_code == 2, arguments
        assert refused.stderr.startswith(field), refused.stderr
        assert len(refused.stderr.splitlines()) == 1, refused.stderr


class Prometheus(BaseHTTPRequestHandler):
    """Knows two hours of one host, scraped every 15 s; one half hour of it was not."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        series: dict[str, Any] = {"metric": {"foreshard_metric": "cpu_cores"}, "values": []}
        if self.path.endswith("query_range"):
            first, last, step = (int(form[name]) for name in ("start", "end", "step"))
            times = [at for at in range(first, last + 1, step) if self.known(at) and at % 7200 > 1800]
            series["values"] = [[at, "1.25"] for at in times]
        else:
            end = float(form["time"])
            series["values"] = [[end - 15 * n, "1"] for n in range(240, 0, -1) if self.known(end - 15 * n)]
        result = [series] if series["values"] else []
        document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    @staticmethod
    def known(at: float) -> bool:
        return (NOW - timedelta(hours=2)).timestamp() < at <= NOW.timestamp()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def test_an_import_that_is_stopped_is_completed_by_the_next(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: HistoryFile) -> Iterator[tuple[list[Sample], float]]:
        for samples, share in told(file):
            yield samples[:500], share
            raise KeyboardInterrupt

    told = HistoryFile.samples
    with monkeypatch.context() as patched:
        patched.setattr(HistoryFile, "samples", interrupted)
        stopped = call("import", "csv", str(history))
    assert stopped.exit_code == 130
    assert "the same command completes it" in stopped.stderr
    assert document("import", "csv", str(history))["new"] == 1260 - 500


@pytest.fixture
def prometheus() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_prometheus_is_imported_once_however_often(prometheus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [{"url": prometheus, "shards": {"s1": {"node": "db1:9100"}}}]
    monkeypatch.setenv("FORESHARD_LOAD__PROMETHEUS", json.dumps(known))
    arguments = ("import", "prometheus", "--since", "2d", "--until", NOW.isoformat())
    dry = document(*arguments, "--dry-run")
    [series] = dry["series"]
    assert 85 <= series["samples"] <= 91
    assert (series["step_s"], dry["new"]) == (60.0, None)
    assert document("show", "--since", "7d") == []
    assert document(*arguments)["new"] == series["samples"]
    assert document(*arguments, "--shard", "s1")["new"] == 0
    refused = call(*arguments, "--shard", "s2")
    assert (refused.exit_code, refused.stderr.startswith("--shard")) == (2, True)
    known[0]["shards"] = {"unknown": {"node": "db1:9100"}}
    monkeypatch.setenv("FORESHARD_LOAD__PROMETHEUS", json.dumps(known))
    refused = call(*arguments)
    assert (refused.exit_code, "is no shard" in refused.stderr) == (2, True)
