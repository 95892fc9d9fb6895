"""Evaluates a team's own suites on one side with Great Expectations: ``python -m data_checks.own_process``.

The job is the first line of standard input, answers are lines of JSON on standard output; `data_checks.own_run` speaks
with it. Its connection string holds no password: libpq finds it in the file that the caller left open. One process, one
context, one thread, one side: Great Expectations is not thread-safe. The process ends when standard input does, so that
it never outlives its caller.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, TextIO

import great_expectations as gx
import psycopg
from great_expectations.expectations.registry import get_expectation_impl
from sqlalchemy.sql.elements import quoted_name

from data_checks.gx_context import new_context
from data_checks.raised import raised
from foreshard.postgres.connect import NOTICE_OUR_END, Connection
from foreshard.postgres.pair import pinned_session

ENDED_WITH_CALLER = 3

# Observed values of these are counts, shares or names of columns. Those of others may be a row's and stay here.
_TELLS = frozenset(
    {
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_to_exist",
        "expect_column_type_to_be",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_of_type",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
    }
)
_DATA_EXCEPTIONS = ("22", "23")
"""Classes of SQLSTATE whose messages quote values of rows."""
_ABOUT_NAMES = re.compile(
    r'The column "[^"]*" in BatchData does not exist|cannot be computed on column of type'
)
"""Words of Great Expectations itself. What it wraps may be any library's, and quote a row."""


def refused(suites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What Great Expectations does not take of the suites: suite, number of the expectation, field, why."""
    found = []
    for suite in suites:
        for number, expectation in enumerate(suite["expectations"], 1):
            try:
                _expectation(number, expectation)
            except Exception as error:  # whatever its validators raise
                field, why = _first_mistake(error)
                found.append({"suite": suite["name"], "number": number, "field": field, "why": why})
    return found


def evaluated(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One answer for each bucket and suite, with the results of its expectations by number."""
    context = new_context()
    sources: Any = context.data_sources  # its type hides what the method takes
    source = sources.add_postgres(
        name=f"migration-{job['migration']}-{job['side']}",
        connection_string="postgresql+psycopg://see@creator/database",  # names the dialect only: `creator` logs in
        kwargs={"creator": _session(job["conninfo"], job["timeout_s"])},
    )
    for suite in job["suites"]:
        expectations = [_expectation(n, e) for n, e in enumerate(suite["expectations"], 1)]
        for bucket in job["buckets"]:
            answer = {"bucket": bucket, "suite": suite["name"], "results": {}}
            try:
                asset = source.add_table_asset(
                    name=f"{bucket}/{suite['name']}",
                    # Quoted: else Great Expectations would fold names in upper case.
                    table_name=quoted_name(suite["table"], quote=True),
                    schema_name=quoted_name(bucket, quote=True),
                )
                validated = (
                    asset.add_batch_definition_whole_table("all")
                    .get_batch()
                    .validate(
                        gx.ExpectationSuite(name=suite["name"], expectations=expectations),
                        # No row's value is fetched, so none can be told.
                        result_format={"result_format": "BASIC", "partial_unexpected_count": 0},
                    )
                )
            except Exception as error:
                answer["broke"] = _harmless(type(error).__name__, str(error))
            else:
                answer["results"] = {
                    str(result.expectation_config.meta["number"]): _result(result)
                    for result in validated.results
                    if result.expectation_config is not None
                }
            yield answer


def _session(conninfo: str, timeout_s: float) -> Callable[[], Connection]:
    def log_in() -> Connection:
        session = pinned_session(conninfo)
        session.execute(NOTICE_OUR_END)
        session.execute("SELECT set_config('statement_timeout', %s, false)", [str(int(timeout_s * 1000))])
        return session

    return log_in


def _expectation(number: int, expectation: Mapping[str, Any]) -> Any:
    kind = get_expectation_impl(expectation["type"])
    # The number makes two alike different: Great Expectations would drop one of them.
    return kind(**expectation["kwargs"], severity=expectation["severity"], meta={"number": number})


def _first_mistake(error: Exception) -> tuple[str, str]:
    """Field and reason of what a pydantic model, or anything else, says."""
    listed = getattr(error, "errors", None)
    mistakes = listed() if callable(listed) else []
    if not mistakes:
        return "kwargs", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    path = [str(part) for part in mistakes[0].get("loc", ()) if part != "__root__"]
    return ".".join(["kwargs", *path]), str(mistakes[0].get("msg", "is not valid"))


def _result(evaluated: Any) -> dict[str, Any]:
    caught = raised(evaluated)
    if caught:
        return {"held": False, "raised": True, "seen": _exception(caught[0])}
    result = evaluated.result
    seen = ""
    if result.get("element_count") is not None and "unexpected_count" in result:
        seen = f"{result['unexpected_count']} of {result['element_count']} rows"
    elif evaluated.expectation_config.type in _TELLS and result.get("observed_value") is not None:
        seen = f"observed {result['observed_value']}"
    return {"held": bool(evaluated.success), "raised": False, "seen": seen[:300]}


def _exception(caught: Mapping[str, Any]) -> str:
    traceback = str(caught.get("exception_traceback") or "").strip()
    kind = (traceback.splitlines() or [""])[-1].partition(":")[0]
    return _harmless(kind, str(caught.get("exception_message") or ""))


def _harmless(kind: str, message: str) -> str:
    """Words for an exception that quote no row; of one that might, its name alone."""
    name = kind.rpartition(".")[2] or "an exception"
    from_server = re.search(r"\(psycopg\.errors\.(\w+)\) ([^\n]*)", message)
    if from_server is not None:
        name, said = from_server.groups()
        state = getattr(getattr(psycopg.errors, name, None), "sqlstate", None) or ""
        return name if state.startswith(_DATA_EXCEPTIONS) else f"{name}: {said[:200]}"
    # The connection is tried before any row is read.
    if name == "TestConnectionError" or _ABOUT_NAMES.search(message):
        return f"{name}: {(message.splitlines() or [''])[0][:200]}"
    return name


def _end_with(caller: TextIO) -> None:
    """Ends this process when its caller has ended, or has closed our standard input."""
    caller.read()
    os._exit(ENDED_WITH_CALLER)


def main() -> None:
    """Reads one job and answers it: ``refused``, or a line for each bucket and suite and then ``done``. Ends us."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    logging.disable(logging.CRITICAL)  # a library's words may quote rows
    answers = sys.stdout

    def answer(document: Mapping[str, Any]) -> None:
        print(json.dumps(document), file=answers, flush=True)

    with redirect_stdout(sys.stderr):
        wrong = refused(job["suites"])
        if wrong:
            answer({"refused": wrong})
        else:
            if job["conninfo"] is not None:
                for outcome in evaluated(job):
                    answer(outcome)
            answer({"done": True})
    os._exit(0)  # taking the libraries down in order would take a second, and there is nothing to lose


if __name__ == "__main__":
    main()
