"""An airline's gates, on SQLAlchemy: ordinary mapped classes, and an `OrmRouter` where a sessionmaker would be.

The tables carry no schema; each aircraft's rows are in one bucket, wherever that is just now.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import TopologyStore
from foreshard.router.fleet_router import fleet_router
from foreshard.router.orm import OrmRouter


class Base(DeclarativeBase):
    """What is mapped."""


class Aircraft(Base):
    """An aircraft, and how often it took off."""

    __tablename__ = "aircraft"

    tailnum: Mapped[str] = mapped_column(primary_key=True)
    cycles: Mapped[int] = mapped_column(BigInteger)


class Flight(Base):
    """One flight of an aircraft."""

    __tablename__ = "flights"

    tailnum: Mapped[str] = mapped_column(primary_key=True)
    flight_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    origin: Mapped[str]
    dest: Mapped[str]
    events: Mapped[list[PassengerEvent]] = relationship(back_populates="flight")


class PassengerEvent(Base):
    """Something that a passenger of a flight did."""

    __tablename__ = "passenger_events"
    __table_args__ = (
        ForeignKeyConstraint(["tailnum", "flight_id"], ["flights.tailnum", "flights.flight_id"]),
    )

    tailnum: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    flight_id: Mapped[int] = mapped_column(BigInteger)
    op_id: Mapped[UUID | None]
    kind: Mapped[str]
    passenger: Mapped[str]
    at: Mapped[datetime]
    detail: Mapped[str]
    flight: Mapped[Flight] = relationship(back_populates="events")


def connect(control: ControlDatabase) -> OrmRouter:
    """Once in a process. An object of another key than its session's is refused, by the fleet's own description."""
    return OrmRouter(fleet_router(control, "boarding"), TopologyStore(control).tables())


def board(orm: OrmRouter, tailnum: str, flight_id: int, passenger: str, op_id: UUID) -> int:
    """Board a passenger and count a cycle; returns the event's number. Repeated by itself while the bucket moves."""

    def body(session: Session) -> int:
        flight = session.get_one(Flight, (tailnum, flight_id))
        event = PassengerEvent(
            flight=flight,
            kind="boarded",
            passenger=passenger,
            op_id=op_id,
            at=datetime.now(UTC),
            detail=flight.dest,
        )
        session.add(event)
        session.get_one(Aircraft, tailnum, with_for_update=True).cycles += 1
        session.flush()
        return event.event_id

    return orm.run(tailnum, body)


def boarded(orm: OrmRouter, tailnum: str) -> list[PassengerEvent]:
    """Who has boarded that aircraft's flights, last first; detached objects."""
    query = (
        select(PassengerEvent).filter_by(tailnum=tailnum, kind="boarded").order_by(PassengerEvent.at.desc())
    )
    with orm.read(tailnum) as session:
        return list(session.scalars(query))
