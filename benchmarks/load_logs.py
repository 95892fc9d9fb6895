"""How fast and in how much memory a query log is read: `python -m benchmarks.load_logs --json FILE`.

A jsonlog is generated: 200 sessions on 100 buckets, seven of ten statements prepared with a parse and a bind beside
them, the others with literals of their own, no two alike. Nothing is stored: what a store costs is measured elsewhere.

mb_s        of the log as decompressed, by the seconds of the whole reading
peak_mb     the reading process's greatest resident size, the interpreter and its libraries included
base_mb     the same of a process that has only imported them
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.report import publish
from foreshard.load.query_log.file import find_files
from foreshard.load.query_log.reading import Reading, Server

BUCKETS = tuple(f"b{number:04}" for number in range(100))
BEGIN = datetime(2026, 3, 2, 10, tzinfo=UTC)


def main() -> None:
    """Measure and print or write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--megabytes", type=int, default=1000, help="of log (default 1000)")
    options.add_argument("--json", type=Path, help="write the figures here, too")
    chosen = options.parse_args()
    publish("load_logs", measure(chosen.megabytes), chosen.json)


def measure(megabytes: int = 1000) -> dict[str, object]:
    """The figures of a log of that size, plain and gzipped."""
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "log.json"
        write_log(plain, megabytes * 1_000_000)
        figures: dict[str, object] = {"mb": round(plain.stat().st_size / 1e6, 1)}
        figures["base_mb"] = read_in_child()["peak_mb"]
        packed = plain.with_suffix(".json.gz")
        for name, path in (("plain", plain), ("gz", packed)):
            if path is packed:
                with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            done = read_in_child(path)
            figures[f"{name}.mb_s"] = round(plain.stat().st_size / 1e6 / done["seconds"], 1)
            figures[f"{name}.peak_mb"] = done["peak_mb"]
        return figures


def read_in_child(path: Path | None = None) -> dict[str, float]:
    """Reads the log in a process of its own: ``seconds``, ``peak_mb``, ``statements``."""
    done = subprocess.run(
        [sys.executable, "-c", f"from benchmarks import load_logs; load_logs.read({str(path or '')!r})"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def read(path: str) -> None:
    """What the child does: reads and prints."""
    begun = time.perf_counter()
    statements = 0
    if path:
        reading = Reading(Server("one", "app", BUCKETS, BUCKETS), find_files([Path(path)])[0])
        statements = reading.run(lambda *_: None).counted
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak_mb": round(_peak_mb(), 1), "statements": statements}))


def _peak_mb() -> float:
    """Of this process. Where the system tells it, since its program began: `getrusage` begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_log(path: Path, size: int) -> int:
    """A jsonlog of about ``size`` bytes; returns how many statements are in it."""
    start = int(BEGIN.timestamp())
    written = statements = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            lines = []
            for _ in range(1000):
                number += 1
                at = BEGIN + timedelta(milliseconds=number)
                session = f"{start:x}.{number % 200:x}"
                bucket = BUCKETS[number * 7 % len(BUCKETS)]
                if number % 10 < 7:
                    text = f"SELECT * FROM {bucket}.orders WHERE customer = $1 ORDER BY id LIMIT 10"
                    kinds = [
                        f"parse <unnamed>: {text}",
                        f"bind <unnamed>: {text}",
                        f"execute <unnamed>: {text}",
                    ]
                else:
                    kinds = [
                        f"statement: UPDATE {bucket}.orders SET note = 'it''s {number}' WHERE id = {number}"
                    ]
                statements += 1
                for kind in kinds:
                    lines.append(
                        f'{{"timestamp":"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC","user":"app",'
                        f'"dbname":"app","pid":{number % 200},"remote_host":"10.0.0.1","remote_port":54414,'
                        f'"session_id":"{session}","line_num":{number},"ps":"SELECT","session_start":'
                        f'"{BEGIN:%Y-%m-%d %H:%M:%S} UTC","vxid":"{number % 200}/{number}","txid":0,'
                        f'"error_severity":"LOG","message":"duration: {number % 977 / 100:.3f} ms  {kind}",'
                        '"application_name":"shop","backend_type":"client backend","query_id":0}\n'
                    )
            text = "".join(lines)
            written += len(text)
            file.write(text)
    return statements


if __name__ == "__main__":
    main()
