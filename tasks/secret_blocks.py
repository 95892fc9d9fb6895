"""Passwords from Prefect's Secret blocks, for ``secret_block`` in the settings' ``[[passwords]]``."""

from __future__ import annotations

from typing import cast


def read(name: str) -> str:
    """The value of the Secret block ``name``; never log it. Raises whatever Prefect raises when it cannot."""
    from prefect.blocks.system import Secret  # late: who reads no block need not wait for Prefect

    return str(cast("Secret[str]", Secret.load(name)).get())
