"""The form in which a person starts a run with parameters."""

from __future__ import annotations

import re

from playwright.sync_api import Locator

from tests.ui.prefect_ui import PrefectUI
from tests.ui.run_page import RunPage


class RunForm:
    """A `Custom run` of a deployment."""

    def __init__(self, ui: PrefectUI) -> None:
        self._ui = ui
        self._form.get_by_role("button", name="Submit").wait_for()
        self._form.get_by_role("heading", name="Parameters").wait_for()

    @property
    def _form(self) -> Locator:
        return self._ui.page.locator("form")

    def set(self, label: str, value: str) -> None:
        """Writes into a field."""
        self._ui.fill(self._form, label, value)

    def switch(self, label: str) -> None:
        """Turns a switch over."""
        self._ui.field(self._form, label).get_by_role("switch").click()

    def field(self, label: str) -> Locator:
        """The field with its words and its control."""
        return self._ui.field(self._form, label)

    def submit(self) -> RunPage:
        """Starts the run and follows the link of the message that says so."""
        with self._ui.page.expect_response(re.compile(r"/create_flow_run$")) as answer:
            self._form.get_by_role("button", name="Submit").click()
        return RunPage.of_message(self._ui, answer.value.json()["id"])
