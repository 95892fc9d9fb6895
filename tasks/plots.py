"""Pictures in markdown. Both of Prefect's UIs show a data-URI picture; inline `<svg>` is stripped."""

from __future__ import annotations

import base64

from foreshard.markdown import plain


def as_markdown(png: bytes, text: str) -> str:
    """The picture as a markdown image with ``text`` for those who cannot see it."""
    return f"![{plain(text)}](data:image/png;base64,{base64.b64encode(png).decode()})"
