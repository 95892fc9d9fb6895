"""Columns of a file as times, names and numbers. The first value that cannot be used is found and named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from foreshard.errors import InvalidInput
from foreshard.load.metric import check_metric

ClockChange = Literal["refuse", "earlier", "later"]

INSTANT = pa.timestamp("us", tz="UTC")
UNITS = ("_s", "_bytes", "_cores")
"""How names of metrics end."""
_ASSUMED = {"refuse": "raise", "earlier": "earliest", "later": "latest"}


class BadValue(Exception):
    """Row ``row`` of a batch (from 0) holds what cannot be used."""

    def __init__(self, row: int, why: str, remedy: str | None = None) -> None:
        super().__init__(why)
        self.row, self.why, self.remedy = row, why, remedy


def instants(column: pa.Array, timezone: str | None, clock_change: ClockChange) -> pa.Array:
    """Times in UTC, microseconds. ``timezone`` (IANA) is that of times which name none."""
    _refuse(pc.is_null(column), "is empty")
    if not pa.types.is_timestamp(column.type):
        if not _is_text(column.type):
            raise BadValue(0, f"is of type {column.type}, not a time", "Times are written as in ISO 8601.")
        column = _times(column)
    if column.type.tz is None:
        column = _assumed(column, timezone, clock_change)
    return column.cast(INSTANT, safe=False)


def numbers(column: pa.Array) -> pa.Array:
    """Values as float64, null where there is none (empty or NaN)."""
    if _is_text(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        column = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        column = _converted(column, lambda part: part.cast(pa.float64()), "is not a number")
    elif not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise BadValue(0, f"is of type {column.type}, not a number")
    column = column.cast(pa.float64())
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    _refuse(pc.is_inf(column), "is infinite", column)
    _refuse(pc.less(column, 0.0), "is negative", column)
    return column


def names(column: pa.Array, kind: str, known: Collection[str], *, empty: bool = False) -> pa.Array:
    """Names of shards or buckets; ``empty``: whether one may be missing."""
    text = pc.fill_null(column.cast(pa.string()), "")
    if not empty:
        _refuse(pc.equal(text, ""), "is empty")
    allowed = pa.array([*known, *([""] if empty else [])], pa.string())
    _refuse(
        pc.invert(pc.is_in(text, value_set=allowed)),
        f"is no {kind} of this fleet",
        text,
        remedy="`foreshard shard list` shows shards, `foreshard load show` what is known.",
    )
    return text


def metrics(column: pa.Array) -> pa.Array:
    """Names of metrics as the file has them."""
    text = pc.fill_null(column.cast(pa.string()), "")
    _refuse(pc.equal(text, ""), "is empty")
    return text


def check_unit(name: str) -> None:
    """Raises InvalidInput if ``name`` cannot be a metric's, or says no unit: what values are of would be a guess."""
    check_metric(name)
    if not name.endswith(UNITS):
        raise InvalidInput(
            "metric",
            f"{name!r} ends in no unit ({', '.join(('_per_s', *UNITS))})",
            remedy="Give it a name that says what its values are of.",
        )


def refuse_metrics(column: pa.Array) -> None:
    """Raises BadValue at the first name that can be no metric's."""
    for name in column.unique().to_pylist():
        try:
            check_unit(name)
        except InvalidInput as wrong:
            row = pc.index(column, name).as_py()
            raise BadValue(row, wrong.message, f"{wrong.remedy} --rename {name}=... does.") from None


def refuse_after(times: pa.Array, now: pa.Scalar) -> None:
    """Raises BadValue at the first time after ``now``."""
    _refuse(pc.greater(times, now), "is in the future", times)


def _times(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    for kind in (INSTANT, pa.timestamp("us")):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    zoned = _first_failing(text.slice(0, 1), lambda part: part.cast(INSTANT)) is None
    kind = INSTANT if zoned else pa.timestamp("us")
    row = _first_failing(text, lambda part: part.cast(kind))
    assert row is not None
    other = pa.timestamp("us") if zoned else INSTANT
    if row > 0 and _first_failing(text.slice(row, 1), lambda part: part.cast(other)) is None:
        lacks = "has no time zone, and others have" if zoned else "has a time zone, and others have none"
        raise BadValue(row, f"{text[row].as_py()!r} {lacks}")
    raise BadValue(
        row, f"{text[row].as_py()!r} is not a time", "Written as in ISO 8601: 2026-03-02 12:00:00+01:00."
    )


def _assumed(column: pa.Array, timezone: str | None, clock_change: ClockChange) -> pa.Array:
    if timezone is None:
        raise BadValue(
            0,
            f"{column[0]} has no time zone",
            "Say which it is of by --timezone, e.g. --timezone Europe/Paris.",
        )
    chosen = _ASSUMED[clock_change]

    def assume(part: pa.Array) -> pa.Array:
        return pc.assume_timezone(part, timezone, ambiguous=chosen, nonexistent=chosen)

    try:
        return assume(column)
    except pa.ArrowInvalid:
        row = _first_failing(column, assume)
        assert row is not None
    raise BadValue(
        row,
        f"{column[row]} comes twice, or never, in {timezone}: the clock is changed then",
        "--clock-change earlier, or later, chooses one of the two; better is a file with times in UTC.",
    )


def _converted(column: pa.Array, convert: Callable[[pa.Array], pa.Array], why: str) -> pa.Array:
    try:
        return convert(column)
    except pa.ArrowInvalid:
        row = _first_failing(column, convert)
        assert row is not None
    raise BadValue(row, f"{column[row].as_py()!r} {why}")


def _first_failing(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int | None:
    """The first row that cannot be converted, by halves: what is before it can."""
    good, bad = 0, len(column) + 1  # so many rows from the beginning can, cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(column.slice(0, middle))
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return None if good == len(column) else good


def _refuse(wrong: pa.Array, why: str, shown: pa.Array | None = None, remedy: str | None = None) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise BadValue(row, why if shown is None else f"{shown[row].as_py()!s} {why}", remedy)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))
