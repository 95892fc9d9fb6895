"""A browser that reaches no other host, and says what it missed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def complaints(url: str, profile: Path, screenshot: Path | None = None) -> list[str]:
    """What Chromium says of ``url``: requests that failed, what the page's policy refused, errors of scripts."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
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
