"""What the router costs an application: `python -m benchmarks.bench_router --json FILE`.

One client, 48 buckets of the same size on one server (with fsync), reads and writes of one row by key. In small
rounds that alternate: the bare psycopg pool at that server, which knows beforehand where each key is; the same by way
of PgBouncer, which pools transactions; the router with qualified names; the router with the bucket in the search path;
SQLAlchemy sessions without a router and with it.

lookup.*           microseconds of `route(map, key, intent)`, by the key's type, at rest and while the bucket moves
read.*, write.*    p50_us, p99_us: medians over the rounds; ratio: p50 against that of the bare pool in the same round
                   (of sessions: of the bare sessions); cpu_us: processor time of the client
round_trips.*      that each takes, counted; a moving bucket's reads ask the shard first
round_trip_us      one `SELECT 1` of libpq, in turn with the others
shadow.*           p99_us of paced reads with that percentage of them repeated on the target of a real migration, and
                   ratio: against 0 % in the same round
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.accounts import BUCKETS, KEYS, AccountsFleet
from benchmarks.contestants import READ, BarePool, Contestant, Routed
from benchmarks.orm_contestants import BareSessions, RoutedSessions
from benchmarks.report import publish
from foreshard.control.shadow_store import ShadowStore
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.router import Addressing, Router, StaticMapSource
from foreshard.router.fleet_router import fleet_router
from foreshard.topology.keys import Key, KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, Redirection, RoutingMap, route
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import QUICK, wait_until
from tests.integration.pgbouncer_server import HOST, PROGRAM, PgBouncerServer

SERVER = {"shared_buffers": "128MB"}  # with fsync, unlike the servers of the tests
BARE, BARE_SESSIONS = "bare", "bare_sessions"
"""Those without a router, which the others are held against."""
PERCENTAGES = (0.0, 1.0, 10.0)
LOOKUPS = 2000
LOOKUP_ROUNDS = 50
COUNTED = 20
WARM_UP = 1500
"""The statements of every bucket are prepared by then."""

Figures = dict[str, object]


def main() -> None:
    """Run the three parts and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=60, help="of each contestant (default 60)")
    options.add_argument(
        "--requests", type=int, default=200, help="reads, and writes, of a round (default 200)"
    )
    options.add_argument("--shadow-rounds", type=int, default=15, help="of each percentage (default 15)")
    options.add_argument("--shadow-reads", type=int, default=1500, help="of a round (default 1500)")
    options.add_argument("--shadow-rate", type=float, default=500.0, help="reads per second (default 500)")
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    figures: Figures = lookups()
    with ThrowawayServers(SERVER) as servers, tempfile.TemporaryDirectory() as state:
        pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
        fleet = AccountsFleet(pair, servers.new_control_database(), Path(state), QUICK)
        with closing(fleet):
            figures |= round_trips(fleet)
            figures |= contest(fleet, chosen.rounds, chosen.requests)
            figures |= shadowed(fleet, chosen.shadow_rounds, chosen.shadow_reads, chosen.shadow_rate)
    figures |= {
        name: getattr(chosen, name) for name in ("rounds", "requests", "shadow_rounds", "shadow_rate")
    }
    publish("bench_router", figures, chosen.json)


def lookups() -> Figures:
    """Part 1."""
    draw = random.Random(1)
    keys: Mapping[KeyType, Callable[[], Key]] = {
        KeyType.INT8: lambda: draw.randrange(10**12),
        KeyType.TEXT: lambda: f"N{draw.randrange(10**5):05}",
        KeyType.UUID: lambda: UUID(int=draw.getrandbits(128)),
    }
    contest: dict[str, tuple[RoutingMap, Sequence[Key]]] = {}
    for key_type, make in keys.items():
        some = [make() for _ in range(LOOKUPS)]
        contest[f"lookup.{key_type.value}.rest_us"] = (resting_map(key_type), some)
        contest[f"lookup.{key_type.value}.moving_us"] = (moving_map(key_type, bound=512), some)
    batches: dict[str, list[float]] = {name: [] for name in contest}
    for _ in range(LOOKUP_ROUNDS):
        for name, (routing_map, asked) in contest.items():
            batches[name].append(lookup_us(routing_map, asked))
    return {name: round(statistics.median(each), 2) for name, each in batches.items()}


