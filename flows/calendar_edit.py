"""Adds, changes or removes an event of the calendar by a form in the UI."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from tasks import calendar_artifact, calendar_editing
from tasks.calendar_editing import CalendarEdit


@flow(name="calendar-edit", persist_result=False)
def calendar_edit(form: CalendarEdit) -> int:
    """Carries the form out, shows the calendar as the artifact `calendar`, and returns the event's number.

    The next forecast knows of it. A form that cannot be carried out changes nothing and says which field is wrong.
    """
    with session() as (settings, control):
        number = calendar_editing.edit(control, settings, form)
        # A table that cannot be shown is a failed task, not a failed edit.
        calendar_artifact.show(control, settings, return_state=True)
        return number
