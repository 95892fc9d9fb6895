"""Passwords: where each stands, and how it gets to whoever logs in. No other module handles one.

A DSN never holds a password. libpq finds it in a passfile or a service file by itself; what else there is, a variable
of the environment or a secret block by name, is said once per process by `use`. A password is looked up when somebody
logs in, is kept nowhere but in memory, and is in no message and no frame of an error that leaves this module.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import psycopg
from psycopg import conninfo as libpq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from foreshard.errors import ConfigurationError, ForeshardError

SECRET_PARAMETERS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
"""libpq's parameters that no DSN may hold."""

BlockReader = Callable[[str], str]
"""Gives the value of a secret block by its name."""


class PasswordSource(BaseModel):
    """An entry of ``[[passwords]]``: whose password, on which servers, and the one place where it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    role: str = Field(min_length=1, description="the role that logs in")
    host: str | None = Field(default=None, description="as the DSN has it, several and all; not said: any")
    port: int | str | None = Field(default=None, description="as the DSN has it; not said: any")
    env: str | None = Field(default=None, min_length=1, description="the variable that holds the password")
    secret_block: str | None = Field(
        default=None, min_length=1, description="the Prefect Secret block that does"
    )

    @model_validator(mode="after")
    def _one_place(self) -> PasswordSource:
        if (self.env is None) == (self.secret_block is None):
            raise ValueError("names its place either by env or by secret_block")
        return self

    def is_for(self, role: str | None, host: str | None, port: str | None) -> bool:
        """Whether this is the password of that role there."""
        return role == self.role and self.host in (None, host) and self.port in (None, port, _number(port))


class _Process:
    """What this process knows: where passwords stand, who reads blocks, and what was read."""

    def __init__(self) -> None:
        self.sources: tuple[PasswordSource, ...] = ()
        self.tokens: frozenset[str] = frozenset()
        self.read_block: BlockReader | None = None
        self.blocks: dict[str, str] = {}
        self.lock = Lock()


_process = _Process()


def use(sources: Sequence[PasswordSource], passfile: Path | None = None, tokens: Iterable[str] = ()) -> None:
    """From now on this process finds passwords there; the first entry that fits a login counts.

    What a DSN names itself comes first: one with ``passfile=`` uses that. ``passfile`` is for logins that no entry fits
    and whose service file names no other one. ``tokens``: variables that hold other secrets, which no child process is
    to get either.
    """
    _process.sources = tuple(sources)
    _process.tokens = frozenset(tokens)
    if passfile is not None:
        os.environ["PGPASSFILE"] = str(passfile)  # libpq's own rule, and our child processes follow it, too


def read_blocks_by(reader: BlockReader | None) -> None:
    """Let ``reader`` read secret blocks: whoever knows Prefect brings it. What was read before is forgotten."""
    with _process.lock:
        _process.read_block = reader
        _process.blocks.clear()


def without_secret(dsn: str) -> str:
    """``dsn``, which holds no secret.

    Raises:
        ValueError: it does, or it is no connection string. What libpq says of that may quote a password: left out.
    """
    try:
        parts = libpq.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ValueError("is not a PostgreSQL connection string (key=value pairs, or a URI)") from None
    held = sorted(SECRET_PARAMETERS & {name for name, value in parts.items() if value})
    if held:
        raise ValueError(
            f"must not hold a {held[0]}; put it into a pgpass file and name that by passfile=, or see [[passwords]]"
        )
    return dsn


def completed(conninfo: str) -> str:
    """The connection string with its password, if an entry fits; else libpq has to find it. Never log the result.

    Raises:
        ConfigurationError: the entry that fits gives no password.
    """
    password = _password(conninfo)
    return conninfo if password is None else libpq.make_conninfo(conninfo, password=password)


def log_in(conninfo: str, **settings: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """`psycopg.connect` with the password.

    Raises:
        psycopg.OperationalError: the server does not answer or refuses; no frame of it holds the password.
        ConfigurationError: as `completed`.
    """
    try:
        return psycopg.connect(completed(conninfo), **settings)
    except psycopg.OperationalError as error:
        kind, reason = type(error), str(error)
        if error.pgconn is not None and error.pgconn.used_password:
            _forget_block(conninfo)  # it may have been changed since it was read
    raise kind(reason)


def secret(setting: str, env: str | None, secret_block: str | None) -> str | None:
    """The password or token that stands in a variable or in a secret block; None if neither is named.

    ``setting`` is how an error begins to name the setting; ``env`` or ``secret_block`` follows. Never log the result.

    Raises:
        ConfigurationError: it is not there, cannot be read, is empty or holds a line break.
    """
    if env is not None:
        field = f"{setting}env"
        value = os.environ.get(env)
        if value is None:
            raise ConfigurationError(field, f"names {env}, which is not set", remedy="Set that variable.")
    elif secret_block is not None:
        field = f"{setting}secret_block"
        value = _block(secret_block, field)
    else:
        return None
    if not value or re.search(r"[\n\r\0]", value):
        raise ConfigurationError(
            field,
            "gives a value that is empty or holds a line break",
            remedy="Store it without one.",
        )
    return value


@dataclass(frozen=True)
class ChildLogin:
    """What a child process logs in by: a connection string, open files that it must inherit, its environment."""

    conninfo: str | None
    files: tuple[int, ...]
    environment: Mapping[str, str]


@contextmanager
def for_child(conninfo: str | None) -> Iterator[ChildLogin]:
    """How a child process logs in (None: nowhere). No password is in its arguments, none of ours in its environment.

    Others can read both while it runs. A file without a name they cannot, and it is gone as soon as we are.
    """
    secret = {entry.env for entry in _process.sources} | _process.tokens
    environment = {name: value for name, value in os.environ.items() if name not in secret}
    parts = {} if conninfo is None else libpq.conninfo_to_dict(completed(conninfo))
    password = parts.pop("password", None)
    if password is None:
        yield ChildLogin(conninfo, (), environment)
        return
    with tempfile.TemporaryFile() as file:
        os.fchmod(file.fileno(), 0o600)  # or libpq ignores it
        escaped = re.sub(r"([:\\])", r"\\\1", str(password))
        file.write(f"*:*:*:*:{escaped}\n".encode())
        file.seek(0)
        parts["passfile"] = f"/dev/fd/{file.fileno()}"
        yield ChildLogin(libpq.make_conninfo("", **parts), (file.fileno(),), environment)


def _password(conninfo: str) -> str | None:
    source = _source(conninfo)
    if source is None:
        return None
    number, entry = source
    return secret(f"passwords.{number}.", entry.env, entry.secret_block)


def _source(conninfo: str) -> tuple[int, PasswordSource] | None:
    if not _process.sources:
        return None
    parts = libpq.conninfo_to_dict(conninfo)
    if parts.get("password") or parts.get("passfile"):
        return None
    named = {name: str(value) for name, value in parts.items() if value is not None}
    if "service" not in named:  # what the service file says cannot be seen from here
        named = {**_defaults(), **named}
        named.setdefault("host", named.get("hostaddr", "localhost"))
        named.setdefault("port", "5432")
    for number, entry in enumerate(_process.sources):
        if entry.is_for(named.get("user"), named.get("host"), named.get("port")):
            return number, entry
    return None


def _defaults() -> dict[str, str]:
    """libpq's, those from the environment included."""
    return {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val
    }


def _block(name: str, field: str) -> str:
    with _process.lock:
        if name in _process.blocks:
            return _process.blocks[name]
        reader = _process.read_block
    if reader is None:
        raise ConfigurationError(
            field,
            "names a Secret block, and this process cannot read blocks",
            remedy="Flows and the command line can; an application takes its password from env or a passfile.",
        )
    try:
        value = reader(name)
    except ForeshardError:
        raise
    except Exception as error:  # whatever Prefect raises; its text may quote what it could not read
        kind = type(error).__name__
    else:
        with _process.lock:
            _process.blocks[name] = value
        return value
    raise ConfigurationError(
        field,
        f"names Secret block {name!r}, which cannot be read ({kind})",
        remedy="Check that Prefect's server answers and that there is such a block.",
    )


def _forget_block(conninfo: str) -> None:
    source = _source(conninfo)
    if source is not None and source[1].secret_block is not None:
        with _process.lock:
            _process.blocks.pop(source[1].secret_block, None)


def _number(port: str | None) -> int | None:
    return int(port) if port is not None and port.isdigit() else None
