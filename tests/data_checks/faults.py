"""Faults of the target's copy, one each: how it comes in, how it goes, and what the gate must say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from data_checks.verdict import Verdict
from foreshard.fleet.grants import APPLICATION

Said = tuple[str, str]
"""Table of the evidence, and the check in its suite."""

SAME = "the same rows on both sides"
AS_MANY = "as many rows on both sides"
NONE_DIFFERS = ("differences", "no row differs")
ALIKE = "defined alike on both sides"


@dataclass(frozen=True)
class Fault:
    """``said``: what the gate must say, all of it; ``warned``: the same of warnings.

    The last of them is the fault's own: it names it by ``words``. ``inject``, ``repair``: SQL at the target.
    """

    name: str
    inject: str
    repair: str
    said: tuple[Said, ...]
    words: str
    warned: tuple[Said, ...] = ()

    @property
    def of_rows(self) -> bool:
        """Whether rows differ."""
        return NONE_DIFFERS in self.said

    def missed(self, verdict: Verdict) -> str:
        """What the verdict on this fault alone lacks or has too much; empty if it says exactly this."""
        if verdict.evaluated != verdict.expected:
            return f"{verdict.evaluated} of {verdict.expected} expectations were evaluated: {verdict.failed}"
        if verdict.passed != (not self.said):
            return "passed" if verdict.passed else "failed"
        for wanted, findings in ((self.said, verdict.failed), (self.warned, verdict.warnings)):
            got = sorted((finding.table, finding.what.partition(":")[0]) for finding in findings)
            if got != sorted(wanted):
                return f"said {findings}, not {wanted}"
        named = not (self.said or self.warned) or self.named(verdict)
        return "" if named else f"nothing names {self.words}: {verdict.failed or verdict.warnings}"

    def named(self, verdict: Verdict) -> bool:
        """Whether the finding that is this fault's own names it, whatever else was found."""
        table, check = (*self.said, *self.warned)[-1]
        return any(
            finding.table == table and finding.what.startswith(f"{check}: ") and self.words in finding.what
            for finding in (*verdict.failed, *verdict.warnings)
        )


def inject(conn: psycopg.Connection[Any], faults: Sequence[Fault]) -> None:
    """Let them in, through `tests.unseen_session`."""
    for fault in faults:
        conn.execute(fault.inject.encode())


def repair(conn: psycopg.Connection[Any], faults: Sequence[Fault]) -> None:
    """As it was."""
    for fault in faults:
        conn.execute(fault.repair.encode())


def faults_of(rows: int) -> list[Fault]:
    """All of them, of a pair with so many entries (at least 1000)."""
    return [*_of_entries(rows), _DUPLICATE, *_OF_DEFINITIONS, _lagging_sequence(rows), *_WARNED_OF]


def _of_entries(rows: int) -> list[Fault]:
    """In rows with even ids, which are the source's: the other side has what the owner has not, or the reverse."""
    middle = rows // 200 * 100  # the fares of hundreds end in .00
    changed = [
        ("one changed value in one row", "amount = amount + 0.01", middle),
        ("NULL for an empty string", "note = NULL", next(n for n in range(middle + 20, rows) if n % 6 == 0)),
        ("1.0 for 1.00 (numeric)", "fare = round(fare, 1)", middle + 100),
        ("a float's last bit", "load = 0.20000000000000004", middle + 32),
        ("a changed enum value", "mood = 'lost'", middle + 34),
        ("a timestamptz shifted by an hour", "at = at + interval '1 hour'", middle + 36),
        ("a timestamp shifted by an hour", "local = local + interval '1 hour'", middle + 38),
    ]
    missing, ghost = middle + 40, 10 * rows
    return [
        *(_changed(name, assignment, row) for name, assignment, row in changed),
        Fault(
            "a missing row",
            f"{_keep(missing)}; DELETE FROM b0000.entries WHERE id = {missing}",
            f"INSERT INTO b0000.entries SELECT * FROM intact_{missing}; DROP TABLE intact_{missing}",
            _FEWER_OR_MORE,
            f"item=entries id={missing}, kind=missing",
        ),
        Fault(
            "a ghost row",
            f"INSERT INTO b0000.entries (id, account, amount)"
            f" SELECT {ghost}, account, 1 FROM b0000.entries WHERE id = {missing + 2}",
            f"DELETE FROM b0000.entries WHERE id = {ghost}",
            _FEWER_OR_MORE,
            f"item=entries id={ghost}, kind=ghost",
        ),
    ]


def _changed(name: str, assignment: str, row: int) -> Fault:
    return Fault(
        name,
        f"{_keep(row)}; UPDATE b0000.entries SET {assignment} WHERE id = {row}",
        f"DELETE FROM b0000.entries WHERE id = {row};"
        f" INSERT INTO b0000.entries SELECT * FROM intact_{row}; DROP TABLE intact_{row}",
        (("rows_entries", SAME), NONE_DIFFERS),
        f"item=entries id={row}, kind=changed",
    )


def _keep(row: int) -> str:
    return f"CREATE TEMP TABLE intact_{row} AS SELECT * FROM b0000.entries WHERE id = {row}"


