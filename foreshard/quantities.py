"""Amounts, rates, durations and probabilities as people read them."""

from __future__ import annotations

BYTES = "bytes"
SECONDS = "s"
UNKNOWN = "-"


def amount(value: float, unit: str) -> str:
    """``12.3 MB`` for bytes, ``3 min 20 s`` for seconds, ``1,234 tables`` for anything else."""
    if unit == SECONDS:
        return duration(value)
    return size(value) if unit == BYTES else f"{value:,.0f} {unit}"


def size(bytes_: float) -> str:
    """In the largest decimal unit that leaves at least one before the point: ``950 bytes``, ``1.2 GB``."""
    for power, name in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if bytes_ >= 0.9995 * 10**power:  # 999.96 kB is 1 MB, not 1000 kB
            return f"{_three_digits(bytes_ / 10**power)} {name}"
    return f"{bytes_:.0f} bytes"


def rate(per_s: float | None, unit: str) -> str:
    """``12.3 MB/s``, ``0.52 tables/s``; a dash where it is not known, or of time itself."""
    if per_s is None or unit == SECONDS:
        return UNKNOWN
    return f"{size(per_s)}/s" if unit == BYTES else f"{_three_digits(per_s)} {unit}/s"


def duration(seconds: float | None) -> str:
    """In two units at most: ``4.2 s``, ``48 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; a dash where not known."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", "s")
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two(minutes, 60, "h", "min")
    return _two(round(seconds / 3600), 24, "d", "h")


def chance(probability: float | None) -> str:
    """``37 %``; what is nearly nothing or nearly certain is not called so; a dash where it is not known."""
    if probability is None:
        return UNKNOWN
    if 0 < probability < 0.01 or 0.99 < probability < 1:
        return "<1 %" if probability < 0.5 else ">99 %"
    return f"{probability * 100:.0f} %"


def resource(metric: str) -> str:
    """A metric's name in words: ``queries/s``, ``cpu cores``."""
    return metric.replace("_per_s", "/s").replace("_", " ")


def _two(value: int, large: int, large_name: str, small_name: str) -> str:
    whole, rest = divmod(value, large)
    return f"{whole} {large_name} {rest} {small_name}" if rest else f"{whole} {large_name}"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def many(number: int, noun: str) -> str:
    """``1 warning``, ``1,200 warnings``: of a noun whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
