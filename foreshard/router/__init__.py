"""The client library: transactions and reads by key, in a fleet whose buckets move."""

from foreshard.router.async_router import AsyncRouter
from foreshard.router.async_transaction import AsyncTransaction
from foreshard.router.map_source import ControlMapSource, MapSource, StaticMapSource
from foreshard.router.opening import Addressing, Isolation
from foreshard.router.report import BucketRows
from foreshard.router.router import Router
from foreshard.router.transaction import Transaction

__all__ = [
    "Addressing",
    "AsyncRouter",
    "AsyncTransaction",
    "BucketRows",
    "ControlMapSource",
    "Isolation",
    "MapSource",
    "Router",
    "StaticMapSource",
    "Transaction",
]
