"""A bucket as PgBouncer knows it: a database name of its own that leads to the bucket's shard. Pure.

What PgBouncer understands of a connection string is little and no libpq (its manual, *Section [databases]*): a
parameter that it cannot express is refused where the application would run otherwise without it, and else left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from psycopg import conninfo

from foreshard.errors import ForeshardError, InvalidInput
from foreshard.topology.keys import SLOTS
from foreshard.topology.routing_map import RoutingMap

_KEPT = ("host", "port", "dbname", "user", "client_encoding")
"""What PgBouncer and libpq mean alike, in the order in which it is written."""

_REFUSED = {
    "service": "PgBouncer reads no service file",
    "options": "PgBouncer passes no start-up options on, and the application would run without them",
    "replication": "an application's connection is none",
}
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_RESERVED = b"pgbouncer"  # its console
_LONGEST_NAME = 63
_LONGEST_QUOTED = 61  # what its console takes in quotes


@dataclass(frozen=True)
class Address:
    """How PgBouncer reaches a shard; ``left_out``: parameters of the DSN that are its administrator's to set."""

    parameters: Mapping[str, str]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Alias:
    """One database of PgBouncer: where its server connections go and how they begin."""

    bucket: str
    shard: str
    address: Address

    @property
    def name(self) -> str:
        """The bucket's name, where PgBouncer can read it in its file; see `name_of`."""
        return name_of(self.bucket)

    @property
    def connect_query(self) -> str:
        """Run once on every server connection. No ``public``: after a bucket has left, its names must lead nowhere."""
        quoted = self.bucket.replace('"', '""')
        return f'SET search_path TO "{quoted}", pg_temp'


def name_of(bucket: str) -> str:
    """The alias of a bucket: its name, with ``*`` and two hexadecimal digits for every byte that is not plain.

    ``Tenant B`` is ``Tenant*20B``. PgBouncer's file knows letters, digits and ``_.-*``; the quoting that its manual
    tells of is a syntax error to it (its issue 971).
    """
    name = bucket.encode()
    plain = "".join(chr(byte) if byte in _PLAIN else f"*{byte:02x}" for byte in name)
    return f"*{name[0]:02x}{plain[1:]}" if name == _RESERVED else plain


def is_word(name: str) -> bool:
    """Whether PgBouncer's console takes the alias without quotes."""
    return re.fullmatch("[A-Za-z0-9_]+", name) is not None


def address_of(shard: str, dsn: str) -> Address:
    """The address in a libpq connection string or URI.

    Raises:
        InvalidInput: (field ``shards.NAME.application_dsn``) PgBouncer cannot connect as it says.
    """
    field = f"shards.{shard}.application_dsn"
    given = {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
    for name, why in _REFUSED.items():
        if name in given:
            raise InvalidInput(field, f"holds {name}=, and {why}.", remedy="Say it without.")
    if "hostaddr" in given:  # what libpq connects to; the name would only be for TLS
        given["host"] = given.pop("hostaddr")
    for name in ("host", "port"):
        if "," in given.get(name, ""):
            raise InvalidInput(
                field,
                "names several servers; PgBouncer would use them all in turn, standbys too.",
                remedy="Name the one that takes writes.",
            )
    if not given.get("dbname"):  # libpq's default, which is not PgBouncer's
        given["dbname"] = given.get("user", "")
    if not given["dbname"]:
        raise InvalidInput(field, "names neither dbname nor user.", remedy="Name the database.")
    kept = {name: given[name] for name in _KEPT if given.get(name)}
    for name, value in kept.items():
        _refuse_unwritable(field, f"{name} {value!r}", value)
    left_out = tuple(sorted(given.keys() - kept.keys() - {"password"}))
    return Address(kept, left_out)


def aliases(routing_map: RoutingMap, dsn_of: Callable[[str], str]) -> tuple[Alias, ...]:
    """Every bucket at the shard that owns all of it: at the source before a migration's cutover, then at its target.

    ``dsn_of``: the application's connection string by shard.

    Raises:
        InvalidInput: a DSN (`address_of`), or a bucket's name, cannot be written for PgBouncer.
        ForeshardError: a bucket has its keys on two shards: no alias can say that.
    """
    shards = {bucket: _owner(routing_map, bucket) for bucket in routing_map.buckets}
    addresses = {shard: address_of(shard, dsn_of(shard)) for shard in sorted(set(shards.values()))}
    for bucket in shards:
        longest = _LONGEST_NAME if is_word(name_of(bucket)) else _LONGEST_QUOTED
        if len(name_of(bucket)) > longest:
            raise InvalidInput(
                "buckets", f"{bucket!r} has the alias {name_of(bucket)}; PgBouncer takes {longest} bytes."
            )
        _refuse_unwritable("buckets", repr(bucket), bucket)  # in connect_query
    return tuple(Alias(bucket, shard, addresses[shard]) for bucket, shard in shards.items())


def _owner(routing_map: RoutingMap, bucket: str) -> str:
    redirection = routing_map.redirection_of(bucket)
    if redirection is None:
        return routing_map.placement.shard_of(bucket)
    if redirection.bound not in (0, SLOTS):
        raise ForeshardError(
            f"{bucket} has its keys on two shards during migration {redirection.migration}: a PgBouncer alias leads to "
            "one.",
            remedy="Wait for the cutover. With applications behind PgBouncer set migration.pgbouncers: buckets then "
            "move in one flip.",
            bucket=bucket,
            migration=redirection.migration,
            bound=redirection.bound,
        )
    return redirection.owner(0)


def _refuse_unwritable(field: str, what: str, value: str) -> None:
    """An ini file ends a value with its line, and knows no way around it."""
    if any(character in value for character in "\n\r\0"):
        raise InvalidInput(field, f"{what} holds a line break.")
