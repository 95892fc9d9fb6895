"""`foreshard demo`: the whole loop on real servers, told as one story."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from deployments import answering, demo_settings, prefect_client
from deployments.demo_report import Report, build_report
from deployments.stack import Stack, lock
from deployments.steps import Steps
from foreshard import check_docs
from foreshard.control.calendar_store import CalendarStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.plan_store import PlanRecord, PlanStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError
from foreshard.fleet.airline import fill_fleet, initial_placement
from foreshard.fleet.embedded import SHARDS
from foreshard.fleet.flights import BUCKETS, Airline, load_airline
from foreshard.fleet.grants import SHADOW
from foreshard.fleet.load_history import CAPACITY, GETAWAY, Demand
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.settings import load_settings
from foreshard.topology.keys import KeyType

T = TypeVar("T")

TABLES = {"aircraft": "tailnum", "flights": "tailnum", "passenger_events": "tailnum"}
BETWEEN_COLLECTS_S = 15.0
APPROVER_OF_ONCE = "make demo ONCE=1"
REPORT_FILE = "demo-report.json"


def run(state_dir: Path, *, once: bool, failpoints: str, console: Console) -> int:
    """Plays the demo and returns the exit code: 0 if every promise was kept."""
    for number in (signal.SIGINT, signal.SIGTERM):  # started with & from a script, SIGINT would be ignored
        signal.signal(number, _as_interrupt)
    with lock(state_dir):
        stack = Stack(state_dir)
        try:
            with Steps(console) as steps:
                return Demo(stack, steps, once=once, failpoints=failpoints).play()
        except KeyboardInterrupt:
            console.print("Interrupted.")
            return 130
        finally:
            console.print("Stopping everything that was started.")
            _undisturbed(stack.stop)


class Demo:
    """One run of the demo."""

    def __init__(self, stack: Stack, steps: Steps, *, once: bool, failpoints: str) -> None:
        self.stack, self.steps, self.once, self.failpoints = stack, steps, once, failpoints
        self.started = time.monotonic()

    def play(self) -> int:
        """From an empty directory to the checked report."""
        with self.steps.step("Remove what an earlier demo left"):
            self.stack.wipe()
        with self.steps.step("Start five PostgreSQL servers") as update:
            self.stack.fleet.up(update)
        self.control = ControlDatabase(self.stack.fleet.control_dsn())
        try:
            self.set_up()
            return self._loop()
        finally:
            self.control.close()

    # -- before the first flow ----------------------------------------------------------------------------

    def set_up(self) -> None:
        """Data, history, Prefect and the serving process, side by side where they do not need each other.

        The servers run already and `control` is open. Then the workload runs and every flow can be started; the
        environment of this process has become the stack's.
        """
        prefect = self.stack.start_prefect()
        self.offset_s = demo_settings.clock_offset_s()
        soak_s = demo_settings.SOAK_S if self.once else demo_settings.SOAK_OF_A_PERSON_S
        demo_settings.write(self.stack, self.offset_s, soak_s=soak_s, kill_test=bool(self.failpoints))
        os.environ.update(self.stack.environment())
        pool = ThreadPoolExecutor(3)
        try:
            with self.steps.step("Read the real flights of 2013"):
                airline = load_airline()
            filling = pool.submit(self._fill, airline)
            describing = pool.submit(self._describe, airline)
            with self.steps.step("Start the Prefect server"):
                prefect.wait_until_ready()
            describing.result()
            self.stack.start_serving(self.failpoints)
            serving = pool.submit(self._await_deployments)
            for done in as_completed([filling, serving]):
                done.result()
        finally:
            # After Ctrl-C the servers are stopped next, which ends what the threads still do.
            pool.shutdown(wait=False, cancel_futures=True)
        self._start_workload()

    def _fill(self, airline: Airline) -> None:
        with self.steps.step("Create and fill 48 buckets on three shards") as update:
            dsns = {shard: self.stack.fleet.operator_dsn(shard) for shard in SHARDS}
            fill_fleet(dsns, initial_placement(), airline, update)

    def _describe(self, airline: Airline) -> None:
        with self.steps.step("Control database: schema, topology, calendar, six weeks of load") as update:
            self.control.migrate()
            topology = TopologyStore(self.control)
            topology.describe_fleet(KeyType.TEXT, TABLES, shadow_role=SHADOW)
            for shard in SHARDS:
                fleet = self.stack.fleet
                dsns = fleet.operator_dsn(shard), fleet.application_dsn(shard)
                topology.put_shard(ShardRecord(shard, *dsns, CAPACITY))
                with connect(fleet.operator_dsn(shard)) as conn:
                    guard.install(conn)
            placement = initial_placement()
            topology.put_buckets(BUCKETS, placement)
            CalendarStore(self.control).add(GETAWAY)
            update(0.1, "deriving load from flights")
            history = list(Demand(airline).history(placement, SHARDS))
            update(0.4, f"writing {len(history):,} samples")
            with LoadStore(self.control).importing("history") as batch:
                batch.add(history)

    def _await_deployments(self) -> None:
        with self.steps.step("Serve the flows: collect, forecast, decide, migrate, verify, reverse, janitor"):
            prefect_client.use(load_settings())
            self._until("the flows are served", lambda: prefect_client.is_served() or None, 90)
            # Its forecasts are those that are told; another one in between would make another decision.
            prefect_client.schedule("forecast", active=False)

    def _start_workload(self) -> None:
        with self.steps.step("Start readers and writers through the router"):
            self.stack.start_workload(
                {
                    "control_dsn": self.stack.fleet.control_dsn(),
                    "ledger": str(self.stack.ledger),
                    "status": str(self.stack.run_dir / "workload-status.json"),
                    "clock_offset_seconds": self.offset_s,
                    "write_share": 0.6,
                }
            )
            self._until("the workload runs", lambda: self.stack.workload_status() or None, 60)

    # -- the loop -----------------------------------------------------------------------------------------

    def _loop(self) -> int:
        prefect = self.stack.prefect
        assert prefect is not None
        self.steps.say(
            f"[bold]Prefect UI: {prefect.ui_url}[/]  (every flow can be started there: Deployments)"
        )
        self.steps.say(
            f"The fleet's page: {prefect.ui_url}/artifacts/key/fleet  (leads to forecasts, plans, migrations)"
        )
        docs = check_docs.root_address(load_settings().checks)
        self.steps.say(f"Data Docs: {docs}  (what the checks before each step looked at, and found)")
        with self.steps.step("collect: live samples of every shard, twice"):
            self._flow("collect")
            time.sleep(BETWEEN_COLLECTS_S)
            self._flow("collect")
        with self.steps.step("forecast: quantiles for every shard and bucket"):
            self._flow("forecast")
        before = self._newest_forecast()
        with self.steps.step("decide: started by the forecast's event"):
            decided = self._until(
                "a decision", lambda: PlanStore(self.control).decision_after(before.id - 1), 240
            )
        if not decided.plan_ids:
            raise ForeshardError(
                "The decision holds no plan.", remedy="Its notes: " + "; ".join(decided.decision.notes)
            )
        plans = [PlanStore(self.control).get(plan_id) for plan_id in decided.plan_ids]
        for plan in plans:
            self._tell_plan(plan)
        migrations = []
        for plan in plans:  # some wait for others, and all have ended before anything left over is looked for
            migration = self._until(
                f"the migration of plan {plan.id}", partial(self._migration_of, plan.id), 900
            )
            end = self._follow(migration)
            if end is not Stage.DONE:
                if self.once:
                    raise ForeshardError(f"The migration ended as {end}.", remedy=self._where_to_look())
                self.steps.say(
                    f"The migration ended as {end}: {plan.plan.source} owns all its keys, as before."
                )
                self._stay_up()
                return 0
            migrations.append(migration)
        with self.steps.step("forecast again, with the buckets in their new place"):
            self._flow("forecast")
            after = self._until("a decision", lambda: PlanStore(self.control).decision_after(before.id), 240)
        with self.steps.step("Hold every acknowledged write against its owner"):
            self.stack.workload.stop(patience_s=30)
            report = build_report(self.stack, self.control, decided, after, migrations)
        report.data["seconds"] = round(time.monotonic() - self.started, 1)
        return self._conclude(report)

    def _tell_plan(self, plan: PlanRecord) -> None:
        made, excess_at = plan.plan, plan.plan.excess_at
        why = (
            "" if excess_at is None
            else f"; without it {made.source} exceeds its capacity at {excess_at:%H:%M} UTC (fleet clock)"
        )  # fmt: skip
        count = len(made.buckets)
        self.steps.say(
            f"Plan {plan.id}: move {count} bucket{'' if count == 1 else 's'} from {made.source} to {made.target}{why}."
        )

    def _follow(self, migration: int) -> Stage:
        """Tells each step as it ends, and asks for the approval when it is time; returns how it ended."""
        store = MigrationStore(self.control)
        told, asked, soaks = 0, False, False
        with self.steps.step("migrate: every stage, under load") as update:
            while True:
                self.stack.require_running()
                record = store.get(migration)
                finished = [run for run in store.stage_runs(migration) if run.finished_at is not None]
                for run in finished[told:]:
                    assert run.finished_at is not None
                    seconds = (run.finished_at - run.started_at).total_seconds()
                    mark = "" if run.outcome == "finished" else f" [red]{run.outcome}[/]"
                    self.steps.say(f"             [dim]{run.name:<24} {seconds:6.1f} s[/]{mark}")
                told = len(finished)
                if record.stage in ENDS:
                    return record.stage
                if record.failure:
                    raise ForeshardError(
                        f"The migration failed: {record.failure}", remedy=self._where_to_look()
                    )
                if record.stage is Stage.SOAK and not soaks and not self.once:
                    self.steps.say(
                        f"[bold]It can be taken back[/] for {demo_settings.SOAK_OF_A_PERSON_S:.0f} s: Deployments, "
                        f"reverse, Run, with the number {record.id}. Then the source's copy is dropped."
                    )
                soaks = record.stage is Stage.SOAK
                waits = record.waiting_for == "approval"
                update(len(finished) / 12, "waits for approval" if waits else record.stage.value)
                if waits and not asked:
                    self._approve(record)
                asked = waits
                time.sleep(0.5)

    def _approve(self, record: MigrationRecord) -> None:
        """With --once by the API call that the form makes; else a person is told where the form is."""
        prefect = self.stack.prefect
        assert prefect is not None
        if not self.once:
            self.steps.say(
                f"[bold]Your approval is needed:[/] open {prefect.ui_url}/runs/flow-run/{record.flow_run_id}, press "
                f"[bold]Resume[/], read the evidence, choose [bold]approve[/] or [bold]reject[/], sign and send. "
                f"Or in a second terminal: foreshard approve {record.id} --as 'your name'"
            )
            return
        self._until(
            "the run to be suspended", lambda: prefect_client.is_suspended(record.flow_run_id) or None, 60
        )
        answering.answer(self.control, load_settings(), record.id, approve=True, approver=APPROVER_OF_ONCE)

    def _flow(self, name: str, timeout_s: float = 420) -> None:
        """Starts a run of a flow as a person would and waits for its end."""
        state = prefect_client.wait_for_end(prefect_client.start(name), timeout_s)
        while state.is_cancelled():  # a scheduled run of it was under way, and one at a time is allowed
            time.sleep(1.0)
            state = prefect_client.wait_for_end(prefect_client.start(name), timeout_s)
        if not state.is_completed():
            raise ForeshardError(
                f"The flow {name} ended as {state.name}: {state.message}", remedy=self._where_to_look()
            )

    def _newest_forecast(self) -> ForecastRecord:
        newest = ForecastStore(self.control).newest()
        assert newest is not None
        return newest

    def _migration_of(self, plan_id: int) -> int | None:
        return next((m.id for m in MigrationStore(self.control).all() if m.plan_id == plan_id), None)

    def _until(self, what: str, look: Callable[[], T | None], timeout_s: float) -> T:
        """What ``look`` finds at last. Raises ForeshardError if it takes too long or a process died."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.stack.require_running()
            found = look()
            if found is not None:
                return found
            time.sleep(0.3)
        raise ForeshardError(f"Waited {timeout_s:g} s for {what}.", remedy=self._where_to_look())

    def _where_to_look(self) -> str:
        return f"See the logs in {self.stack.run_dir}."

    def _conclude(self, report: Report) -> int:
        broken = report.broken_promises()
        report.write(self.stack.state_dir / REPORT_FILE, broken)
        report.print(self.steps.console, broken)
        if not self.once:
            self._stay_up()
        return 1 if broken else 0

    def _stay_up(self) -> None:
        prefect_client.schedule("forecast", active=True)
        self.steps.say("Everything stays up for you to look at. Ctrl-C stops it.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(1.0)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _undisturbed(work: Callable[[], None]) -> None:
    """Does ``work`` to its end, however often Ctrl-C is pressed."""
    with suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    work()
