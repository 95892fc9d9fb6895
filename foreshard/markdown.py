"""Names in markdown."""

from __future__ import annotations


def cell(text: str) -> str:
    """``text`` so that it stays in its cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
