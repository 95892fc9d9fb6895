"""Debian's Chromium for tests: where it is, and how it is started so that it keeps to itself."""

from __future__ import annotations

import os
import shutil
import sys

VARIABLE = "FORESHARD_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = (
    f"No Chromium was found: neither {VARIABLE} names one nor is {', '.join(NAMES)} on the PATH. "
    "On Debian and Ubuntu: apt-get install chromium."
)

LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""No name resolves: a page that needs another host than this one fails."""

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    LOOPBACK_ONLY,
)


def find() -> str | None:
    """The browser's path; None if there is none. What the variable names is taken as it is."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    sys.exit(None if find() else MISSING)
