"""What a call that ran out of time is told: what its last answered attempt was told."""

from __future__ import annotations

import psycopg
import pytest

from foreshard.errors import RefusedWrite, ShardUnavailable
from foreshard.router import Addressing, StaticMapSource
from foreshard.router.core import Call, RouterCore
from foreshard.router.patience import Patience
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, RoutingMap


class Refused(psycopg.DatabaseError):
    sqlstate = "FS001"


NONE_CAME = psycopg.OperationalError("no connection to one can be made")


@pytest.fixture
def call() -> Call:
    source = StaticMapSource(RoutingMap(1, KeyType.TEXT, ("b0",), Placement({"b0": "one"}), ()))
    core = RouterCore(
        source, application="test", deadline_s=60, bucket_of=None, addressing=Addressing.QUALIFIED
    )
    call = Call(core, "N7", Intent.WRITE)
    call.opening()
    return call


def end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "remaining", 0.0)


def test_an_attempt_without_time_for_a_connection_does_not_hide_the_refusal(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call.failed(Refused())
    end(monkeypatch)
    with pytest.raises(RefusedWrite) as told:
        call.failed(NONE_CAME)
    assert told.value.details["sqlstate"] == "FS001"
    assert told.value.__cause__ is NONE_CAME


def test_a_shard_that_went_away_after_a_refusal_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.failed(Refused())
    call.failed(NONE_CAME)  # there was time for one
    end(monkeypatch)
    with pytest.raises(ShardUnavailable):
        call.failed(NONE_CAME)


def test_what_a_server_says_at_the_end_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.failed(Refused())
    end(monkeypatch)
    with pytest.raises(ShardUnavailable):
        call.failed(psycopg.errors.TooManyConnections())
