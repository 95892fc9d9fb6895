"""The statements of the load store, and the psycopg connections they run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from foreshard.control.engine import ControlDatabase


@cache
def statement(name: str) -> sql.SQL:
    """The statement of ``sql/<name>.sql``."""
    text: LiteralString = (files("foreshard.control") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(text)


@contextmanager
def transaction(control: ControlDatabase, *, snapshot: bool = False) -> Iterator[psycopg.Connection]:
    """A pooled connection in one transaction. ``snapshot``: all its statements see one state, and only read."""
    with control.engine.begin() as pooled:
        conn = cast(psycopg.Connection, pooled.connection.driver_connection)
        if snapshot:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield conn
