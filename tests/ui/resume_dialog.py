"""The form of a run that waits for a person: the evidence above, the decision below."""

from __future__ import annotations

from typing import Literal

from playwright.sync_api import Locator, expect

from tests.ui.artifact_page import drawn
from tests.ui.prefect_ui import PrefectUI


class ResumeDialog:
    """The dialog, once its evidence is there. Fields are found by their labels: others may stand between them."""

    def __init__(self, ui: PrefectUI, first_field: str) -> None:
        self._ui = ui
        self.box: Locator = ui.page.get_by_role("dialog")
        self.box.get_by_role("heading", level=1).first.wait_for()
        ui.field(self.box, first_field).wait_for()

    def headings(self) -> list[str]:
        """Those of the evidence and of the plan, in their order."""
        return self.box.get_by_role("heading").all_inner_texts()

    def picture(self) -> str:
        """The text of the plan's picture, which must have been drawn."""
        return drawn(self.box.locator("img"))

    def show_fields(self) -> None:
        """Scrolls down to the fields."""
        self._ui.field(self.box, "Comment").scroll_into_view_if_needed()

    def require_refusal(self, field: str) -> None:
        """Sends the form and waits for the refusal that names a field."""
        self._send()
        expect(self._ui.page.get_by_text(f"'{field}' is a required property").first).to_be_visible()
        expect(self.box).to_be_visible()

    def answer(self, decision: Literal["approve", "reject"], approver: str, comment: str = "") -> None:
        """Fills the form in and sends it."""
        self._ui.choose(self.box, "Decision", decision)
        self._ui.fill(self.box, "Approver", approver)
        if comment:
            self._ui.fill(self.box, "Comment", comment)
        self._ui.station(f"form-{decision}")
        self._send_off()

    def go_on(self, resumed_by: str) -> None:
        """Ends a pause."""
        self._ui.fill(self.box, "Resumed By", resumed_by)
        self._ui.station("form-resume")
        self._send_off()

    def _send_off(self) -> None:
        self._send()
        expect(self.box).to_be_hidden()

    def _send(self) -> None:
        self.box.get_by_role("button", name="Resume" if self._ui.v2 else "Submit", exact=True).click()
