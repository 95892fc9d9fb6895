"""The stack, the browser, and what is kept of a run in `build/ui/`."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests import chromium
from tests.ui.album import Album
from tests.ui.cockpit import Cockpit, cockpit
from tests.ui.prefect_ui import PrefectUI, Version

KEPT_IN = Path(__file__).resolve().parents[2] / "build" / "ui"
SCREEN = {"width": 1300, "height": 1000}

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Marks a test that failed, for the fixture that keeps what it saw."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def album() -> Album:
    """What this run leaves; what the last one left is gone."""
    return Album(KEPT_IN)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, album: Album) -> Iterator[Cockpit]:
    """One for all tests: they tell one story, in their order."""
    with cockpit(tmp_path_factory.mktemp("cockpit")) as running:
        yield running
        for log in running.stack.run_dir.glob("*.log"):
            shutil.copy(log, album.directory)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Fails, rather than skips, where there is none."""
    path = chromium.find()
    if path is None:
        pytest.fail(chromium.MISSING)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(chromium.FLAGS))
        yield launched
        launched.close()


class Heard:
    """What the browser asked for and complained of, in all pages of the session."""

    def __init__(self) -> None:
        self.hosts: dict[Version, set[str]] = {"v1": set(), "v2": set()}
        self.complaints: list[str] = []

    def listen(self, page: Page, version: Version) -> None:
        """Notes every request and everything on the console that is an error."""
        page.on("request", lambda request: self._asked(request.url, version))
        page.on("pageerror", lambda error: self.complaints.append(f"{version}: {error}"))
        page.on(
            "console",
            lambda said: self.complaints.append(f"{version}: {said.text}") if said.type == "error" else None,
        )

    def _asked(self, url: str, version: Version) -> None:
        host = urlsplit(url).hostname
        if host is not None and host != "127.0.0.1":  # data: and blob: have none
            self.hosts[version].add(host)


@pytest.fixture(scope="session")
def heard() -> Heard:
    """What is noted of all pages."""
    return Heard()


@pytest.fixture(scope="session")
def pages(browser: Browser, stack: Cockpit, album: Album, heard: Heard) -> dict[Version, PrefectUI]:
    """Both UIs, each in a browser profile of its own that begins at the address that a person is told."""
    found: dict[Version, PrefectUI] = {}
    for version in ("v2", "v1"):
        context = browser.new_context(viewport=SCREEN, color_scheme="dark", locale="en-GB", timezone_id="UTC")
        page = context.new_page()
        heard.listen(page, version)
        found[version] = PrefectUI(page, stack.address, version, album)
        page.goto(
            stack.address + ("" if version == "v2" else "/dashboard")
        )  # the address that a person is told is V2
    return found


@pytest.fixture(autouse=True)
def _kept(
    request: pytest.FixtureRequest, pages: dict[Version, PrefectUI], album: Album, heard: Heard
) -> Iterator[None]:
    """After a failure: both pages as they stand, and the console."""
    yield
    if request.node.stash.get(FAILED, False):
        for version, ui in pages.items():
            album.failure(ui.page, f"{request.node.name}-{version}")
        album.text("console.txt", "\n".join(heard.complaints))


@pytest.fixture
def v1(pages: dict[Version, PrefectUI]) -> PrefectUI:
    """The old UI."""
    return pages["v1"]


@pytest.fixture
def v2(pages: dict[Version, PrefectUI]) -> PrefectUI:
    """The UI that a browser without a choice of its own is led to."""
    return pages["v2"]
