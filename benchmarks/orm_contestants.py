"""SQLAlchemy in `bench_router`: sessions of an `OrmRouter`, and those that an application has without a router."""

from __future__ import annotations

import psycopg
from sqlalchemy import BigInteger, create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.accounts import BUCKETS, bucket_of
from foreshard.router import Router
from foreshard.router.orm import OrmRouter


class Base(DeclarativeBase):
    """What is mapped."""


class Account(Base):
    """One account."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    balance: Mapped[int] = mapped_column(BigInteger)


class RoutedSessions:
    """Sessions by key."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._sessions = OrmRouter(router, {"accounts": "id"})

    def read(self, key: int) -> int:
        with self._sessions.read(key) as session:
            return _read(session, key)

    def write(self, key: int) -> int:
        return self._sessions.run(key, lambda session: _write(session, key))

    def close(self) -> None:
        self._router.close()


class BareSessions:
    """SQLAlchemy's own pool at one server, and an engine a bucket. It begins and ends reads, too."""

    def __init__(self, dsn: str) -> None:
        self._engine = create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), pool_size=8
        )
        # Made once: they share the pool and what is compiled.
        self._engine_of = {
            bucket: self._engine.execution_options(schema_translate_map={None: bucket}) for bucket in BUCKETS
        }

    def read(self, key: int) -> int:
        with self._session(key) as session:
            return _read(session, key)

    def write(self, key: int) -> int:
        with self._session(key) as session, session.begin():
            return _write(session, key)

    def close(self) -> None:
        self._engine.dispose()

    def _session(self, key: int) -> Session:
        return Session(self._engine_of[bucket_of(key)])


def _read(session: Session, key: int) -> int:
    return session.execute(select(Account.balance).where(Account.id == key)).scalar_one()


def _write(session: Session, key: int) -> int:
    more = update(Account).where(Account.id == key).values(balance=Account.balance + 1)
    return session.execute(more.returning(Account.balance)).scalar_one()
