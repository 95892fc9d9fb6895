"""The deployments: where a person starts a flow."""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.ui.prefect_ui import PrefectUI
from tests.ui.run_form import RunForm


class DeploymentsPage:
    """The list of deployments."""

    def __init__(self, ui: PrefectUI) -> None:
        self._ui = ui
        ui.go_to("Deployments")
        self.row("collect").wait_for()

    def row(self, flow: str) -> Locator:
        """The line of the flow's deployment."""
        page = self._ui.page
        return page.get_by_role("row").filter(has=page.get_by_role("link", name=flow, exact=True))

    def custom_run(self, flow: str) -> RunForm:
        """Opens the deployment of ``flow``, then the form of a run of its own."""
        page = self._ui.page
        self.row(flow).get_by_role("link", name="main", exact=True).click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        return RunForm(self._ui)
