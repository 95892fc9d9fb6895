"""`foreshard check suites`: what the library, which knows nothing of Great Expectations, cannot look at itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_checks import own_run
from data_checks.own_suites import read_suites


def looked_at(folder: Path, tables: Iterable[str]) -> list[dict[str, Any]]:
    """The folder's suites with all their expectations, once Great Expectations has taken them. Takes some seconds.

    Raises:
        InvalidInput: a file cannot be run; names file and field.
    """
    suites = read_suites(folder, tables)
    own_run.look(suites)
    return [suite.described() for suite in suites]