def lookup_us(routing_map: RoutingMap, keys: Sequence[Key]) -> float:
    """Microseconds of one lookup, less the loop itself."""
    begun = time.perf_counter()
    for key in keys:
        route(routing_map, key, Intent.READ)
    middle = time.perf_counter()
    for _ in keys:
        pass
    return (2 * middle - begun - time.perf_counter()) / len(keys) * 1e6


def resting_map(key_type: KeyType = KeyType.INT8) -> RoutingMap:
    """All buckets on the source, nothing moves."""
    return RoutingMap(1, key_type, BUCKETS, Placement(dict.fromkeys(BUCKETS, "source")))


def moving_map(key_type: KeyType = KeyType.INT8, *, bound: int) -> RoutingMap:
    """All of them on their way to the target."""
    redirection = Redirection(1, frozenset(BUCKETS), "source", "target", bound, shadow_percent=0.0)
    return replace(resting_map(key_type), redirections=(redirection,))


def round_trips(fleet: AccountsFleet) -> Figures:
    """Counted by a proxy between client and server."""
    resting, moving = resting_map(), moving_map(bound=0)
    source = fleet.pair.source
    figures: Figures = {}
    with BreakableProxy(source.server.port) as proxy:
        source.server.passwords.copy_port(source.server.port, proxy.port)
        dsn = make_conninfo(source.application_dsn, port=proxy.port)

        def router(routing_map: RoutingMap, addressing: Addressing = Addressing.QUALIFIED) -> Router:
            return Router(StaticMapSource(routing_map), {"source": dsn}, addressing=addressing)

        contestants: dict[str, Callable[[], Contestant]] = {
            BARE: lambda: BarePool(dsn),
            BARE_SESSIONS: lambda: BareSessions(dsn),
            "qualified": lambda: Routed(router(resting)),
            "qualified_moving": lambda: Routed(router(moving)),
            "search_path": lambda: Routed(router(resting, Addressing.SEARCH_PATH)),
            "search_path_moving": lambda: Routed(router(moving, Addressing.SEARCH_PATH)),
            "sessions": lambda: RoutedSessions(router(resting)),
            "sessions_moving": lambda: RoutedSessions(router(moving)),
        }
        for name, make in contestants.items():
            with closing(make()) as contestant:
                for kind in (contestant.read, contestant.write):
                    for _ in range(COUNTED):
                        kind(KEYS[0])
                    before = proxy.round_trips
                    for _ in range(COUNTED):
                        kind(KEYS[0])
                    figures[f"round_trips.{name}.{kind.__name__}"] = (proxy.round_trips - before) / COUNTED
    return figures


@contextmanager
def contestants(fleet: AccountsFleet) -> Iterator[dict[str, Contestant]]:
    """Everybody in the contest."""
    source = fleet.pair.source
    with ExitStack() as stack:
        entered: dict[str, Contestant] = {
            BARE: BarePool(source.application_dsn),
            BARE_SESSIONS: BareSessions(source.application_dsn),
        }
        if PROGRAM is not None:
            alias = f"bench = host={HOST} port={source.server.port} dbname={source.database} pool_mode=transaction"
            # The source twice: its application's password is nobody else's.
            only = ShardPair(source, source)
            pooler = stack.enter_context(PgBouncerServer(only, f"[databases]\n{alias}\n"))
            entered["pgbouncer"] = BarePool(pooler.dsn("bench"), prepare=False)
        for addressing in Addressing:
            entered[addressing.value] = Routed(fleet_router(fleet.control, "bench", addressing=addressing))
        entered["sessions"] = RoutedSessions(fleet_router(fleet.control, "bench"))
        for contestant in entered.values():
            stack.callback(contestant.close)
        yield entered


