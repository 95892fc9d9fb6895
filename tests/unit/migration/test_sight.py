"""What `foreshard watch` says of a migration, without any database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from foreshard.control.approval_store import ApprovalRecord
from foreshard.control.flip_store import FlipRecord, GateRecord
from foreshard.control.migration_models import StageRun
from foreshard.control.migration_store import MigrationRecord
from foreshard.control.progress_store import KeptProgress
from foreshard.control.request_store import RequestRecord
from foreshard.control.stream_store import Reading
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Part, Progress
from foreshard.migration.requests import Ask, Way
from foreshard.migration.sight import Sight
from foreshard.watch_panel import PlainLines, panel

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
MB = 10**6


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def ran(stage: Stage, began: float, took: float | None, outcome: str = "finished") -> StageRun:
    finished = None if took is None else ago(began - took)
    return StageRun(
        stage=stage.value, name=stage.value, outcome=outcome if took is not None else "running",
        started_at=ago(began), finished_at=finished, detail={},
    )  # fmt: skip


def sight(stage: Stage = Stage.BACKFILL, **changed: Any) -> Sight:
    """A migration in its backfill, driven by a run."""
    record = MigrationRecord(
        id=3, plan_id=2, source="shard-2", target="shard-4", buckets=("b0003", "b0007", "b0011", "b0012"),
        stage=stage, step=0, bound=0, flip_no=0, shadow_percent=0.0, waiting_for=None, failure=None, attempts=1,
        flow_run_id="f", facts={}, created_at=ago(60), finished_at=None,
    )  # fmt: skip
    progress = Progress(
        "rows", 412 * MB, 945 * MB, "bytes", 52.1 * MB, (Part("b0003.flights", 1, 2, 812_345),)
    )
    fields: dict[str, Any] = {
        "at": NOW,
        "record": record,
        "driver": "agile-otter",
        "runs": [ran(Stage.PREFLIGHT, 20, 1.1), ran(Stage.PREPARE, 18, 0.9), ran(Stage.BACKFILL, 9, None)],
        "progress": KeptProgress("backfill", progress.to_json(), NOW),
        "reading": (ago(1), Reading(42 * MB, 0.8, None, None, 61 * MB, None, 16 * 2**30)),
        "flips": [],
        "gate": None,
        "approval": None,
        "requests": [],
    }
    facts = changed.pop("record", {})
    return Sight(**{**fields, "record": replace(record, **facts), **changed})


def request(kind: Ask, held: float | None = None) -> RequestRecord:
    held_at = None if held is None else ago(held)
    return RequestRecord(
        id=5, migration=3, kind=kind, asked_by="Ada", way=Way.SHELL, comment="Batch jobs until noon.",
        stage=Stage.BACKFILL, carrier=None, asked_at=ago(130), held_at=held_at, outcome=None, settled_at=None,
        settled_by=None, settlement="",
    )  # fmt: skip


def before_its_cutover() -> Sight:
    """It waits for an approval, with canary steps behind it."""
    flips = [
        FlipRecord(3, number, before, after, "opened", 1, pause, ago(200), ago(190 - number))
        for number, before, after, pause in ((1, 0, 11, 3.1), (2, 11, 104, 2.7), (3, 104, 513, 14.9))
    ]
    shares = {"1.0": (1.07, 0.98), "10.0": (10.2, 9.9), "50.0": (50.1, None)}
    canary = {
        percent: {"bound": 1, "slots_percent": slots, "writes_percent": writes}
        for percent, (slots, writes) in shares.items()
    }
    gate = GateRecord(9, "before_cutover", 4, True, 48, 48, 0, "", {}, ago(20))
    wanted = ApprovalRecord(
        id=6, migration=3, flip_no=4, gate_run_id=9, evidence_sha256="", flow_run_id=None, form=1,
        policy="cutover_only", why="", state="pending", approver="", verified=False, way="", comment="",
        requested_at=ago(19), expires_at=NOW + timedelta(hours=24), decided_at=None,
    )  # fmt: skip
    facts = {"bound": 513, "facts": {"canary": canary}, "waiting_for": "approval"}
    runs = [ran(stage, 400 - 10 * number, 8) for number, stage in enumerate(list(Stage)[:7])]
    return sight(
        Stage.CUTOVER, record=facts, driver=None, flips=flips, gate=gate, approval=wanted, progress=None, runs=runs,
        reading=(ago(12), Reading(1200, 0.0, 900, 0.0, 12 * MB, 13 * 2**30, 16 * 2**30)),
    )  # fmt: skip


def drawn(one: Sight, width: int) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(panel(one))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_panel_tells_what_is_asked_of_it_at_any_width(width: int) -> None:
    text = drawn(sight(), width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.replace("│", " ").split())
    for word in (
        "412 MB of 945 MB",
        "52.1 MB/s",
        "812,345 rows",
        "left",
        "44%",
        "lag 42.0 MB",
        "0.8 s",
        "WAL kept",
    ):
        assert word in flat, (word, text)


def test_a_wait_for_an_approval_is_told_with_flips_checks_and_canary_shares() -> None:
    flat = " ".join(drawn(before_its_cutover(), 120).replace("│", " ").split())
    for word in (
        "approval of flip 4, until 2026-03-03 10:30 UTC", "foreshard approve 3", "14.9 ms", "go (48 of 48)",
        "shard-4 owns 513 of 1024 slots", "0.98 % of writes", "81.2% of its budget",
    ):  # fmt: skip
        assert word in flat, (word, flat)


@pytest.mark.parametrize(
    ("changed", "waits"),
    [
        ({}, ""),
        ({"driver": None}, "nobody drives it"),
        ({"requests": [request(Ask.PAUSE)]}, "UTC: Batch jobs until noon)"),
        ({"requests": [request(Ask.PAUSE, 120)], "driver": None}, "held for 2 min"),
        ({"record": {"failure": "it broke"}, "driver": None}, "it failed. it broke"),
        ({"record": {"failure": "it broke"}}, ""),
        ({"record": {"stage": Stage.DONE}}, ""),
    ],
)
def test_what_it_waits_for(changed: dict[str, Any], waits: str) -> None:
    told = sight(**changed).waits
    assert waits in told
    assert bool(told) == bool(waits)


def test_it_is_over_when_it_has_ended_or_failed_without_a_driver() -> None:
    assert not sight().over
    assert sight(record={"stage": Stage.REVERSED}).over
    assert sight(record={"failure": "x"}, driver=None).over
    assert not sight(record={"failure": "x"}).over


def test_the_way_of_one_that_was_given_back_shows_how_far_it_came() -> None:
    path = sight(record={"stage": Stage.ABORTED}).path
    assert [(stage.value, state) for stage, state in path] == [
        ("preflight", "done"), ("prepare", "done"), ("aborting", "done"), ("aborted", "done"),
    ]  # fmt: skip


def test_plain_lines_tell_only_what_is_new() -> None:
    lines = PlainLines()
    first = lines.new(sight())
    assert any("at backfill" in line for line in first)
    assert any("412 MB of 945 MB" in line for line in first)
    assert lines.new(sight()) == []
    later = sight(requests=[request(Ask.PAUSE, 1)], driver=None)
    (held,) = [line for line in lines.new(later) if "waits for somebody" in line]
    assert "Batch jobs until noon" in held
    assert lines.new(replace(later, at=NOW + timedelta(seconds=9))) == []


def test_the_json_of_a_look_does_not_change_by_itself() -> None:
    one = before_its_cutover()
    assert one.to_json() == replace(one, at=NOW + timedelta(seconds=9)).to_json()
