"""What every benchmark writes: its figures, and on what, with what, and when they were measured."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from foreshard.fleet.binaries import find_binaries
from tests.stress.report import machine


@dataclass(frozen=True)
class Quantiles:
    """Median, 99th percentile and maximum."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Of at least one value."""
        p50, p99 = np.quantile(values, [0.5, 0.99])
        return cls(float(p50), float(p99), float(max(values)))

    def named(self, name: str) -> dict[str, object]:
        """As figures of a report, to the microsecond."""
        return {f"{name}.{key}": round(value, 3) for key, value in self.__dict__.items()}


def publish(benchmark: str, figures: Mapping[str, object], file: Path | None) -> None:
    """Print the figures, and write them into ``file``."""
    table = Table("figure", "value", title=benchmark, title_justify="left")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
    if file is not None:
        document = {"benchmark": benchmark, **_circumstances(), "figures": dict(figures)}
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _circumstances() -> dict[str, object]:
    postgres = subprocess.run(
        [str(find_binaries().tool("postgres")), "--version"], capture_output=True, text=True, check=True
    )
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "versions": {
            "postgresql": postgres.stdout.strip().rsplit(" ", 1)[-1],
            "python": platform.python_version(),
            "psycopg": version("psycopg"),
        },
    }
