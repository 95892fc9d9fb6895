"""Names and other text of strangers in markdown."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*\[\]()#!|~{}$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


def cell(text: str) -> str:
    """``text`` so that it stays in its cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def plain(text: str) -> str:
    """``text`` so that it is shown letter for letter, in a table too: neither markdown nor HTML in it counts."""
    return _MARKUP.sub(lambda found: "\\" + found.group(), text).translate(_ENTITIES)
