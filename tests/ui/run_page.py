"""A flow run: its state, what it made, and the way to answer it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.ui.artifact_page import ArtifactPage
from tests.ui.prefect_ui import PrefectUI
from tests.ui.resume_dialog import ResumeDialog

A_STEP_S = 120.0
"""The longest wait for a state: a stage, or the start of a process, on a machine that does other things too."""


class RunPage:
    """The page of one run. It keeps itself up to date."""

    def __init__(self, ui: PrefectUI) -> None:
        self._ui = ui
        ui.page.wait_for_url(re.compile(r"/runs/flow-run/"))
        self.address = ui.page.url
        self._wait_until_shown()

    @classmethod
    def of_message(cls, ui: PrefectUI, run_id: str) -> RunPage:
        """Follows the message that this run was created.

        That of an earlier run may stand beside it: V2 keeps a message for as long as the mouse rests on it. V1 lays two
        of one run one upon the other.
        """
        message = ui.page.get_by_text("View run", exact=True)
        if ui.v2:
            ui.page.locator(f'a[href$="{run_id}"]').filter(has=message).click()
        else:
            message.last.click()
        ui.page.wait_for_url(f"**/runs/flow-run/{run_id}*")
        return cls(ui)

    @classmethod
    def of_deployment(cls, ui: PrefectUI, flow: str, run_name: str) -> RunPage:
        """Finds the newest run of that name among those of a deployment, which leaves out what is only scheduled."""
        from tests.ui.deployments_page import DeploymentsPage

        DeploymentsPage(ui).row(flow).get_by_role("link", name="main", exact=True).click()
        ui.page.get_by_role("link", name=run_name, exact=True).first.click(timeout=A_STEP_S * 1000)
        return cls(ui)

    def open(self) -> None:
        """Comes back to it."""
        self._ui.page.goto(self.address)
        self._wait_until_shown()

    def wait_for(self, state: str, timeout_s: float = A_STEP_S) -> None:
        """Waits until the page says ``state``, as it is: no reload."""
        expect(self._ui.page.get_by_text(state, exact=True).first).to_be_visible(timeout=timeout_s * 1000)

    def artifact(self, key: str) -> ArtifactPage:
        """Opens an artifact that the run made, on its tab, which V2 fills but once a load of the page."""
        self.open()
        self._ui.tab("Artifacts")
        page = self._ui.page  # V2's header has the name of the flow, which may be the key
        shown = page.get_by_role("tabpanel") if self._ui.v2 else page.locator("body")
        shown.get_by_text(key, exact=True).first.click()
        return ArtifactPage(self._ui, key)

    def resume(self, first_field: str = "Decision") -> ResumeDialog:
        """Asks for the form, which begins with that field: a button in V1, an entry of the menu in V2."""
        self._choose("Resume")
        return ResumeDialog(self._ui, first_field)

    def _wait_until_shown(self) -> None:
        """The address changes first: until then the page before it stands there, with the states of other runs."""
        self._ui.page.get_by_role("navigation").get_by_role("link", name="Runs", exact=True).wait_for()

    def _choose(self, action: str) -> None:
        page = self._ui.page
        if self._ui.v2:
            page.get_by_role("button", name="Open menu").first.click()
            page.get_by_role("menuitem", name=action).click()
        else:
            page.get_by_role("button", name=action, exact=True).click()
