"""A browser that reaches no other host, and says what it missed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import chromium

CHROMIUM = chromium.find()


def complaints(url: str, profile: Path, screenshot: Path | None = None) -> list[str]:
    """What Chromium says of ``url``: requests that failed, what the page's policy refused, errors of scripts."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            *chromium.FLAGS,
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--window-size=1300,1400",
            f"--screenshot={screenshot or profile / 'page.png'}",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]
