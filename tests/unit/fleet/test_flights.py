from __future__ import annotations

import importlib.util

import pandas as pd
import pytest

from foreshard.errors import ForeshardError
from foreshard.fleet.airline import initial_placement
from foreshard.fleet.flights import BUCKETS, Airline, load_airline


@pytest.fixture(scope="module")
def airline() -> Airline:
    return load_airline()


def test_every_flight_with_a_tail_number_is_there(airline: Airline) -> None:
    assert len(airline.flights) == 334_264
    assert airline.flights["tailnum"].notna().all()
    assert set(airline.flights["tailnum"]) == set(airline.aircraft["tailnum"])
    assert airline.aircraft["tailnum"].is_unique


def test_a_known_departure(airline: Airline) -> None:
    """UA 1545 from Newark to Houston, 05:15 in New York on New Year's Day."""
    first = airline.flights.iloc[0]
    assert (first["carrier"], first["flight_no"], first["tailnum"]) == ("UA", 1545, "N14228")
    assert first["sched_dep"] == pd.Timestamp("2013-01-01T10:15:00Z")
    assert (first["origin"], first["dest"], first["dep_delay"], first["distance"]) == ("EWR", "IAH", 2, 1400)


def test_a_row_lies_in_the_bucket_of_its_tail_number(airline: Airline) -> None:
    of_tail = airline.aircraft.set_index("tailnum")["bucket"]
    assert (airline.flights["tailnum"].map(of_tail) == airline.flights["bucket"]).all()
    assert set(of_tail) == set(BUCKETS)


def test_a_small_airline_keeps_its_foreign_keys(airline: Airline) -> None:
    small = airline.first(20)
    assert (small.flights.groupby("bucket").size() == 20).all()
    assert set(small.flights["tailnum"]) == set(small.aircraft["tailnum"])


def test_the_first_placement_holds_every_bucket_and_leaves_shard_4_empty() -> None:
    placement = initial_placement()
    assert tuple(sorted(placement.of)) == BUCKETS
    assert [len(placement.buckets_on(f"shard-{n}")) for n in (1, 2, 3, 4)] == [14, 14, 20, 0]


def test_missing_flights_are_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ForeshardError, match="extra 'demo'"):
        load_airline()
