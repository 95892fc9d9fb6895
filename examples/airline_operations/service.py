"""The airline's operations over HTTP.

AIRLINE_CONTROL_DSN=... uvicorn --factory examples.airline_operations.service:application
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from examples.airline_operations.operations import (
    Aircraft,
    Boarding,
    FlownMeanwhile,
    NoSuchThing,
    Operations,
    Totals,
)
from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError, RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.router.fleet_router import fleet_router

CONTROL_DSN = "AIRLINE_CONTROL_DSN"
"""The variable with Foreshard's control database: a libpq connection string without a password."""

RETRY_AFTER_S = "1"


class Passenger(BaseModel):
    flight_id: int
    passenger: str


class Inspection(BaseModel):
    """``cycles``: the counter as the engineer saw it."""

    cycles: int


class Counter(BaseModel):
    cycles: int


def application() -> FastAPI:
    """The service with a router of its own. It needs the control database to start, and not to go on."""
    control = ControlDatabase(os.environ[CONTROL_DSN])
    router = fleet_router(control, "airline-operations")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        router.close()
        control.close()

    app = FastAPI(title="Airline operations", lifespan=lifespan)
    add_operations(app, Operations(router))
    add_errors(app)
    return app


def add_operations(app: FastAPI, airline: Operations) -> None:
    """One address an operation. Plain functions: FastAPI runs them in threads, so they may wait for a shard."""

    @app.get("/aircraft/{tailnum}")
    def aircraft(tailnum: str) -> Aircraft:
        return airline.aircraft(tailnum)

    @app.post("/aircraft/{tailnum}/boardings", status_code=201)
    def board(tailnum: str, body: Passenger, idempotency_key: Annotated[UUID, Header()]) -> Boarding:
        return airline.board(tailnum, body.flight_id, body.passenger, idempotency_key)

    @app.get("/aircraft/{tailnum}/boardings/{idempotency_key}")
    def boarding(tailnum: str, idempotency_key: UUID) -> Boarding:
        return airline.boarding(tailnum, idempotency_key)

    @app.post("/aircraft/{tailnum}/cycles")
    def count_cycle(tailnum: str) -> Counter:
        return Counter(cycles=airline.count_cycle(tailnum))

    @app.post("/aircraft/{tailnum}/sign-off")
    def sign_off(tailnum: str, body: Inspection) -> Counter:
        return Counter(cycles=airline.sign_off(tailnum, body.cycles))

    @app.get("/report")
    def report() -> Totals:
        return airline.totals()


def add_errors(app: FastAPI) -> None:
    """What went wrong, as an answer that tells the caller what to do."""

    @app.exception_handler(NoSuchThing)
    def not_found(_: Request, error: NoSuchThing) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 404)

    @app.exception_handler(FlownMeanwhile)
    def conflict(_: Request, error: FlownMeanwhile) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    # The router has tried for some seconds; nothing was committed, so the caller may simply try again.
    @app.exception_handler(RefusedWrite)
    @app.exception_handler(ShardUnavailable)
    def try_again(_: Request, error: ForeshardError) -> JSONResponse:
        body = {"error": error.message, "committed": False, "do": "Send it again."}
        return JSONResponse(body, 503, headers={"Retry-After": RETRY_AFTER_S})

    # Not a 503: clients and proxies repeat those by themselves, and a cycle would be counted twice.
    @app.exception_handler(UnknownCommitOutcome)
    def unknown(_: Request, error: UnknownCommitOutcome) -> JSONResponse:
        advice = "A boarding: send it again with the same Idempotency-Key. Anything else: look at the counter first."
        return JSONResponse({"error": error.message, "committed": "unknown", "do": advice}, 500)
