"""Which failures a task tries again."""

from __future__ import annotations

from typing import Any

import psycopg
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from sqlalchemy.exc import OperationalError

from foreshard.errors import FlipFailed, ShardUnavailable

TRANSIENT = (ShardUnavailable, FlipFailed, psycopg.OperationalError, OperationalError)


def is_transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: a server was away, a flip met a long transaction."""
    del task, task_run
    try:
        state.result()
    except TRANSIENT:
        return True
    except Exception:
        return False
    return False
