"""The report of a stress run: JSON for machines, a table for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foreshard.fleet.throwaway import ThrowawayServers
from tests.stress.part import PartResult

LINES_SHOWN = 20
CPU_INFO = Path("/proc/cpuinfo")


def versions(servers: ThrowawayServers) -> dict[str, str]:
    """What is being tested, and with what."""
    with servers.server("source").connect() as conn:
        row = conn.execute("SHOW server_version").fetchone()
    return {
        "postgresql": str(row[0]) if row else "",
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
    }


def machine() -> dict[str, Any]:
    """CPUs that this process may use, and their model."""
    model = platform.processor() or platform.machine()
    if CPU_INFO.exists():
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpus": cpus, "model": model, "system": platform.system()}


def document(
    results: Mapping[str, PartResult], used: Mapping[str, str], flips: int, seed: int, seconds: float
) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "passed": bool(results) and all(result.passed for result in results.values()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": dict(used),
        "flips_wanted": flips,
        "seed": seed,
        "seconds": round(seconds, 1),
        "parts": {
            name: {
                "passed": result.passed,
                **result.figures,
                **result.details,
                "problems": list(result.lines),
            }
            for name, result in results.items()
        },
    }


def show(console: Console, results: Mapping[str, PartResult], of: Mapping[str, Any]) -> None:
    """Print one table a part, and what is wrong; of parts that failed once more at the end, where a log is read."""
    for name, result in results.items():
        verdict = "[green]passed[/green]" if result.passed else "[red]FAILED[/red]"
        table = Table(title=f"{name}: {verdict}", title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for key, value in result.figures.items():
            table.add_row(key, escape(_readable(value)))
        console.print(table)
        _lines(console, result)
    used, here = of["versions"], of["machine"]
    console.print(
        f"PostgreSQL {used['postgresql']}, Python {used['python']}, {here['cpus']} CPUs ({here['model']}), "
        f"seed {of['seed']}, {of['seconds']} s: {'passed' if of['passed'] else 'FAILED'}",
        highlight=False,
    )
    for name, result in results.items():
        if not result.passed:
            console.print(f"[red]{name} FAILED[/red]")
            _lines(console, result)


def _lines(console: Console, result: PartResult) -> None:
    for line in result.lines[:LINES_SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False)
    if len(result.lines) > LINES_SHOWN:
        console.print(f"  and {len(result.lines) - LINES_SHOWN} more")


def _readable(value: object) -> str:
    match value:
        case dict():
            separator = "\n" if any(isinstance(inner, dict) for inner in value.values()) else ", "
            return separator.join(f"{key}: {_readable(inner)}" for key, inner in value.items())
        case list():
            return "\n".join(map(str, value)) or "none"
    return str(value)
