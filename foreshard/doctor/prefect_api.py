"""What Prefect's server says of itself and of our deployments, by its REST API: the library knows no Prefect."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

TIMEOUT_S = 5.0
PAGE = 200

LOOK_AGAIN_S = 1.0
"""Places that are taken and runs that hold them are two questions: a run that ends in between holds none."""

ENGINE_PROBE = "collect"
"""A flow of ours. PostgreSQL takes a backslash in LIKE as an escape, SQLite takes it as itself."""


@dataclass(frozen=True)
class Registered:
    """A deployment. ``interval_s`` is None without a schedule; ``used``/``holding``: places of its limit that are
    taken, and runs that may hold one."""

    name: str
    entrypoint: str
    tags: tuple[str, ...]
    interval_s: float | None
    paused: bool
    limit: int | None
    used: int
    holding: int
    polled_ago_s: float | None
    pool: str | None


@dataclass(frozen=True)
class Automation:
    """An automation that exists."""

    name: str
    enabled: bool
    description: str


@dataclass(frozen=True)
class Pool:
    """A work pool; ``heartbeat_ago_s`` of the worker that was heard last, None if none ever was."""

    name: str
    paused: bool
    heartbeat_ago_s: float | None


@dataclass(frozen=True)
class PrefectFacts:
    """``sqlite``: None if that could not be told; ``late``/``ahead``: runs of ours that are overdue, or to come."""

    version: str
    sqlite: bool | None
    leases: str
    late: int
    ahead: int
    deployments: tuple[Registered, ...]
    automations: tuple[Automation, ...]
    pools: tuple[Pool, ...]


def read(api_url: str, deployment: str, transport: httpx.BaseTransport | None = None) -> PrefectFacts:
    """Facts of the deployments called ``deployment``. Raises httpx.HTTPError."""
    with _client(api_url, transport) as http:
        # The server's own clock, by its answer: ours may be wrong.
        answer = http.get("/admin/version")
        answer.raise_for_status()
        now = _now(answer)
        settings = _get(http, "/admin/settings")
        ours = {"deployments": {"name": {"any_": [deployment]}}}
        flows = {one["id"]: one["name"] for one in _all(http, "/flows/filter", {})}
        found = _all(http, "/deployments/filter", ours)
        places = _places(http, found)
        deployments = tuple(
            _registered(one, flows.get(one["flow_id"], "?"), places[one["id"]], now) for one in found
        )
        return PrefectFacts(
            version=str(answer.json()),
            sqlite=_is_sqlite(http),
            leases=str(settings.get("server", {}).get("concurrency", {}).get("lease_storage", "")),
            late=_count(http, "/flow_runs/count", ours | _runs({"name": {"any_": ["Late"]}})),
            ahead=_count(
                http,
                "/flow_runs/count",
                ours
                | _runs(
                    {"type": {"any_": ["SCHEDULED"]}}, {"expected_start_time": {"after_": now.isoformat()}}
                ),
            ),
            deployments=deployments,
            automations=tuple(
                Automation(one["name"], one["enabled"], one.get("description") or "")
                for one in _all(http, "/automations/filter", {})
            ),
            pools=tuple(
                _pool(http, one, now)
                for one in _all(http, "/work_pools/filter", {})
                if one["name"] in {registered.pool for registered in deployments}
            ),
        )


@contextmanager
def _client(api_url: str, transport: httpx.BaseTransport | None) -> Iterator[httpx.Client]:
    """With the credentials that Prefect's own clients take from the environment."""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    key = os.environ.get("PREFECT_API_KEY")
    with httpx.Client(
        base_url=api_url,
        timeout=TIMEOUT_S,
        transport=transport,
        auth=httpx.BasicAuth(user, password) if user else None,
        headers={"Authorization": f"Bearer {key}"} if key and not user else None,
    ) as http:
        yield http


def _places(http: httpx.Client, deployments: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """By deployment, how many places of its limit are taken, and how many runs may hold one.

    Where more are taken than held, both are asked once more.
    """
    found = {one["id"]: _taken(http, one) for one in deployments}
    unheld = [one for one, (used, holding) in found.items() if used > holding]
    if unheld:
        time.sleep(LOOK_AGAIN_S)
    return found | {one: _taken(http, _get(http, f"/deployments/{one}")) for one in unheld}


def _taken(http: httpx.Client, deployment: Mapping[str, Any]) -> tuple[int, int]:
    limit = deployment.get("global_concurrency_limit") or {}
    if not limit:
        return 0, 0
    mine = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    states = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
    return int(limit.get("active_slots") or 0), _count(http, "/flow_runs/count", mine | _runs(states))


def _registered(one: Mapping[str, Any], flow: str, places: tuple[int, int], now: datetime) -> Registered:
    schedules = one.get("schedules") or []
    limit = one.get("global_concurrency_limit") or {}
    interval = next((each["schedule"].get("interval") for each in schedules), None)
    return Registered(
        name=flow,
        entrypoint=one.get("entrypoint") or "",
        tags=tuple(one.get("tags") or ()),
        interval_s=None if interval is None else float(interval),
        paused=bool(one.get("paused")) or bool(schedules and not any(each["active"] for each in schedules)),
        limit=limit.get("limit"),
        used=places[0],
        holding=places[1],
        polled_ago_s=_ago(one.get("last_polled"), now),
        pool=one.get("work_pool_name"),
    )


def _pool(http: httpx.Client, one: Mapping[str, Any], now: datetime) -> Pool:
    workers = _all(http, f"/work_pools/{one['name']}/workers/filter", {})
    heard = [ago for worker in workers if (ago := _ago(worker.get("last_heartbeat_time"), now)) is not None]
    return Pool(one["name"], bool(one.get("is_paused")), min(heard, default=None))


def _is_sqlite(http: httpx.Client) -> bool | None:
    plain, escaped = (
        _count(http, "/flows/count", {"flows": {"name": {"like_": pattern}}})
        for pattern in (ENGINE_PROBE, f"\\{ENGINE_PROBE}")
    )
    return None if not plain else not escaped


def _runs(state: Mapping[str, Any], also: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"flow_runs": {"state": state, **(also or {})}}


def _count(http: httpx.Client, path: str, body: Mapping[str, Any]) -> int:
    return int(_post(http, path, body))


def _all(http: httpx.Client, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = _post(http, path, {**body, "limit": PAGE, "offset": len(found)})
        found += page
        if len(page) < PAGE:
            return found


def _post(http: httpx.Client, path: str, body: Mapping[str, Any]) -> Any:
    answer = http.post(path, json=dict(body))
    answer.raise_for_status()
    return answer.json()


def _get(http: httpx.Client, path: str) -> Any:
    answer = http.get(path)
    answer.raise_for_status()
    return answer.json()


def _now(answer: httpx.Response) -> datetime:
    said = answer.headers.get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)


def _ago(moment: str | None, now: datetime) -> float | None:
    return None if moment is None else max((now - datetime.fromisoformat(moment)) / timedelta(seconds=1), 0.0)
