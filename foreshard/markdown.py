"""Names and other text of strangers in markdown."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*\[\]()#!|~{}$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


def cell(text: str) -> str:
    """``text`` so that it stays in its cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def shortened(name: str, most: int = 28) -> str:
    """A long name with its middle left out, for narrow tables: names of one fleet differ at either end."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def plain(text: str) -> str:
    """``text`` so that it is shown letter for letter, in a table too: neither markdown nor HTML in it counts."""
    return _MARKUP.sub(lambda found: "\\" + found.group(), text).translate(_ENTITIES)
