"""The client library: transactions and reads by key, in a fleet whose buckets move."""

from foreshard.router.map_source import ControlMapSource, MapSource, StaticMapSource
from foreshard.router.router import Router
from foreshard.router.transaction import Isolation, Transaction

__all__ = ["ControlMapSource", "Isolation", "MapSource", "Router", "StaticMapSource", "Transaction"]
