"""The final report: every part is there, and nothing of it is markup."""

from __future__ import annotations

from typing import Any

import mistune
import pytest

from foreshard.topology.keys import SLOTS
from tasks.report_markdown import SHOWN, report_markdown

EVIL = "<b>x</b>|`y`"


@pytest.fixture
def document() -> dict[str, Any]:
    """A confirmation as the control database keeps it."""
    figures = {"backfill_s": 10.0, "work_s": 100.0, "bytes": 47_600_000, "pause_ms": 50.0}
    return {
        "migration": 3, "plan": 5, "source": "shard-3", "target": "shard-4", "buckets": ["b0001", EVIL],
        "outcome": "done", "started_at": "2026-11-23T15:02:00+00:00", "confirmed_at": "2026-11-23T15:12:30+00:00",
        "stage_seconds": {"backfill": 12.0, "catch_up": 2.4}, "predicted": figures,
        "predicted_by": ["copy 20 MB/s"], "measured": figures | {"backfill_s": 12.0, "pause_ms": 20.0},
        "rows": 123_456, "bytes": 47_600_000, "canary_obstacles": [EVIL],
        "flips": [
            {"flip": 1, "from": 0, "to": SLOTS // 100, "state": "opened", "pause_ms": 4.2, "attempts": 1},
            {"flip": 2, "from": SLOTS // 100, "to": SLOTS, "state": "opened", "pause_ms": None, "attempts": 2},
        ],
        "checks": [
            {"checkpoint": "before_cutover", "flip": 2, "passed": True, "evaluated": 45, "expected": 45,
             "evidence_sha256": "a83750a0e5a0a8993a13"},
        ],
        "approvals": [
            {"flip": 2, "state": "approved", "approver": f"Ada {EVIL}", "comment": "looks | right",
             "decided_at": "2026-11-23T15:10:00+00:00"},
            {"flip": 2, "state": "superseded", "approver": "", "comment": "", "decided_at": None},
        ],
        "verifications": [
            {"verification": 8, "bucket": None, "passed": True, "made_by": "flow run x",
             "begun_at": "2026-11-23T15:11:00+00:00"},
        ],
        "runners": 1,
    }  # fmt: skip


def test_a_whole_report(document: dict[str, Any]) -> None:
    text = report_markdown(document)
    for said in (
        "# Migration 3: done",
        "[Plan 5](../../artifacts/key/plan-5)",
        "[Checks](../../artifacts/key/migration-3-checks)",
        "2 buckets, 123,456 rows, 47.6 MB copied",
        "from 2026-11-23 15:02:00 UTC to 2026-11-23 15:12:30 UTC, by 1 runner",
        "| backfill | 10 s | 12 s | 1.20 |",
        "| write pause of all flips | 50.0 ms | 20.0 ms | 0.40 |",
        "| catch up | 2.4 s |",
        "| 2 (opened) | 1 % to 100 % | finished after a crash | 2 |",
        "- Flip 2 **approved** by Ada",
        "at 2026-11-23 15:10:00 UTC",
        "- Flip 2 **superseded**.",
        "| before cutover | 2 | go | 45 of 45 | `a83750a0e5a0` |",
        "verification 8: passed",
    ):
        assert said in text, said


def test_names_are_no_markup(document: dict[str, Any]) -> None:
    html = str(mistune.create_markdown(escape=False, plugins=["table"])(report_markdown(document)))
    assert "<b>" not in html
    assert "<code>y" not in html


def test_one_that_ended_early_and_one_of_an_earlier_version(document: dict[str, Any]) -> None:
    early = document | {
        "outcome": "aborted", "flips": [], "checks": [], "approvals": [], "verifications": [], "rows": None,
        "bytes": None, "buckets": [f"b{number}" for number in range(SHOWN + 10)],
    }  # fmt: skip
    for gone in ("predicted", "measured", "predicted_by", "plan", "verifications", "canary_obstacles"):
        early.pop(gone)
    text = report_markdown(early)
    assert "the source owns all keys" in text
    assert "No key changed its owner." in text
    assert "No person was asked." in text
    assert "and 10 more" in text
