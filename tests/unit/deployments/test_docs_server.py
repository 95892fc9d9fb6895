"""The server of Data Docs gives out their pages and nothing else of what lies around them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from deployments import docs_server
from deployments.docs_server import DocsServer, beside
from foreshard import check_docs, cli_check_docs
from foreshard.errors import ForeshardError
from foreshard.fleet.server import free_port
from foreshard.settings import ChecksSettings, load_settings

RUN = "before_cutover-3-a1b2"
SECRET = "not for reading"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with one run of migration 12, an older one of 7, and what else lies there."""
    state_dir = tmp_path / "state"
    for migration, name, passed in ((7, "before_copy-1-ff", True), (12, RUN, False)):
        directory = check_docs.directory_of(state_dir, migration, name)
        (directory / "docs" / "assets").mkdir(parents=True)
        (directory / "docs" / "index.html").write_text(f"<p>run {migration}</p>")
        (directory / "docs" / "assets" / "data_docs.css").write_text("p {}")
        (directory / "docs" / "notes.sqlite").write_text(SECRET)
        (directory / "evidence.sqlite").write_text(SECRET)
        os.utime(directory / "docs" / "index.html", (migration, migration))
        checkpoint, flip, _ = name.split("-")
        failed = [] if passed else [{"expectation": "e", "table": "<b>rows</b>", "what": "w"}]
        check_docs.keep_verdict(
            directory,
            {
                "passed": passed,
                "checkpoint": checkpoint,
                "flip": int(flip),
                "expected": 45,
                "failed": failed,
                "warnings": [],
            },
        )
    (state_dir / "migrations" / "12" / "schema.html").write_text(SECRET)
    (state_dir / "secret.html").write_text(SECRET)
    return state_dir


@pytest.fixture
def served(state: Path) -> Iterator[int]:
    port = free_port(set())
    server = DocsServer(state, ChecksSettings(docs_port=port))
    yield port
    server.stop()


@pytest.fixture
def client(served: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{served}") as connected:
        yield connected


def test_pages_and_styles_are_served(client: httpx.Client) -> None:
    page = client.get(f"/migrations/12/{RUN}/index.html")
    assert (page.status_code, page.text) == (200, "<p>run 12</p>")
    assert page.headers["content-type"].startswith("text/html")
    style = client.get(f"/migrations/12/{RUN}/assets/data_docs.css")
    assert style.headers["content-type"].startswith("text/css")
    assert client.get("/assets/bootstrap/bootstrap.min.css").status_code == 200


def test_the_list_has_the_newest_first(client: httpx.Client) -> None:
    text = client.get("/").text
    assert text.index(f"/migrations/12/{RUN}/index.html") < text.index("/migrations/7/")
    assert "NO, 1 of 45 checks failed" in text
    assert "before copy" in text


NOT_SERVED = [
    f"/migrations/12/{RUN}/../evidence.sqlite",
    f"/migrations/12/{RUN}/%2e%2e/evidence.sqlite",
    f"/migrations/12/{RUN}/..%2fevidence.sqlite",
    f"/migrations/12/{RUN}/notes.sqlite",
    f"/migrations/12/{RUN}/evidence.sqlite",
    f"/migrations/12/{RUN}/verdict.json",
    f"/migrations/12/{RUN}/../verdict.json",
    f"/migrations/12/{RUN}/../../schema.html",
    f"/migrations/12/{RUN}/%2e%2e/%2e%2e/schema.html",
    f"/migrations/12/{RUN}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.html",
    f"/migrations/12/{RUN}//etc/passwd",
    f"/migrations/12/{RUN}/%2fetc/passwd",
    f"/migrations/12/{RUN}/index.html%00.sqlite",
    f"/migrations/12/{RUN}/assets",
    f"/migrations/12/{RUN}/assets/",
    f"/migrations/12/%2e%2e/{RUN}/index.html",
    "/migrations/12/../../secret.html",
    "/migrations/12/%2e%2e/secret.html",
    "/migrations/12/",
    "/migrations/",
    "/migrations/-12/x/index.html",
    "/assets/../pages/runs.html",
    "/assets/%2e%2e/pages/runs.html",
    "/secret.html",
    "/../secret.html",
]


def test_nothing_else_is_served(served: int) -> None:
    """Over the wire, by a client that leaves the path as it is."""
    for path in NOT_SERVED:
        connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        assert answer.status in (400, 404), path
        assert SECRET not in body, path


def test_a_link_out_of_the_docs_is_not_followed(state: Path, client: httpx.Client) -> None:
    docs = check_docs.directory_of(state, 12, RUN) / "docs"
    (docs / "out.html").symlink_to(state / "secret.html")
    assert client.get(f"/migrations/12/{RUN}/out.html").status_code == 404


def test_another_sites_name_is_refused(client: httpx.Client) -> None:
    assert client.get("/", headers={"host": "evil.example.com"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:4210"}).status_code == 200


def test_nothing_can_be_written(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, f"/migrations/12/{RUN}/index.html").status_code == 405


def test_a_port_in_use_is_said_and_the_body_runs_on(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        checks = ChecksSettings(docs_port=port)
        with pytest.raises(ForeshardError, match=f"cannot be served on 127.0.0.1:{port}"):
            DocsServer(state, checks)
        _configure(monkeypatch, state, port)
        ran = False
        with beside(load_settings()):
            ran = True
    assert ran
    said = capsys.readouterr().err
    assert "in use" in said
    assert "checks.docs_port" in said


def test_it_serves_beside_the_body_and_ends_with_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(set())
    _configure(monkeypatch, state, port)
    with beside(load_settings()):
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")


def test_an_ipv6_address_serves_too(state: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            checks = ChecksSettings(docs_host="::1", docs_port=free.getsockname()[1])
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = DocsServer(state, checks)
    try:
        root = check_docs.root_address(checks)
        assert root is not None
        assert httpx.get(root).status_code == 200
    finally:
        server.stop()


def test_port_0_serves_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _configure(monkeypatch, state, 0)
    monkeypatch.setattr(docs_server, "DocsServer", None)
    with beside(load_settings()):
        pass


def test_the_command_says_address_and_path(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _configure(monkeypatch, state, 4444)
    monkeypatch.setattr("foreshard.cli_output.out._width", 150)
    said = CliRunner().invoke(cli_check_docs.commands, ["12"]).output
    assert "Migration 12, before cutover, flip 3: NO, 1 of 45 checks failed" in said
    assert f"http://127.0.0.1:4444/migrations/12/{RUN}/index.html" in said
    assert str(state / "migrations" / "12" / RUN / "docs" / "index.html") in said
    assert "Migration 7" not in said
    assert "Migration 7" in CliRunner().invoke(cli_check_docs.commands, []).output
    unknown = CliRunner().invoke(cli_check_docs.commands, ["99"])
    assert "no Data Docs of migration 99" in str(unknown.exception)


def _configure(monkeypatch: pytest.MonkeyPatch, state: Path, port: int) -> None:
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.chdir(state)
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "host=127.0.0.1 port=1")
    monkeypatch.setenv("FORESHARD_STATE_DIR", str(state))
    monkeypatch.setenv("FORESHARD_CHECKS__DOCS_PORT", str(port))