_FEWER_OR_MORE = (("rows_entries", AS_MANY), ("rows_entries", SAME), NONE_DIFFERS)

_DUPLICATE = Fault(
    "a duplicated row in a table without a key",
    "INSERT INTO b0000.remarks SELECT * FROM b0000.remarks WHERE remark = 'remark 8'",
    "DELETE FROM b0000.remarks WHERE ctid = (SELECT max(ctid) FROM b0000.remarks WHERE remark = 'remark 8')",
    (("rows_remarks", AS_MANY), ("rows_remarks", SAME), NONE_DIFFERS),
    ": 1 on the source, 2 on the target, kind=ghost",
)


def _of_definition(name: str, inject: str, repair: str, section: str, item: str) -> Fault:
    return Fault(name, inject, repair, ((f"schema_{section}", ALIKE),), f"item={item},")


def _of_enum(name: str, inject: str, repair: str, kind: str) -> Fault:
    """Its type says so, and each column of that type."""
    said = (("schema_columns", ALIKE), ("schema_types", ALIKE))
    return Fault(name, inject, repair, said, f"item={kind},")


_OF_DEFINITIONS = [
    _of_enum(
        "an enum type with one label more",
        "ALTER TYPE b0000.kind ADD VALUE 'robot'",
        "DELETE FROM pg_enum WHERE enumtypid = 'b0000.kind'::regtype AND enumlabel = 'robot'",
        "kind",
    ),
    _of_enum(
        "an enum type with a label renamed",
        "ALTER TYPE b0000.standing RENAME VALUE 'unknown' TO 'unclear'",
        "ALTER TYPE b0000.standing RENAME VALUE 'unclear' TO 'unknown'",
        "standing",
    ),
    _of_enum(
        "an enum type in another order",
        "UPDATE pg_enum SET enumsortorder = 0.5 WHERE enumtypid = 'b0000.tier'::regtype AND enumlabel = 'high'",
        "UPDATE pg_enum SET enumsortorder = 2 WHERE enumtypid = 'b0000.tier'::regtype AND enumlabel = 'high'",
        "tier",
    ),
    _of_definition(
        "another collation",
        'ALTER TABLE b0000.accounts ALTER name TYPE text COLLATE "POSIX"',
        'ALTER TABLE b0000.accounts ALTER name TYPE text COLLATE "default"',
        "columns",
        "accounts.name",
    ),
    _of_definition(
        "another default",
        "ALTER TABLE b0000.accounts ALTER balance SET DEFAULT 1",
        "ALTER TABLE b0000.accounts ALTER balance SET DEFAULT 0",
        "columns",
        "accounts.balance",
    ),
    _of_definition(
        "a dropped CHECK",
        "ALTER TABLE b0000.accounts DROP CONSTRAINT solvent",
        "ALTER TABLE b0000.accounts ADD CONSTRAINT solvent CHECK (balance > -1000)",
        "constraints",
        "accounts.solvent",
    ),
    _of_definition(
        "a constraint that is NOT VALID",
        "ALTER TABLE b0000.remarks DROP CONSTRAINT of_account; ALTER TABLE b0000.remarks"
        " ADD CONSTRAINT of_account FOREIGN KEY (account) REFERENCES b0000.accounts NOT VALID",
        "ALTER TABLE b0000.remarks VALIDATE CONSTRAINT of_account",
        "constraints",
        "remarks.of_account",
    ),
    _of_definition(
        "an INVALID index",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'b0000.entries_account'::regclass",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'b0000.entries_account'::regclass",
        "indexes",
        "entries.entries_account",
    ),
    _of_definition(
        "a disabled trigger",
        "ALTER TABLE b0000.entries DISABLE TRIGGER stamp",
        "ALTER TABLE b0000.entries ENABLE TRIGGER stamp",
        "triggers",
        "entries.stamp",
    ),
]


def _lagging_sequence(rows: int) -> Fault:
    """At the source's own position: both would give out the same values."""
    return Fault(
        "a lagging sequence",
        f"CREATE TEMP TABLE intact_sequence AS SELECT last_value FROM b0000.entries_id_seq;"
        f" SELECT setval('b0000.entries_id_seq', {rows})",
        "SELECT setval('b0000.entries_id_seq', (SELECT last_value FROM intact_sequence)); DROP TABLE intact_sequence",
        (("sequences", "the target's sequences are ahead of the source's"),),
        "bucket=b0000, item=entries_id_seq",
    )


_WARNED_OF = [
    Fault(
        "a missing comment",
        "COMMENT ON COLUMN b0000.entries.fare IS NULL",
        "COMMENT ON COLUMN b0000.entries.fare IS 'in dollars'",
        (),
        "item=table column b0000.entries.fare,",
        warned=(("schema_comments", ALIKE),),
    ),
    Fault(
        "a missing grant",
        f"REVOKE DELETE ON b0000.accounts FROM {APPLICATION}",
        f"GRANT DELETE ON b0000.accounts TO {APPLICATION}",
        (),
        "item=accounts,",
        warned=(("schema_privileges", ALIKE),),
    ),
]
