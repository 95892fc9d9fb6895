"""The rows in which the two copies of a migration differ, one by one: which, who owns them, in which columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from foreshard.errors import InvalidInput
from foreshard.migration.bystander import require_comparable
from foreshard.migration.comparison import compare_all
from foreshard.migration.work import Work
from foreshard.postgres.digests import TableComparison, TableProgress
from foreshard.postgres.guard import Side
from foreshard.postgres.keyed_rows import KeyedRow, KeyedRows, keyed_rows
from foreshard.postgres.last_word import Key, Word
from foreshard.postgres.pair import Pair, Sides, open_pair

VALUE_CHARACTERS = 200
"""A longer value is cut where it is shown."""

KEYS_AT_ONCE = 500


@dataclass(frozen=True)
class Difference:
    """A row that differs. ``kind`` is meant from the owner's side; ``row`` is empty in a table without a key.

    ``owner``: the side that owns its key now; None where the copies disagree about that. ``columns``: those that differ
    in a changed row, in order. ``values``: by column, cut, where asked for; None for a side that lacks the row.
    """

    bucket: str
    table: str
    chunk: int
    key: str
    kind: Word
    row: Key = ()
    owner: Side | None = None
    columns: tuple[str, ...] = ()
    values: Sides[dict[str, str | None] | None] | None = None


@dataclass(frozen=True)
class Differences:
    """What a comparison found. ``undecided``: rows that were written too often to be judged."""

    tables: int
    compared_rows: int
    rows: tuple[Difference, ...]
    undecided: int
    undecided_tables: tuple[str, ...] = ()
    fence_ms: float = field(default=0.0, compare=False)

    @property
    def equal(self) -> bool:
        """Whether every row was found equal."""
        return not self.rows and not self.undecided


def find(
    work: Work,
    *,
    buckets: Collection[str] = (),
    tables: Collection[str] = (),
    values: bool = False,
    progress: Callable[[TableProgress], None] | None = None,
) -> Differences:
    """Compare now, while both sides are written; nothing is changed. Empty ``buckets`` or ``tables``: all.

    ``values``: read the rows' values too. Rows that have become equal since they were judged are left out.

    Raises:
        InvalidInput: a bucket or a table that the migration does not move.
        IllegalTransition, FailedOver, StreamBroken, ShardUnavailable: as `bystander.require_comparable`.
        FlipFailed: a stream does not apply.
    """
    refuse_unknown("--bucket", buckets, work.buckets)
    refuse_unknown("--table", tables, work.tables)
    require_comparable(work)
    compared = compare_all(work, progress, buckets=buckets, tables=tables)
    with open_pair(work.source.dsn, work.target.dsn) as pair:
        rows = [row for one in compared for row in _looked_at(work, pair, one, values)]
    return Differences(
        tables=len(compared),
        compared_rows=sum(one.rows for one in compared),
        rows=tuple(rows),
        undecided=sum(one.undecided for one in compared),
        undecided_tables=tuple(f"{one.bucket}.{one.table}" for one in compared if one.undecided),
        fence_ms=sum(one.fence_ms for one in compared),
    )


def refuse_unknown(field_name: str, given: Collection[str], known: Collection[str]) -> None:
    """Names that the migration does not know.

    Raises:
        InvalidInput: names the first one, and those that there are.
    """
    for name in given:
        if name not in known:
            raise InvalidInput(
                field_name,
                f"{name!r} is not of this migration.",
                remedy=f"There are: {', '.join(sorted(known))}.",
            )


def owner_of(slots: Collection[int], bound: int) -> Side | None:
    """Who owns a row whose copies are in these slots; None where the copies are in slots of both sides."""
    owners = {Side.TARGET if slot < bound else Side.SOURCE for slot in slots}
    return owners.pop() if len(owners) == 1 else None


def _looked_at(work: Work, pair: Pair, compared: TableComparison, values: bool) -> Sequence[Difference]:
    """The table's differences with their owners, columns and values, as they are now."""
    if not compared.differences:
        return []
    found = keyed_rows(
        Sides(pair.source, pair.target),
        compared.bucket,
        compared.table,
        work.tables[compared.table],
        work.key_type,
    )
    rows: list[Difference] = []
    for start in range(0, len(compared.differences), KEYS_AT_ONCE):
        batch = compared.differences[start : start + KEYS_AT_ONCE]
        plain = [
            Difference(compared.bucket, compared.table, one.chunk, one.key, one.kind, one.row)
            for one in batch
        ]
        if not found.keyed:  # they are named by their contents: there is nothing to look up
            rows += [replace(one, row=()) for one in plain]
            continue
        keys = [one.row for one in batch]
        seen = pair.both(partial(found.read, keys=keys, cut=VALUE_CHARACTERS if values else None))
        bound = work.bounds().target or 0
        rows += [
            row
            for one in plain
            if (row := _described(one, found, seen.source.get(one.row), seen.target.get(one.row), bound))
        ]
    return rows


def _described(
    one: Difference, table: KeyedRows, source: KeyedRow | None, target: KeyedRow | None, bound: int
) -> Difference | None:
    both = [row for row in (source, target) if row is not None]
    if not both or (source is not None and target is not None and source.digests == target.digests):
        return None
    columns: tuple[str, ...] = ()
    if source is not None and target is not None:
        columns = tuple(
            name
            for name, ours, theirs in zip(table.columns, source.digests, target.digests, strict=True)
            if ours != theirs
        )
    values = Sides(_values(table, source), _values(table, target))
    return replace(
        one,
        owner=owner_of([row.slot for row in both], bound),
        columns=columns,
        values=values if values.source is not None or values.target is not None else None,
    )


def _values(table: KeyedRows, row: KeyedRow | None) -> dict[str, str | None] | None:
    if row is None or row.values is None:
        return None
    return dict(zip(table.columns, row.values, strict=True))
