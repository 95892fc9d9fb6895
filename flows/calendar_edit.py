"""Adds, changes or removes an event of the calendar by a form in the UI."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from foreshard.control.session import session
from tasks import calendar_artifact, calendar_editing, run_labels
from tasks.calendar_editing import CalendarEdit
from tasks.form_fields import Help


@flow(name="calendar-edit", persist_result=False)
def calendar_edit(
    form: Annotated[CalendarEdit, Help("The event. Of a change, what is left empty stays as it is.")],
) -> int:
    """Adds, changes or removes an event of the calendar: a promotion, a holiday, a time without migrations.

    The next forecast knows of it. The artifact `calendar` shows all events with their numbers. A form that cannot be
    carried out changes nothing and says which field is wrong. Returns the event's number.
    """
    run_labels.rename(run_labels.calendar_name(form))
    with session() as (settings, control):
        number = calendar_editing.edit(control, settings, form)
        # A table that cannot be shown is a failed task, not a failed edit.
        calendar_artifact.show(control, settings, return_state=True)
        return number
