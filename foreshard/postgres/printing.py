"""How values print: pinned wherever text of two servers must mean the same."""

from __future__ import annotations

from collections.abc import Mapping

PRINTING: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
}
