"""A verification's artifact: keys of rows are text, not markup."""

from __future__ import annotations

from datetime import UTC, datetime

from foreshard.control.verification_store import VerificationRecord
from tasks.verifying import as_markdown

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_keys_are_no_markup() -> None:
    finding = {"what": "b0000.orders name=<img src=x>|*: changed"}
    text = as_markdown(
        VerificationRecord(
            3, 7, None, "flow run x", NOON, NOON, False, None, [finding], {"rows": 1200, "tables": 3}
        )
    )
    assert "- b0000.orders name=&lt;img src=x&gt;\\|\\*: changed" in text
    assert "`foreshard check repair 7 --as NAME`" in text
    assert "rows 1,200" in text
