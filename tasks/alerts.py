"""What the janitor does every minute about conditions that a person must hear of: look, remember, tell."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from foreshard.alerts.judge import judge
from foreshard.control.alert_store import AlertRecord, AlertStore
from foreshard.control.engine import ControlDatabase
from foreshard.metrics.reader import read
from foreshard.settings import Settings
from tasks import events


@task(name="tell alerts", cache_policy=NO_CACHE)
def tell(control: ControlDatabase, settings: Settings) -> None:
    """One event when a condition begins, one when it is over, whoever restarts in between.

    What began and ended stands in the control database before it is told. An event that Prefect does not take fails
    this task; it is sent by the next run.
    """
    logger, store = get_run_logger(), AlertStore(control)
    store.put(
        judge(
            read(control, settings),
            settings.alerts,
            begun=store.lasting(),
        )
    )

    def say(record: AlertRecord, over: bool) -> None:
        events.alert(record, over)
        logger.warning("%s: %s", record.document["title"], "over" if over else record.document["text"])

    store.tell(say)
