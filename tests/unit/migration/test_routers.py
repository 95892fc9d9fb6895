"""How routers are named that are waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from foreshard.control.router_store import RouterRecord
from foreshard.migration.routers import NAMED, named

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ONE = RouterRecord(UUID(int=1), "shop", "web-1", 71, 10.0, 4, NOW, NOW, 0.5, live=True)


def test_a_few_are_named_and_the_rest_are_counted() -> None:
    assert named([ONE]) == "routers shop on web-1 (pid 71)"
    many = [replace(ONE, pid=pid) for pid in range(1, NAMED + 4)]
    assert named(many[:NAMED]).endswith(f"(pid {NAMED})")
    assert named(many).endswith(f"(pid {NAMED}) and 3 more")
