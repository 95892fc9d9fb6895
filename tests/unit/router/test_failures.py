from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from foreshard.errors import RefusedWrite, ShardUnavailable
from foreshard.router.failures import Failure, Refusal, classify, given_up
from foreshard.topology.routing_map import Intent, Route

WHERE = Route("b0007", "shard-2", 5, migration=None, shadow=None)


class _Refused(psycopg.DatabaseError):
    sqlstate = "FS001"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (_Refused(), Failure.NOT_OWNER),
        (psycopg.errors.UndefinedTable(), Failure.GONE),
        (psycopg.errors.InvalidSchemaName(), Failure.GONE),
        (psycopg.errors.SerializationFailure(), Failure.CONFLICT),
        (psycopg.errors.DeadlockDetected(), Failure.CONFLICT),
        (psycopg.errors.LockNotAvailable(), Failure.CONFLICT),
        (psycopg.errors.AdminShutdown(), Failure.CONNECTION),
        (psycopg.errors.ConnectionFailure(), Failure.CONNECTION),
        (psycopg.OperationalError("server closed the connection"), Failure.CONNECTION),
        (PoolTimeout("none left"), Failure.CONNECTION),
        (psycopg.errors.UniqueViolation(), Failure.OTHER),
        (psycopg.errors.QueryCanceled(), Failure.OTHER),
        (psycopg.InterfaceError("the router is closed"), Failure.OTHER),
    ],
)
def test_classify(error: psycopg.Error, failure: Failure) -> None:
    assert classify(error) is failure


def test_a_refusal_without_readable_detail_teaches_nothing() -> None:
    assert Refusal.read(_Refused(), "shard-2") is None


def test_what_is_raised_when_time_is_over() -> None:
    refused = given_up(_Refused(), WHERE, Intent.WRITE, 3)
    assert isinstance(refused, RefusedWrite)
    assert refused.details == {"shard": "shard-2", "bucket": "b0007", "sqlstate": "FS001", "attempts": 3}
    assert isinstance(given_up(PoolTimeout(), WHERE, Intent.WRITE, 1), ShardUnavailable)
    assert isinstance(given_up(_Refused(), WHERE, Intent.READ, 1), ShardUnavailable)
