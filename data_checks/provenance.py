"""Proves that results come from our context, our data source and the very table that was asked about.

A second context in a process has been seen to make a gate compare the target with itself, and pass. Great
Expectations keeps one *current* context for the whole process (`project_manager`): what belongs to no context is
looked up there, and whoever makes a context makes it the current one. So there may be one in the process, before and
after the run, it must be the current one, and every result must name our data source and its own table.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext
from great_expectations.data_context.data_context.context_factory import project_manager
from great_expectations.exceptions.exceptions import DataContextRequiredError

from data_checks.suites import Suite

BATCH = "all"
"""The one batch definition of a table: all its rows."""


class NotOurs(Exception):
    """Something else than the gate works with Great Expectations in this process, or a result is of something else."""


def refuse_any_context() -> None:
    """Before ours is made. Raises `NotOurs` if there is one."""
    if _current() is not None or _contexts():
        raise NotOurs("this process has a Great Expectations context already: the gate needs one of its own")


def require_only(context: AbstractDataContext, source: Any) -> None:
    """Raises `NotOurs` unless ``context`` is the only one and the current one, with ``source`` as all its data."""
    if _current() is not context:
        raise NotOurs("another Great Expectations context was made the current one")
    if any(one is not context for one in _contexts()):
        raise NotOurs("a second Great Expectations context is in the process")
    names = list(context.data_sources.all())
    if names != [source.name]:
        raise NotOurs(f"the context's data sources are {', '.join(names)}, not {source.name} alone")


def require_ours(source: Any, suites: Sequence[Suite], results: Sequence[Any]) -> None:
    """Raises `NotOurs` unless the results are, in order, those of the suites' tables in ``source``."""
    tables = [suite.table for suite in suites]
    said = [result.suite_name for result in results]
    if said != tables:
        raise NotOurs(f"there are results of {', '.join(said)}, and not just of {', '.join(tables)}")
    for table, result in zip(tables, results, strict=True):
        batch = result.meta.get("active_batch_definition") or {}
        found = (batch.get("datasource_name"), batch.get("data_asset_name"), result.batch_id)
        if found != (source.name, table, f"{source.name}-{table}"):
            raise NotOurs(f"the result of {table} is of {' '.join(map(str, found))}")
        for evaluated in result.results:
            of = evaluated.expectation_config.kwargs.get("batch_id")
            if of != result.batch_id:
                raise NotOurs(f"an expectation of {table} was evaluated on {of}")


def require_source(
    source: Any, context: AbstractDataContext, definition: Any, table: str, address: str
) -> None:
    """Raises `NotOurs` unless ``definition`` reads ``table`` from the file at ``address``, by ``context``."""
    asset = definition.asset
    found = (asset.datasource.name, str(asset.datasource.connection_string), asset.name, asset.table_name)
    if asset.datasource.data_context is not context or found != (source.name, address, table, table):
        raise NotOurs(f"the definition of {table} reads {asset.name} from {asset.datasource.name}")


def _current() -> AbstractDataContext | None:
    try:
        return project_manager.get_current_project()
    except DataContextRequiredError:
        return None


def _contexts() -> list[AbstractDataContext]:
    """Every context that is alive. The type is asked, not the object, which may answer for another one."""
    gc.collect()  # one that nobody holds any more does no harm
    return [one for one in gc.get_objects() if issubclass(type(one), AbstractDataContext)]
