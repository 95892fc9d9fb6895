"""Fetches the files of ``manifest.json`` anew from their npm packages. Run by `make assets`; needs npm.

Exit code 1 if a file has another hash than the manifest says; with ``--update`` the manifest is written instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().with_name("assets")
MANIFEST = HERE / "manifest.json"


def fetch(package: str, version: str, names: list[str]) -> dict[str, bytes]:
    """The contents of files of one package, by their path in it."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"], cwd=scratch, check=True, stdout=sys.stderr
        )
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as opened:
            found = {name: opened.extractfile(f"package/{name}") for name in names}
            return {name: file.read() for name, file in found.items() if file is not None}


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--update", action="store_true", help="accept other hashes and write them down")
    update = parser.parse_args().update
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for directory, one in manifest.items():
        for name, content in fetch(one["package"], one["version"], list(one["files"])).items():
            found = hashlib.sha256(content).hexdigest()
            if found != one["files"][name] and not update:
                print(
                    f"{directory}: {name} of {one['package']} {one['version']} has sha256 {found}",
                    file=sys.stderr,
                )
                return 1
            one["files"][name] = found
            (HERE / directory / Path(name).name).write_bytes(content)
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
