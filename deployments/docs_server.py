"""Serves the Data Docs of gate runs on a loopback port: pages and their styles, never evidence.

/                                       all runs, newest first
/migrations/NUMBER/RUN/PAGE             a file of that run's docs directory
/assets/FILE                            styles of the list
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from data_checks.page_templates import page_templates
from foreshard import check_docs
from foreshard.errors import ForeshardError
from foreshard.settings import ChecksSettings, Settings

_SUFFIXES = {".html": "text/html", ".css": "text/css", "": "text/plain"}
"""What Data Docs are made of, licences included."""


def application(state_dir: Path, checks: ChecksSettings) -> Starlette:
    """The ASGI application over the runs in ``state_dir``."""
    pages = page_templates()

    def index(_: Request) -> Response:
        runs = check_docs.runs(state_dir)
        return HTMLResponse(pages.get_template("runs.html").render(runs=runs, state_dir=state_dir))

    def page(request: Request) -> Response:
        found = _page_of(state_dir, **request.path_params)
        if found is None:
            raise HTTPException(404)
        return FileResponse(found, media_type=_SUFFIXES[found.suffix])

    return Starlette(
        routes=[
            Route("/", index),
            Route("/migrations/{migration:int}/{run:str}/{page:path}", page),
            Mount("/assets", StaticFiles(packages=[("data_checks", "assets")])),
        ],
        # A page of another site must not read these by a name that it points at this address.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_hosts(checks.docs_host))],
    )


class DocsServer:
    """The server in a thread of this process. Raises ForeshardError at once if its port cannot be had."""

    def __init__(self, state_dir: Path, checks: ChecksSettings) -> None:
        host, port = checks.docs_host, checks.docs_port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ForeshardError(
                f"Data Docs cannot be served on {host}:{port}: {error.strerror or error}.",
                remedy="Set checks.docs_port to a free port (0: not served).",
            ) from None
        config = uvicorn.Config(
            application(state_dir, checks), log_level="warning", access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="data-docs", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends it within seconds."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def wait(self) -> None:
        """Until it ends or is interrupted."""
        while self._thread.is_alive():
            self._thread.join(0.5)


@contextmanager
def beside(settings: Settings) -> Iterator[None]:
    """Serves while the body runs. Where that cannot be it says why, and the body runs all the same."""
    server = None
    if settings.checks.docs_port:
        try:
            server = DocsServer(settings.state_dir.resolve(), settings.checks)
        except ForeshardError as error:
            print(f"{error.message} {error.remedy}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if server is not None:
            server.stop()


def _page_of(state_dir: Path, migration: int, run: str, page: str) -> Path | None:
    """The file of a request; None for everything that is not a plain file inside that run's docs directory."""
    if not run or run.startswith(".") or "/" in run or "\\" in run or "\0" in run + page:
        return None
    docs = (check_docs.directory_of(state_dir, migration, run) / check_docs.DOCS).resolve()
    found = (docs / (page or check_docs.FIRST)).resolve()
    inside = found.is_relative_to(docs) and docs.is_relative_to(state_dir.resolve())
    return found if inside and found.suffix in _SUFFIXES and found.is_file() else None


def _hosts(host: str) -> list[str]:
    """Names under which the pages may be asked for: on every address, any."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return ["*"]
    except ValueError:
        pass
    return [f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1"]
