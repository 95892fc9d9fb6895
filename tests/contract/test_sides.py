"""close, open and cancel on one side of a migration: the real functions, and the fake that state machines use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import OTHER_TIMELINE, STALE_FLIP, Side, SideState
from foreshard.postgres.names import MigrationNames
from tests.contract.memory_side import MemorySide, Refused


class AnySide(Protocol):
    """What the suite asks of both."""

    @property
    def state(self) -> SideState: ...
    @property
    def opened_flip(self) -> int: ...
    @property
    def timeline(self) -> int: ...
    def close(self, flip: int, bound: int, *, rolls_back: bool = False) -> None: ...
    def open(self, flip: int, bound: int, *, rolls_back: bool = False) -> None: ...
    def cancel(self, flip: int, *, rolls_back: bool = False) -> bool: ...
    def fail_over(self) -> None: ...
    def adopt_timeline(self, other_bound: int, seen: int) -> int: ...


class RealSide:
    """The functions on a real shard."""

    def __init__(self, conn: Connection, side: Side) -> None:
        self._conn = conn
        self._names = MigrationNames("contract", 1 if side is Side.SOURCE else 2)
        guard.create_side(conn, self._names, side, "peer", [])

    def reset(self) -> None:
        """As it was created."""
        self._conn.execute(
            "UPDATE foreshard.sides SET flip_no = 0, opened_flip = 0, timeline = foreshard.timeline()"
            " WHERE migration = %s",
            [self._names.schema],
        )
        self._conn.execute("SELECT setval(%s, 0)", [f"{self._names.schema}.bound"])

    @property
    def state(self) -> SideState:
        found = guard.state(self._conn, self._names)
        assert found is not None
        return found

    @property
    def opened_flip(self) -> int:
        row = self._conn.execute(
            "SELECT opened_flip FROM foreshard.sides WHERE migration = %s", [self._names.schema]
        ).fetchone()
        assert row is not None
        return int(row[0])

    def close(self, flip: int, bound: int, *, rolls_back: bool = False) -> None:
        with _refusals(), self._conn.transaction(force_rollback=rolls_back):
            guard.close(self._conn, self._names, flip, bound, uuid4())

    def open(self, flip: int, bound: int, *, rolls_back: bool = False) -> None:
        with _refusals(), self._conn.transaction(force_rollback=rolls_back):
            guard.open_(self._conn, self._names, flip, bound)

    def cancel(self, flip: int, *, rolls_back: bool = False) -> bool:
        with _refusals(), self._conn.transaction(force_rollback=rolls_back):
            return guard.cancel(self._conn, self._names, flip)

    def fail_over(self) -> None:
        self._conn.execute(
            "UPDATE foreshard.sides SET timeline = 'another' WHERE migration = %s", [self._names.schema]
        )

    @property
    def timeline(self) -> int:
        return int(self.state.timeline, 16)

    def adopt_timeline(self, other_bound: int, seen: int) -> int:
        with _refusals():
            return guard.adopt_timeline(self._conn, self._names, other_bound, f"{seen:08X}")


class _refusals:  # noqa: N801 - reads as a function
    """Turns the server's refusal into the fake's."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error) and error.sqlstate in (STALE_FLIP, OTHER_TIMELINE):
            raise Refused from error


@dataclass(frozen=True)
class Call:
    """One call of a random sequence."""

    name: str
    flip: int
    bound: int
    rolls_back: bool

    def on(self, side: AnySide) -> bool | int | str | None:
        """Make the call; its answer, or "refused"."""
        if self.name == "fail_over":
            side.fail_over()
            return None
        try:
            if self.name == "adopt_timeline":
                return side.adopt_timeline(self.bound, side.timeline + self.rolls_back)
            if self.name == "cancel":
                return side.cancel(self.flip, rolls_back=self.rolls_back)
            call = side.close if self.name == "close" else side.open
            return call(self.flip, self.bound, rolls_back=self.rolls_back)
        except Refused:
            return "refused"


CALLS = st.builds(
    Call,
    st.sampled_from(["close", "open", "cancel", "close", "open", "cancel", "fail_over", "adopt_timeline"]),
    st.integers(0, 6),
    st.integers(0, 4),
    st.sampled_from([False, False, False, True]),
)


@pytest.fixture(scope="module")
def operator() -> Iterator[Connection]:
    with ThrowawayServers() as servers:
        shard = servers.new_shard("source")
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)
            yield conn


@pytest.fixture(scope="module")
def real_sides(operator: Connection) -> dict[Side, RealSide]:
    return {side: RealSide(operator, side) for side in Side}


@pytest.fixture(params=["memory", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, side: Side, request: pytest.FixtureRequest) -> AnySide:
    """A side that owns what it owns at the beginning: bound 0."""
    if kind == "memory":
        return MemorySide(side)
    real: RealSide = request.getfixturevalue("real_sides")[side]
    real.reset()
    return real


def test_a_flip_and_its_repetition(kind: str, request: pytest.FixtureRequest) -> None:
    for _ in range(2):
        source, target = (make(kind, side, request) for side in Side)
        for _ in range(2):
            source.close(1, 3)
            target.open(1, 3)
        assert (source.state, target.state) == (SideState(3, 1, 0), SideState(3, 1, 1))
        target.close(2, 1)
        source.open(2, 1)
        assert (source.state, target.state) == (SideState(1, 2, 2), SideState(1, 2, 1))


def test_stale_numbers_are_refused(kind: str, request: pytest.FixtureRequest) -> None:
    source, target = (make(kind, side, request) for side in Side)
    source.close(2, 3)
    target.open(2, 3)
    for call in (Call("close", 1, 4, False), Call("open", 1, 0, False)):
        assert call.on(source) == "refused"
        assert call.on(target) == "refused"


def test_what_was_cancelled_neither_opens_nor_closes(kind: str, request: pytest.FixtureRequest) -> None:
    source, target = (make(kind, side, request) for side in Side)
    assert target.cancel(1)
    assert source.cancel(1)
    assert Call("open", 1, 3, False).on(target) == "refused"
    assert Call("close", 1, 3, False).on(source) == "refused"
    source.close(2, 3)
    target.open(2, 3)


def test_a_cancelled_open_is_not_opened_after_the_close_was_taken_back(
    kind: str, request: pytest.FixtureRequest
) -> None:
    source, target = (make(kind, side, request) for side in Side)
    source.close(1, 3)
    assert target.cancel(1)
    source.open(2, 0)
    assert Call("open", 1, 3, False).on(target) == "refused"
    assert (source.state.bound, target.state.bound) == (0, 0)


def test_an_open_that_rolled_back_has_opened(kind: str, request: pytest.FixtureRequest) -> None:
    target = make(kind, Side.TARGET, request)
    target.open(1, 3, rolls_back=True)
    assert (target.state, target.opened_flip) == (SideState(3, 0, 1), 0)
    assert not target.cancel(1)
    target.open(1, 3)
    assert (target.state, target.opened_flip) == (SideState(3, 1, 1), 1)


@pytest.mark.parametrize("side", list(Side))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=st.lists(CALLS, min_size=1, max_size=12))
def test_fake_and_real_agree_on_any_sequence(
    side: Side, real_sides: dict[Side, RealSide], calls: list[Call]
) -> None:
    real, fake = real_sides[side], MemorySide(side)
    real.reset()
    for number, call in enumerate(calls):
        assert call.on(real) == call.on(fake), (number, call)
        assert (real.state, real.opened_flip) == (fake.state, fake.opened_flip), (number, call)
