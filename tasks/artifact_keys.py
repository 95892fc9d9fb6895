"""Keys of artifacts."""

from __future__ import annotations


def artifact_key(*parts: str) -> str:
    """Lowercase letters, digits and dashes: Prefect takes no others."""
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in "-".join(parts).lower())
