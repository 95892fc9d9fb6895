"""Prometheus as a source, against answers in the form that the real one gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import ValidationError

from foreshard.clock import FleetClock
from foreshard.errors import ConfigurationError, ForeshardError, InvalidInput, SourceUnavailable
from foreshard.load.prometheus import MAX_POINTS, PrometheusClient, QueryRefused
from foreshard.load.prometheus_queries import Target, Window, quoted
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.load.prometheus_source import history, live_samples

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
Answer = Callable[[str, dict[str, str]], Any]


def settings(**shard: Any) -> PrometheusSettings:
    return PrometheusSettings.model_validate(
        {"url": "http://prometheus.test:9090/", "shards": {"s1": shard or {"node": "db1:9100"}}}
    )


def client(answer: Answer, status: int = 200, chosen: PrometheusSettings | None = None) -> PrometheusClient:
    """A client whose server says ``answer(path, form)``; a list is the result of a query that went well."""

    def handle(request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        said = answer(request.url.path, form)
        if isinstance(said, list):
            kind = "matrix" if said and "values" in said[0] else "vector"
            said = {"status": "success", "data": {"resultType": kind, "result": said}}
        return httpx.Response(status, content=said if isinstance(said, str) else json.dumps(said))

    return PrometheusClient(chosen or settings(), httpx.MockTransport(handle))


def matrix(points: list[tuple[float, str]], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[at, text] for at, text in points]}


def scrapes(form: dict[str, str], every: float = 15.0, **labels: str) -> dict[str, Any]:
    end = float(form["time"])
    return matrix([(end - 600 + every * n, "1") for n in range(int(600 / every))], **labels)


def target(**shard: Any) -> Target:
    return Target("s1", settings(**shard).shards["s1"], "app")


def test_a_window_knows_how_many_scrapes_a_target_that_is_up_has() -> None:
    assert Window.of(60, 15) == Window(60, 4)
    assert Window.of(60, 30) == Window(60, 2)
    assert Window.of(60, 60) is None
    assert Window.of(60, 14.999) == Window(60, 4)
    assert Window.of(60, 15.001) == Window(60, 4)
    assert Window.of(3600, 15) == Window(3600, 228)


@pytest.mark.parametrize("text", ['a"b', "a\\", 'x"} or up{a="', "two\nlines", "ü", "'"])
def test_what_is_in_a_label_stays_in_it(text: str) -> None:
    inside = re.fullmatch(r'"((?:[^"\\\n]|\\.)*)"', quoted(text))
    assert inside
    assert inside[1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\") == text


def test_a_query_answers_only_where_its_metric_was_scraped_throughout() -> None:
    queries = target(node='db"1', postgres="db1:9187").promql("node", Window(60, 4))
    assert list(queries) == ["cpu_cores", "memory_bytes", "io_ops_per_s", "io_bytes_per_s", "net_bytes_per_s"]
    for promql in queries.values():
        assert 'instance="db\\"1"' in promql
        assert promql.count("max(count_over_time(") == 1
        assert promql.endswith(">= 4)")


def test_users_queries_take_the_place_of_ours() -> None:
    own = target(node="db1", queries={"cpu_cores": "sum(rate(x[$step]))", "queue_s": "q"})
    assert "cpu_cores" not in own.promql("node", Window(60, 4))
    assert own.own_promql(300) == {"cpu_cores": "sum(rate(x[300s]))", "queue_s": "q"}


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"url": "prometheus:9090"}, "url"),
        ({"url": "http://me:secret@host:9090"}, "url"),
        ({"token": "secret"}, "token"),
        ({"token_env": "A", "token_secret_block": "secret"}, "two places"),
        ({"username": "me"}, "username"),
        ({"shards": {}}, "shards"),
        ({"shards": {"s1": {}}}, "neither"),
        ({"shards": {"s1": {"node": " "}}}, "node"),
        ({"shards": {"s1": {"node": {"in stance": "a"}}}}, "label"),
        ({"shards": {"s1": {"queries": {"CPU": "up"}}}}, "CPU"),
        ({"shards": {"s1": {"nodes": "a"}}}, "nodes"),
    ],
)
def test_wrong_settings_are_named_and_no_secret_is_repeated(wrong: dict[str, Any], names: str) -> None:
    good = {"url": "http://host:9090", "shards": {"s1": {"node": "db1:9100"}}}
    with pytest.raises(ValidationError, match=names) as refused:
        PrometheusSettings.model_validate(good | wrong)
    assert "secret" not in str(refused.value).replace("token_secret_block", "")


def test_a_long_range_is_asked_for_in_parts() -> None:
    asked: list[tuple[int, int]] = []

    def answer(_: str, form: dict[str, str]) -> Any:
        asked.append((int(form["start"]), int(form["end"])))
        return [matrix([(at, "1") for at in asked[-1]])]

    steps = 25_000
    [series] = client(answer).query_range("x", T0, T0 + timedelta(seconds=steps - 1), 1)
    assert [1 + end - begin for begin, end in asked] == [MAX_POINTS, MAX_POINTS, 3000]
    assert [at for at, _ in series.points()] == sorted(
        datetime.fromtimestamp(at, UTC) for part in asked for at in part
    )


def test_what_is_too_much_for_the_server_is_asked_for_in_halves() -> None:
    told: list[int] = []

    def answer(_: str, form: dict[str, str]) -> Any:
        steps = range(int(form["start"]), int(form["end"]) + 1, 60)
        if len(steps) > 3:
            error = "query processing would load too many samples into memory in query execution"
            return {"status": "error", "errorType": "execution", "error": error}
        told.extend(steps)
        return [matrix([(at, "1") for at in steps])]

    client(answer, 422).query_range("x", T0, T0 + timedelta(minutes=17), 60)
    assert told == [int(T0.timestamp()) + 60 * n for n in range(18)]


def test_not_even_one_step_is_an_error() -> None:
    with pytest.raises(SourceUnavailable, match="one step"):
        client(
            lambda *_: {"status": "error", "errorType": "timeout", "error": "query timed out"}, 503
        ).query_range("x", T0, T0 + timedelta(hours=1), 60)


@pytest.mark.parametrize(
    ("answer", "status", "error", "says"),
    [
        ({"status": "error", "errorType": "bad_data", "error": "1:2: parse error"}, 400, QueryRefused, "1:2"),
        ("Unauthorized", 401, ConfigurationError, "token_env"),
        ("Forbidden", 403, ConfigurationError, "token_env"),
        ("<html>", 200, SourceUnavailable, "does not speak"),
        ("[]", 200, SourceUnavailable, "does not speak"),
        (
            {"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}},
            200,
            SourceUnavailable,
            "form",
        ),
        ({"status": "success"}, 200, SourceUnavailable, "form"),
        ({"status": "error", "errorType": "internal", "error": "disk"}, 500, SourceUnavailable, "disk"),
        ("", 502, SourceUnavailable, "HTTP 502"),
        (
            {
                "status": "success",
                "warnings": ["store a is away"],
                "data": {"resultType": "vector", "result": []},
            },
            200,
            SourceUnavailable,
            "store a is away",
        ),
    ],
)
def test_an_answer_that_is_none_is_one_clear_error(
    answer: Any, status: int, error: type[ForeshardError], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        client(lambda *_: answer, status).query("up", T0)
    assert refused.value.remedy


def test_notes_on_a_querys_wording_are_no_partial_data() -> None:
    said = {
        "status": "success",
        "warnings": ["PromQL info: metric might not be a counter"],
        "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "2"]}]},
    }
    [series] = client(lambda *_: said).query("x", T0)
    assert [value for _, value in series.points()] == [2.0]


def test_nobody_there_is_one_clear_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(SourceUnavailable, match="does not answer"):
        PrometheusClient(settings(), httpx.MockTransport(refuse)).query("up", T0)


@pytest.mark.parametrize(("username", "begins"), [(None, "Bearer t0ken"), ("me", "Basic ")])
def test_the_token_is_looked_up_and_sent(
    username: str | None, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(401)

    chosen = settings().model_copy(update={"token_env": "PROM_TEST", "username": username})
    monkeypatch.setenv("PROM_TEST", "t0ken")
    with pytest.raises(ConfigurationError) as refused:
        PrometheusClient(chosen, httpx.MockTransport(handle)).query("up", T0)
    assert "t0ken" not in str(refused.value)
    assert sent[0].startswith(begins)
    monkeypatch.delenv("PROM_TEST")
    with pytest.raises(ConfigurationError, match=r"load\.prometheus\.token_env"):
        PrometheusClient(chosen)


def test_nan_infinity_and_missing_steps_are_gaps() -> None:
    def answer(path: str, form: dict[str, str]) -> Any:
        if path.endswith("/query"):
            return [scrapes(form, job="node")]
        at = int(form["start"])
        values = [(at, "1.5"), (at + 60, "NaN"), (at + 120, "+Inf"), (at + 300, "2")]
        return [matrix(values, foreshard_metric="cpu_cores")]

    [part] = history(client(answer), target(node="db1"), T0 - timedelta(minutes=6), T0)
    assert [(one.ts, one.metric, one.value) for one in part.samples] == [
        (T0 - timedelta(minutes=5), "cpu_cores", 1.5),
        (T0, "cpu_cores", 2.0),
    ]


def test_steps_fit_the_scrapes_and_a_step_that_does_not_is_refused() -> None:
    asked: list[dict[str, str]] = []

    def answer(path: str, form: dict[str, str]) -> Any:
        if path.endswith("/query"):
            return [scrapes(form, every=60)]
        asked.append(form)
        return []

    list(history(client(answer), target(node="db1"), T0 - timedelta(minutes=10), T0))
    assert asked[0]["step"] == "120"
    with pytest.raises(InvalidInput, match="--step"):
        list(history(client(answer), target(node="db1"), T0 - timedelta(minutes=10), T0, 60))


def test_a_target_that_was_never_tried_is_not_asked_about() -> None:
    def answer(path: str, _: dict[str, str]) -> Any:
        assert path.endswith("/query")
        return []

    [part] = history(client(answer), target(node="db1", postgres="db1"), T0 - timedelta(hours=1), T0)
    assert part.samples == []


def test_two_targets_at_a_time_are_refused_one_after_the_other_is_fine() -> None:
    def both(_: str, form: dict[str, str]) -> Any:
        return [scrapes(form, job="node"), scrapes(form, job="nodes")]

    with pytest.raises(ConfigurationError, match="jobs node, nodes"):
        list(history(client(both), target(node="db1"), T0 - timedelta(hours=1), T0))

    def renamed(path: str, form: dict[str, str]) -> Any:
        if path.endswith("/query_range"):
            return []
        one = scrapes(form, job="node")["values"]
        return [{"metric": {"job": "a"}, "values": one[:20]}, {"metric": {"job": "b"}, "values": one[20:]}]

    list(history(client(renamed), target(node="db1"), T0 - timedelta(hours=1), T0))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([matrix([(T0.timestamp(), "-1")])], "negative"),
        ([matrix([], a="1"), matrix([], a="2")], "2 series"),
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, "parse error"),
    ],
)
def test_a_users_query_that_gives_no_load_is_named(answer: Any, says: str) -> None:
    own = target(queries={"queue_s": "q"})
    with pytest.raises(ConfigurationError, match=says) as refused:
        list(history(client(lambda *_: answer), own, T0 - timedelta(hours=1), T0))
    assert refused.value.field == "load.prometheus.shards.s1.queries.queue_s"


def test_fleet_time_is_asked_for_in_real_time_and_told_in_fleet_time() -> None:
    asked: list[int] = []

    def answer(_: str, form: dict[str, str]) -> Any:
        asked.extend((int(form["start"]), int(form["end"])))
        return [matrix([(int(form["end"]), "1")])]

    clock = FleetClock(timedelta(days=-7))
    own = target(queries={"queue_s": "q"})
    [part] = history(client(answer), own, T0 - timedelta(hours=1), T0, None, clock)
    assert asked[1] == (T0 + timedelta(days=7)).timestamp()
    assert part.samples[0].ts == T0


def test_live_asks_again_for_what_may_have_been_late() -> None:
    asked: list[float] = []

    def answer(_: str, form: dict[str, str]) -> Any:
        asked.extend((float(form["start"]), float(form["end"])))
        return []

    live_samples(
        client(answer),
        target(queries={"queue_s": "q"}),
        T0 - timedelta(seconds=63),
        T0 - timedelta(seconds=3),
    )
    begin = T0.timestamp()
    assert asked == [begin - 180, begin - 60]  # the minute that ends at T0 is not over yet
