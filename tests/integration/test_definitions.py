"""Everything that a bucket is made of prints alike on two servers, also of two versions, and every difference shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshard.fleet.binaries import SUPPORTED
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.postgres.catalog import Definition, Section, read_definitions
from foreshard.postgres.pair import open_pair
from tests.integration import versions
from tests.integration.moving_fleet import drop_pair

BUCKET = "everything"
DEFINITION = Path(__file__).with_name("everything.sql").read_text(encoding="utf-8")
NEW_VALUE = "ALTER TYPE everything.mood ADD VALUE 'so-so' BEFORE 'happy';"


def unlike(pair: ShardPair) -> list[Definition]:
    return [one for one in _read(pair) if one.source != one.target]


def _read(pair: ShardPair) -> list[Definition]:
    with open_pair(pair.source.operator_dsn, pair.target.operator_dsn) as both:
        return read_definitions(both, BUCKET)


def _define(pair: ShardPair) -> None:
    for shard in (pair.source, pair.target):
        with shard.connect() as conn:
            # 16 uses a new value of an enum only once it is committed, and some servers know no XML.
            before, after = DEFINITION.split(NEW_VALUE)
            for part in (before, NEW_VALUE, after):
                conn.execute(part.replace(" xml,", " text,").replace("xmlparse(content '", "('").encode())


DIFFERENCES: list[tuple[Section, str, str]] = [
    # Section, object, what is done on the target alone.
    (Section.COLUMNS, "booking.tenant", 'ALTER TABLE everything.booking ALTER tenant TYPE text COLLATE "C"'),
    (Section.COLUMNS, "odd.a", "ALTER TABLE everything.odd ALTER a SET DEFAULT 3"),
    (Section.TABLES, "odd", "ALTER TABLE everything.odd SET UNLOGGED"),
    (Section.TABLES, "odd", "ALTER TABLE everything.odd ENABLE ROW LEVEL SECURITY"),
    (Section.TABLES, "odd", "ALTER TABLE everything.odd REPLICA IDENTITY FULL"),
    (Section.TABLES, "odd", "ALTER TABLE everything.odd OWNER TO foreshard"),
    (Section.TABLES, "account: policy own", "ALTER POLICY own ON everything.account WITH CHECK (false)"),
    (Section.TABLES, "account: policy own", "DROP POLICY own ON everything.account"),
    (Section.SEQUENCES, "tickets", "ALTER SEQUENCE everything.tickets CYCLE"),
    (Section.SEQUENCES, "tickets", "ALTER SEQUENCE everything.tickets INCREMENT BY -1"),
    (Section.SEQUENCES, "tickets", "ALTER SEQUENCE everything.tickets OWNED BY everything.odd.a"),
    (Section.VIEWS, "happy", "ALTER VIEW everything.happy SET (security_barrier = false)"),
    (Section.VIEWS, "names", "CREATE OR REPLACE VIEW everything.names AS SELECT tenant, mood"
     " FROM everything.account WHERE tenant <> ''"),
    (Section.TYPES, "mood", "ALTER TYPE everything.mood ADD VALUE 'angry'"),
    (Section.TYPES, "email", "ALTER DOMAIN everything.email DROP CONSTRAINT has_at"),
    (Section.TYPES, "email", "ALTER DOMAIN everything.email DROP NOT NULL"),
    (Section.TYPES, "address", "ALTER TYPE everything.address ADD ATTRIBUTE floor int"),
    (Section.TYPES, "collation plain", "ALTER COLLATION everything.plain OWNER TO foreshard"),
    (Section.ROUTINES, "folded(t text)", "CREATE OR REPLACE FUNCTION everything.folded(t text) RETURNS text"
     " IMMUTABLE PARALLEL SAFE RETURN upper(t)"),
    (Section.ROUTINES, "longest(text)", "DROP AGGREGATE everything.longest (text)"),
    (Section.STORAGE, "account", "ALTER TABLE everything.account SET (fillfactor = 90)"),
    (Section.STORAGE, "account.secret", "ALTER TABLE everything.account ALTER secret SET STORAGE MAIN"),
    (Section.STORAGE, "account.tenant", "ALTER TABLE everything.account ALTER tenant SET STATISTICS 9"),
    (Section.STORAGE, "statistics account_facts", "DROP STATISTICS everything.account_facts"),
    (Section.COMMENTS, "table everything.account", "COMMENT ON TABLE everything.account IS 'somebody'"),
    (Section.COMMENTS, "table column everything.account.old", "COMMENT ON COLUMN everything.account.old IS NULL"),
    (Section.COMMENTS, "schema everything", "COMMENT ON SCHEMA everything IS NULL"),
    (Section.COMMENTS, "index everything.account_pkey", "COMMENT ON INDEX everything.account_pkey IS NULL"),
    (Section.PRIVILEGES, "account", "REVOKE DELETE ON everything.account FROM airline_app"),
    (Section.PRIVILEGES, "account", "REVOKE GRANT OPTION FOR DELETE ON everything.account FROM airline_app"),
    (Section.PRIVILEGES, "account.mood", "REVOKE UPDATE (mood) ON everything.account FROM airline_app"),
    (Section.PRIVILEGES, "tickets", "GRANT SELECT ON SEQUENCE everything.tickets TO PUBLIC"),
    (Section.PRIVILEGES, "folded(t text)", "GRANT EXECUTE ON FUNCTION everything.folded TO PUBLIC"),
    (Section.PRIVILEGES, "type mood", "REVOKE USAGE ON TYPE everything.mood FROM PUBLIC"),
    (Section.PRIVILEGES, "schema everything", "GRANT CREATE ON SCHEMA everything TO airline_app"),
    (Section.PRIVILEGES, "default privileges of airline on r",
     "ALTER DEFAULT PRIVILEGES FOR ROLE airline IN SCHEMA everything GRANT DELETE ON TABLES TO airline_app"),
]  # fmt: skip


def test_every_difference_shows_and_nothing_else(shard_pair: ShardPair) -> None:
    _define(shard_pair)
    assert unlike(shard_pair) == []
    found = _read(shard_pair)
    assert {one.section for one in found} == set(Section)
    with shard_pair.target.connect() as conn:
        # USAGE of the schema is withheld on purpose until the target serves.
        conn.execute("REVOKE USAGE ON SCHEMA everything FROM airline_app")
        assert unlike(shard_pair) == []
    missed = []
    for section, name, statement in DIFFERENCES:
        with shard_pair.target.connect() as conn:
            conn.execute(statement.encode())
            seen = {(one.section, one.name) for one in unlike(shard_pair)}
            if (section, name) not in seen:
                missed.append((section, name, statement, sorted(seen)))
            conn.execute("DROP SCHEMA everything CASCADE")
            conn.execute(DEFINITION.encode())
    assert missed == []


@pytest.fixture
def versions_pair(servers: ThrowawayServers, request: pytest.FixtureRequest) -> Iterator[ShardPair]:
    source, target = request.param
    versions.require(source)
    versions.require(target)
    pair = ShardPair(
        servers.new_shard(f"source-{source}", source), servers.new_shard(f"target-{target}", target)
    )
    yield pair
    drop_pair(servers, pair)


@pytest.mark.slow
@pytest.mark.parametrize(
    "versions_pair",
    [pair for pair in itertools.product(SUPPORTED, SUPPORTED) if pair[0] < pair[1]],
    indirect=True,
    ids=lambda pair: f"{pair[0]}-and-{pair[1]}",
)
def test_two_versions_print_alike(versions_pair: ShardPair) -> None:
    _define(versions_pair)
    assert unlike(versions_pair) == []
