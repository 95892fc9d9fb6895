"""One of Prefect's two UIs in one page of the browser.

A server serves both: V1 below `/`, V2 below `/v2`. Only `/` itself chooses: it leads to V2 unless the setting
`server.ui.v2_enabled` is off or the cookie `prefect_ui_version` says `v1`; every deeper address is the UI it names.
"""

from __future__ import annotations

import re
from typing import Literal

from playwright.sync_api import Locator, Page, expect

from tests.ui.album import Album

Version = Literal["v1", "v2"]

PATIENCE_MS = 30_000.0
"""The longest that a page may take to show what the server knows; on a busy machine a first load took 15 s."""


class PrefectUI:
    """``page`` shows the UI of ``version`` at ``address``; ``album`` keeps a picture of each station."""

    def __init__(self, page: Page, address: str, version: Version, album: Album) -> None:
        self.page, self.version, self.album = page, version, album
        self._base = address + ("/v2" if version == "v2" else "")
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)

    @property
    def v2(self) -> bool:
        """Whether it is V2."""
        return self.version == "v2"

    def open(self, path: str) -> None:
        """Goes to a page, such as `/deployments`."""
        self.page.goto(self._base + path)

    def go_to(self, entry: str) -> None:
        """Follows an entry of the navigation, such as `Deployments`: a button in V1, a link in V2."""
        self.page.get_by_role("link" if self.v2 else "button", name=entry, exact=True).click()

    def tab(self, name: str) -> None:
        """Opens a tab of the page, whatever its title's capitals."""
        title = re.compile(rf"^\s*{name}\s*$", re.I)
        if self.v2:
            self.page.get_by_role("tab", name=title).click()
        else:
            self.page.get_by_role("tablist").get_by_role("listitem").filter(has_text=title).click()

    def station(self, name: str) -> None:
        """Keeps pictures of the page as it is, light and dark."""
        self.album.station(self.page, f"{self.version}-{name}")

    def field(self, form: Locator, label: str) -> Locator:
        """A field of a form with its label, words and control. No more of the form is known than the label.

        V1's labels name no control, so that the way leads over the nearest block that holds a fieldset.
        """
        wanted = re.compile(rf"^\s*{re.escape(label)}( \(Optional\))?\s*$", re.I)
        return form.locator("label").filter(has_text=wanted).locator("xpath=ancestor::div[.//fieldset][1]")

    def fill(self, form: Locator, label: str, value: str) -> None:
        """Writes into the field of that label."""
        field = self.field(form, label)
        field.get_by_role("textbox").or_(field.get_by_role("spinbutton")).fill(value)

    def choose(self, form: Locator, label: str, option: str) -> None:
        """Takes an option of the field's list. V1's lists open by their arrow or by the keyboard, not by the field."""
        opens = self.field(form, label).get_by_role("group").get_by_role("button")
        if self.v2:
            opens.click()
        else:
            opens.press("ArrowDown")
        self.page.get_by_role("option", name=option, exact=True).click()
