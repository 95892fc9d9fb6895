"""The PromQL of each metric: what node_exporter and postgres_exporter say of a shard.

`rate()` alone invents: in a window of which only a part was scraped it spreads what it saw over the whole window,
and says the less the longer the target was away. So each query answers only where its own metric was scraped as often
as scrapes fit into the window (`Window.scrapes`): a target that was down, an exporter that could not reach its server
and a Prometheus that was stopped are all the same gap. That a counter began anew is seen by `rate()` itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from foreshard.load.prometheus_settings import PrometheusShard

_CPU = 'mode!~"idle|iowait|steal"'
"""What the host's processors did for this host. Guests' time is part of `user`, and of a metric of its own."""
_DISKS = r'device!~"(dm-|md|drbd|zram|loop|ram|sr|fd)[0-9]+"'
"""Those over other disks would count the same bytes again."""
_NETS = r'device!~"lo|(veth|docker|br-|virbr|cni|flannel|cali|bond|team|ifb|tun|tap|dummy|vlan).*|.*[.].*"'
"""The same of what stands over other interfaces."""


@dataclass(frozen=True)
class Window:
    """The time that one value is of: its length, and how many scrapes a target that is up has in it."""

    step_s: int
    scrapes: int

    @classmethod
    def of(cls, step_s: int, interval_s: float) -> Window | None:
        """The window of a step where targets are scraped every ``interval_s``; None if it is too short for a rate.

        In a long window one scrape in twenty may be missing: a rate is then wrong by less than 7 %.
        """
        fit = math.floor(step_s / interval_s + 0.01)
        if fit < 2:
            return None
        return cls(step_s, fit if fit < 20 else math.ceil(0.95 * fit))


@dataclass(frozen=True)
class _Counters:
    """The sum of the rates of counters."""

    names: tuple[str, ...]
    labels: str = ""

    def promql(self, selector: str, window: Window) -> str:
        labels = ",".join(part for part in (selector, self.labels) if part)
        # NaN, which postgres_exporter writes for NULL, is not >= 0: it would make the whole sum NaN.
        sums = [f"sum(rate({name}{{{labels}}}[{window.step_s}s]) >= 0)" for name in self.names]
        return f"({' + '.join(sums)}){_whole(self.names[-1], labels, window)}"


@dataclass(frozen=True)
class _Gauge:
    """The mean of a gauge in the window, or of the difference of two."""

    name: str
    less: str | None = None

    def promql(self, selector: str, window: Window) -> str:
        names = [self.name] if self.less is None else [self.name, self.less]
        means = [f"sum(avg_over_time({name}{{{selector}}}[{window.step_s}s]))" for name in names]
        return f"({' - '.join(means)}){_whole(names[-1], selector, window)}"


def _whole(name: str, labels: str, window: Window) -> str:
    """The longest-lived series counts: a table or device that is new is no reason for a gap."""
    return f" and (max(count_over_time({name}{{{labels}}}[{window.step_s}s])) >= {window.scrapes})"


_NODE: Mapping[str, _Counters | _Gauge] = {
    "cpu_cores": _Counters(("node_cpu_seconds_total",), _CPU),
    "memory_bytes": _Gauge("node_memory_MemTotal_bytes", less="node_memory_MemAvailable_bytes"),
    "io_ops_per_s": _Counters(
        ("node_disk_reads_completed_total", "node_disk_writes_completed_total"), _DISKS
    ),
    "io_bytes_per_s": _Counters(("node_disk_read_bytes_total", "node_disk_written_bytes_total"), _DISKS),
    "net_bytes_per_s": _Counters(
        ("node_network_receive_bytes_total", "node_network_transmit_bytes_total"), _NETS
    ),
}
_POSTGRES: Mapping[str, _Counters | _Gauge] = {
    "transactions_per_s": _Counters(("pg_stat_database_xact_rollback", "pg_stat_database_xact_commit")),
    "size_bytes": _Gauge("pg_database_size_bytes"),
    # As `collect` counts them: scans begun stand for queries.
    "queries_per_s": _Counters(("pg_stat_user_tables_idx_scan", "pg_stat_user_tables_seq_scan")),
    "rows_read_per_s": _Counters(("pg_stat_user_tables_idx_tup_fetch", "pg_stat_user_tables_seq_tup_read")),
    "rows_written_per_s": _Counters(
        (
            "pg_stat_user_tables_n_tup_ins",
            "pg_stat_user_tables_n_tup_upd",
            "pg_stat_user_tables_n_tup_del",
        )
    ),
}


NODE_METRICS = frozenset(_NODE)
"""What node_exporter tells of a shard's host."""


@dataclass(frozen=True)
class Target:
    """A shard as Prometheus knows it."""

    shard: str
    settings: PrometheusShard
    database: str

    @classmethod
    def of(cls, shard: str, settings: PrometheusShard, dsn: str) -> Target:
        """``dsn``: the shard's, which says what its database is called where the settings do not."""
        return cls(
            shard, settings, settings.database or str(conninfo_to_dict(dsn).get("dbname") or "postgres")
        )

    @property
    def selectors(self) -> dict[str, str]:
        """By exporter, ``node`` and ``postgres``: the labels that select its target, as PromQL."""
        found = {"node": self.settings.node, "postgres": self.settings.postgres}
        return {kind: _selector(target) for kind, target in found.items() if target is not None}

    def promql(self, kind: str, window: Window) -> dict[str, str]:
        """By metric: the query of exporter ``kind``, which answers one series, or none where there is a gap.

        Metrics with a query of the user's are not in it.
        """
        selector = self.selectors[kind]
        if kind == "postgres":
            selector += f",datname={quoted(self.database)}"
        queries = _NODE if kind == "node" else _POSTGRES
        return {
            metric: query.promql(selector, window)
            for metric, query in queries.items()
            if metric not in self.settings.queries
        }

    def own_promql(self, step_s: int) -> dict[str, str]:
        """By metric: the user's own queries. What they say of a target that was away is their affair."""
        return {
            metric: query.replace("$step", f"{step_s}s") for metric, query in self.settings.queries.items()
        }


def quoted(text: str) -> str:
    """``text`` as a string of PromQL, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _selector(target: str | Mapping[str, str]) -> str:
    labels = {"instance": target} if isinstance(target, str) else target
    return ",".join(f"{name}={quoted(value)}" for name, value in labels.items())
