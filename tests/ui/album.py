"""What a run of the UI tests leaves in `build/ui/`: pictures of every station, and the whole page where one failed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from playwright.sync_api import Page

SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")

WEAR = """scheme => {
    const worn = document.documentElement.classList
    worn.remove("dark", "light")
    worn.add(scheme)
}"""


class Album:
    """A directory of pictures, numbered in the order of the story."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        self._stations = 0

    def station(self, page: Page, name: str) -> None:
        """Two pictures of what is on the screen. V2 follows the system's colours; V1 is what its root element says."""
        self._stations += 1
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.evaluate(WEAR, scheme)
            picture = self.directory / f"{self._stations:02}-{name}-{scheme}.png"
            page.screenshot(path=picture, animations="disabled")  # else of a change of colours half way

    def failure(self, page: Page, test: str) -> None:
        """The page as it stands: picture, HTML and what can be read of it."""
        page.screenshot(path=self.directory / f"failed-{test}.png", full_page=True)
        self.text(f"failed-{test}.html", page.content())
        self.text(f"failed-{test}.txt", f"{page.url}\n\n{page.locator('body').aria_snapshot()}")

    def text(self, name: str, content: str) -> None:
        """Any other file."""
        (self.directory / name).write_text(content, encoding="utf-8")
