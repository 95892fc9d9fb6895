"""Prometheus' HTTP API: one query in, points out. https://prometheus.io/docs/prometheus/latest/querying/api/"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from foreshard.errors import ConfigurationError, SourceUnavailable
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.postgres import passwords

MAX_POINTS = 11_000
"""More steps than this a server refuses in one answer."""
CONNECT_RETRIES = 2


class QueryRefused(ConfigurationError):
    """The server cannot make sense of a query; ``details['promql']`` is the query."""


class _TooMuch(Exception):
    """The server would need too much memory or time for the query as a whole."""


class PrometheusSeries(BaseModel):
    """One series of an answer: its labels, and (seconds since the epoch, value as text) in the order of time."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None

    def points(self) -> Iterator[tuple[datetime, float]]:
        """What was measured: NaN (stale markers too) and infinities are gaps."""
        for seconds, text in self.values if self.value is None else [self.value]:
            number = float(text)
            if math.isfinite(number):
                yield datetime.fromtimestamp(seconds, UTC), number


_SERIES = TypeAdapter(list[PrometheusSeries])


class PrometheusClient:
    """A session with one server; a context manager.

    Raises from every query:
        SourceUnavailable: nobody answers, not in time, with nonsense, or with a part of the data only.
        QueryRefused: the query is wrong.
        ConfigurationError: the server does not accept the token.
    """

    def __init__(self, settings: PrometheusSettings, transport: httpx.BaseTransport | None = None) -> None:
        self.url = settings.url
        verify: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            try:
                verify = ssl.create_default_context(cafile=str(settings.ca_file))
            except OSError as unreadable:  # ssl.SSLError is one
                raise ConfigurationError(
                    "load.prometheus.ca_file",
                    f"{settings.ca_file} cannot be used ({unreadable.strerror or unreadable})",
                    remedy="It holds the certificates of authorities, as PEM.",
                ) from None
        token = passwords.secret("load.prometheus.token_", settings.token_env, settings.token_secret_block)
        headers, auth = {}, None
        if token is not None and settings.username is not None:
            auth = httpx.BasicAuth(settings.username, token)
        elif token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=f"{settings.url}/api/v1/",
            headers=headers,
            auth=auth,
            timeout=settings.timeout_s,
            transport=transport or httpx.HTTPTransport(verify=verify, retries=CONNECT_RETRIES),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def query(self, promql: str, at: datetime) -> list[PrometheusSeries]:
        """The value of ``promql`` at one time; of a range selector, its raw samples."""
        try:
            return self._ask("query", promql, {"time": str(at.timestamp())})
        except _TooMuch as refused:
            raise self._unavailable(f"would need too much for one query: {refused}") from None

    def query_range(
        self, promql: str, first: datetime, last: datetime, step_s: int
    ) -> list[PrometheusSeries]:
        """``promql`` at ``first``, every ``step_s`` after it, up to ``last``: as many requests as the server wants.

        A range for which the server lacks memory or time is asked for in halves.
        """
        begin, end = int(first.timestamp()), int(last.timestamp())
        found: dict[tuple[tuple[str, str], ...], PrometheusSeries] = {}
        for part in _parts(begin, end, step_s):
            for series in self._range(promql, part, step_s):
                known = found.setdefault(tuple(sorted(series.metric.items())), series)
                if known is not series:
                    known.values.extend(series.values)
        return list(found.values())

    def _range(self, promql: str, part: tuple[int, int], step_s: int) -> Iterator[PrometheusSeries]:
        begin, end = part
        times = {"start": str(begin), "end": str(end), "step": str(step_s)}
        try:
            yield from self._ask("query_range", promql, times)
            return
        except _TooMuch as refused:
            if end - begin < step_s:
                raise self._unavailable(f"cannot answer even one step: {refused}") from None
        middle = begin + (end - begin) // step_s // 2 * step_s
        yield from self._range(promql, (begin, middle), step_s)
        yield from self._range(promql, (middle + step_s, end), step_s)

    def _ask(self, path: str, promql: str, arguments: dict[str, str]) -> list[PrometheusSeries]:
        try:
            answer = self._http.post(path, data={"query": promql, **arguments})
        except httpx.TimeoutException:
            raise self._unavailable("does not answer in time") from None
        except httpx.HTTPError as error:
            raise self._unavailable(f"does not answer ({error})") from None
        if answer.status_code in (401, 403):
            raise ConfigurationError(
                "load.prometheus.token_env",
                f"{self.url} refuses us (HTTP {answer.status_code})",
                remedy="Say by token_env or token_secret_block where the token stands; check that it is valid.",
            )
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict) or "status" not in document:
            raise self._unavailable(f"does not speak Prometheus' API (HTTP {answer.status_code})")
        if document["status"] != "success":
            self._explain(document, answer.status_code, promql)
        return self._series(document)

    def _explain(self, document: dict[str, Any], status: int, promql: str) -> None:
        kind, reason = document.get("errorType"), str(document.get("error", ""))
        if (kind == "execution" and "too many samples" in reason) or kind == "timeout":
            raise _TooMuch(reason)
        if kind in ("bad_data", "execution"):
            raise QueryRefused(
                "load.prometheus", f"{self.url} refuses a query ({reason})", remedy=promql, promql=promql
            )
        raise self._unavailable(f"answers with an error (HTTP {status}: {reason or kind})")

    def _series(self, document: dict[str, Any]) -> list[PrometheusSeries]:
        # Notes on the wording of a query are not about the data; newer servers keep them apart as "infos".
        warnings = [text for text in document.get("warnings", []) if not str(text).startswith("PromQL info")]
        if warnings:
            raise self._unavailable(f"has a part of the data only ({warnings[0]})")
        try:
            data = document["data"]
            if data["resultType"] not in ("matrix", "vector"):
                raise KeyError(data["resultType"])
            return _SERIES.validate_python(data["result"])
        except (KeyError, TypeError, ValidationError):
            raise self._unavailable(
                "answers in a form that is not Prometheus' (a series is wanted)"
            ) from None

    def _unavailable(self, what: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"Prometheus at {self.url} {what}.", remedy="What it does not tell is a gap.", url=self.url
        )


def _parts(begin: int, end: int, step_s: int) -> Iterator[tuple[int, int]]:
    span = (MAX_POINTS - 1) * step_s
    while begin <= end:
        yield begin, min(begin + span, end)
        begin += span + step_s
