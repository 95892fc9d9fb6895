"""An artifact as it is shown."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.ui.prefect_ui import PrefectUI


class ArtifactPage:
    """The newest version of an artifact with a key; the key's page lists the versions."""

    def __init__(self, ui: PrefectUI, key: str) -> None:
        self._ui = ui
        page = ui.page
        page.wait_for_url(re.compile(r"/artifacts/"))
        if "/artifacts/key/" in page.url:
            page.get_by_role("link", name=re.compile(r"^[0-9a-f]{8}$")).first.click()
        page.wait_for_url(re.compile(r"/artifacts/artifact/"))
        expect(page.get_by_text(key).first).to_be_visible()

    @classmethod
    def of_key(cls, ui: PrefectUI, key: str) -> ArtifactPage:
        """By its address: neither UI has an entry for artifacts in its navigation."""
        ui.open(f"/artifacts/key/{key}")
        return cls(ui, key)

    @property
    def body(self) -> Locator:
        """Everything on the page."""
        return self._ui.page.locator("body")

    def row(self, *cells: str) -> list[str]:
        """The cells of the table's line in which all of ``cells`` stand."""
        line = self.body.get_by_role("row")
        for cell in cells:
            line = line.filter(has=self._ui.page.get_by_role("cell", name=cell, exact=True))
        line.first.wait_for()
        return line.first.get_by_role("cell").all_inner_texts()

    def picture(self) -> str:
        """What the picture says to those who cannot see it; it must have been drawn."""
        return drawn(self.body.get_by_role("img").and_(self._ui.page.locator("[src^='data:image/']")))


def drawn(picture: Locator) -> str:
    """The text of a picture that the browser has decoded: one that is broken has no size."""
    picture.first.wait_for()
    size = picture.first.evaluate(
        "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    )
    assert min(size) > 0, size
    return picture.first.get_attribute("alt") or ""