def contest(fleet: AccountsFleet, rounds: int, requests: int) -> Figures:
    """Part 2."""
    draw = random.Random(1)
    took: dict[str, list[list[float]]] = {}
    cpu_us: dict[str, list[float]] = {}
    with contestants(fleet) as entered, psycopg.connect(fleet.pair.source.application_dsn) as conn:
        acts: dict[str, Callable[[int], object]] = {"round_trip": lambda _: conn.pgconn.exec_(b"SELECT 1")}
        for name, contestant in entered.items():
            acts |= {f"read.{name}": contestant.read, f"write.{name}": contestant.write}
        for act in acts.values():
            for key in (draw.choice(KEYS) for _ in range(WARM_UP)):
                act(key)
        for _ in range(rounds):
            for name in draw.sample(list(acts), len(acts)):
                keys = [draw.choice(KEYS) for _ in range(requests)]
                used = time.thread_time()
                took.setdefault(name, []).append([seconds_of(acts[name], key) for key in keys])
                cpu_us.setdefault(name, []).append((time.thread_time() - used) / requests * 1e6)
    figures: Figures = {"round_trip_us": microseconds(took.pop("round_trip"), 0.5)}
    for name, each in took.items():
        kind, contestant_name = name.split(".")
        bare = BARE_SESSIONS if contestant_name == "sessions" else BARE
        figures[f"{name}.p50_us"] = microseconds(each, 0.5)
        figures[f"{name}.p99_us"] = microseconds(each, 0.99)
        figures[f"{name}.ratio"] = ratio(each, took[f"{kind}.{bare}"], 0.5)
        figures[f"{name}.cpu_us"] = round(statistics.median(cpu_us[name]), 1)
    return dict(sorted(figures.items()))


def shadowed(fleet: AccountsFleet, rounds: int, reads: int, per_second: float) -> Figures:
    """Part 3: a migration of all buckets that stays in read_shadow."""
    draw = random.Random(1)
    took: dict[float, list[list[float]]] = {percent: [] for percent in PERCENTAGES}
    fleet.begin_migration()
    fleet.run_until(Stage.READ_SHADOW)
    with fleet.runner() as runner, closing(fleet_router(fleet.control, "bench")) as router:
        work = runner.work

        def read(key: int) -> object:
            return router.query(key, READ, (key,))

        for key in (draw.choice(KEYS) for _ in range(WARM_UP)):
            read(key)
        for _ in range(rounds):
            for percent in draw.sample(PERCENTAGES, len(PERCENTAGES)):
                epoch = work.store.set_routing(work.lease, shadow_percent=percent)
                wait_until(lambda epoch=epoch: router.map.epoch >= epoch, "the new percentage")  # type: ignore[misc]
                took[percent].append(paced(read, [draw.choice(KEYS) for _ in range(reads)], per_second))
    totals = ShadowStore(fleet.control).totals(fleet.migration)
    figures: Figures = {"shadow.reads": totals.reads, "shadow.mismatches": totals.mismatches}
    for percent, each in took.items():
        name = f"shadow.{percent:g}_percent"
        figures[f"{name}.p50_us"] = microseconds(each, 0.5)
        figures[f"{name}.p99_us"] = microseconds(each, 0.99)
        figures[f"{name}.p99_ratio"] = ratio(each, took[0.0], 0.99)
    return figures


def paced(act: Callable[[int], object], keys: Sequence[int], per_second: float) -> list[float]:
    """Seconds that each took, at a fixed rate: as fast as reads can go, a tenth of them would be a load of its own."""
    due = time.perf_counter()
    took = []
    for key in keys:
        due += 1 / per_second
        time.sleep(max(0.0, due - time.perf_counter()))
        took.append(seconds_of(act, key))
    return took


def seconds_of(act: Callable[[int], object], key: int) -> float:
    begun = time.perf_counter()
    act(key)
    return time.perf_counter() - begun


def microseconds(rounds: Sequence[Sequence[float]], quantile: float) -> float:
    """The quantile of each round, and of these the median."""
    return round(statistics.median(float(np.quantile(each, quantile)) for each in rounds) * 1e6, 1)


def ratio(rounds: Sequence[Sequence[float]], others: Sequence[Sequence[float]], quantile: float) -> float:
    """The same against the others' round of the same number, the median."""
    pairs = zip(rounds, others, strict=True)
    ratios = [float(np.quantile(a, quantile) / np.quantile(b, quantile)) for a, b in pairs]
    return round(statistics.median(ratios), 3)


if __name__ == "__main__":
    main()
