"""Hazards around a bucket: what it is tied to, who else is there, and what the servers are."""

from __future__ import annotations

from foreshard.fleet.grants import APPLICATION, OPERATOR, OWNER
from tests.integration.hazard_case import WARNS, Case

AROUND_BUCKETS: dict[str, Case] = {
    # -- ties to the outside -----------------------------------------------------------------------------
    "a foreign key out of the bucket": Case(
        "{b}.entry: abroad: refers to a table outside its bucket",
        source=(
            "CREATE TABLE public.currency (code text PRIMARY KEY)",
            "ALTER TABLE {b}.entry ADD CONSTRAINT abroad FOREIGN KEY (note) REFERENCES public.currency",
        ),
    ),
    "a foreign key into the bucket": Case(
        "constraint bill_owner_fkey on table public.bill: depends on",
        source=("CREATE TABLE public.bill (owner text REFERENCES {b}.account)",),
    ),
    "a view outside the bucket on its tables": Case(
        "view public.report: depends on table {b}.account and would be dropped",
        source=("CREATE VIEW public.report AS SELECT balance FROM {b}.account",),
    ),
    "a view in the bucket on other tables": Case(
        "table public.rate: is not on target; rule _RETURN on view {b}.rates needs it",
        source=("CREATE TABLE public.rate ()", "CREATE VIEW {b}.rates AS SELECT count(*) FROM public.rate"),
    ),
    "a type that the target lacks": Case(
        "type public.mood: is not on target; table {b}.entry needs it",
        source=("CREATE TYPE public.mood AS ENUM ('fine')", "ALTER TABLE {b}.entry ADD moods public.mood[]"),
    ),
    "a type that the target defines otherwise": Case(
        "type public.size: is defined otherwise on target",
        source=(
            "CREATE TYPE public.size AS ENUM ('small', 'tall')",
            "ALTER TABLE {b}.entry ADD size public.size",
        ),
        target=("CREATE TYPE public.size AS ENUM ('small')",),
    ),
    "a default's function that the target lacks": Case(
        "function public.next_note(): is not on target; default value for column note of table {b}.entry needs it",
        source=(
            "CREATE FUNCTION public.next_note() RETURNS text RETURN 'n'",
            "ALTER TABLE {b}.entry ALTER note SET DEFAULT public.next_note()",
        ),
    ),
    "a policy's function that the target lacks": Case(
        "function public.may_see(): is not on target; policy own on table {b}.account needs it",
        source=(
            "CREATE FUNCTION public.may_see() RETURNS bool RETURN true",
            "CREATE POLICY own ON {b}.account USING (public.may_see())",
        ),
    ),
    "a function that the target defines otherwise": Case(
        "function public.rank(integer): is defined otherwise on target",
        WARNS,
        source=(
            "CREATE FUNCTION public.rank(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
            "ALTER TABLE {b}.account ADD CHECK (public.rank(balance) IS NOT NULL)",
        ),
        target=("CREATE FUNCTION public.rank(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -$1'",),
    ),
    "a collation that the target lacks": Case(
        "collation public.by_bytes: is not on target; table {b}.entry needs it",
        source=(
            'CREATE COLLATION public.by_bytes FROM "C"',
            "ALTER TABLE {b}.entry ALTER note TYPE text COLLATE public.by_bytes",
        ),
    ),
    "a collation that the target has otherwise": Case(
        "collation public.by_place: is defined otherwise on target",
        WARNS,
        source=(
            "CREATE COLLATION public.by_place (locale = 'C')",
            "ALTER TABLE {b}.entry ALTER note TYPE text COLLATE public.by_place",
        ),
        target=("CREATE COLLATION public.by_place (locale = 'POSIX')",),
    ),
    "an extension that the target lacks": Case(
        "extension citext: is not on target; table {b}.entry needs it",
        source=("CREATE EXTENSION citext SCHEMA public", "ALTER TABLE {b}.entry ADD word public.citext"),
    ),
    "an extension's operator class that the target lacks": Case(
        "extension pg_trgm: is not on target; index {b}.by_note needs it",
        source=(
            "CREATE EXTENSION pg_trgm SCHEMA public",
            "CREATE INDEX by_note ON {b}.entry USING gin (note public.gin_trgm_ops)",
        ),
    ),
    "an extension of another version": Case(
        "extension hstore: has version 1.8 on target and 1.4 on the source",
        WARNS,
        source=(
            "CREATE EXTENSION hstore SCHEMA public VERSION '1.4'",
            "ALTER TABLE {b}.entry ADD more public.hstore",
        ),
        target=("CREATE EXTENSION hstore SCHEMA public VERSION '1.8'",),
    ),
    "an extension in another schema": Case(
        "extension ltree: is in schema elsewhere on target and in public on the source",
        source=("CREATE EXTENSION ltree SCHEMA public", "ALTER TABLE {b}.entry ADD path public.ltree"),
        target=("CREATE SCHEMA elsewhere", "CREATE EXTENSION ltree SCHEMA elsewhere"),
    ),
    "an extension inside the bucket": Case(
        "extension seg: is installed in {b}", source=("CREATE EXTENSION seg SCHEMA {b}",)
    ),
    "a role that the target lacks": Case(
        "role clerk: is not on target; it has rights on, or a policy for, table {b}.entry",
        source=("CREATE ROLE clerk", "GRANT SELECT ON {b}.entry TO clerk"),
    ),
    "a role of default privileges that the target lacks": Case(
        "role auditor: is not on target",
        source=(
            "CREATE ROLE auditor",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {{b}} GRANT SELECT ON TABLES TO auditor",
        ),
    ),
    "an owner for whom we may not act on the target": Case(
        "role partner: owns sequence {b}.entry_id_seq, and on target we may not act for it",
        source=(
            "CREATE ROLE partner",
            f"GRANT partner TO {OPERATOR} WITH INHERIT TRUE, SET TRUE",
            "ALTER TABLE {b}.entry OWNER TO partner",
        ),
        target=("CREATE ROLE partner",),
    ),
    "a tablespace that the target lacks": Case(
        "tablespace fast: is not on target; {b}.by_note is in it",
        source=(
            "SET allow_in_place_tablespaces = on",
            "CREATE TABLESPACE fast LOCATION ''",
            "CREATE INDEX by_note ON {b}.entry (note) TABLESPACE fast",
        ),
    ),
    # -- who else is there -------------------------------------------------------------------------------
    "a bucket's schema on the target": Case(
        "{b} on target: exists there already", target=("CREATE SCHEMA {b}",)
    ),
    "a table in the search path under a bucket's table's name": Case(
        f"source: shared.account: has the name of a bucket's table and is in the search path of {APPLICATION}",
        source=(
            "CREATE SCHEMA shared",
            "CREATE TABLE shared.account ()",
            f"ALTER ROLE {APPLICATION} SET search_path = other, 'shared'",
        ),
    ),
    "the same in public, the default path, on the target": Case(
        "target: public.entry: has the name of a bucket's table", target=("CREATE TABLE public.entry ()",)
    ),
    "a publication of the bucket's tables": Case(
        "source: publication capture: publishes tables that leave (1 tables)",
        WARNS,
        source=("CREATE PUBLICATION capture FOR TABLE {b}.entry",),
    ),
    "a publication for all tables of the target": Case(
        "target: publication everything: publishes all tables: its subscribers get the whole copy as inserts",
        WARNS,
        target=("CREATE PUBLICATION everything FOR ALL TABLES",),
    ),
    "a logical slot of somebody else": Case(
        "source: slot capture: reads the changes of this database (plugin pgoutput)",
        WARNS,
        source=("SELECT pg_create_logical_replication_slot('capture', 'pgoutput')",),
    ),
    "a subscription that feeds the bucket": Case(
        "subscription theirs: feeds this bucket",
        source=(
            "CREATE SUBSCRIPTION theirs CONNECTION 'host=nowhere' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE)",
            # As REFRESH would have it, if there were a publisher.
            "INSERT INTO pg_subscription_rel SELECT s.oid, '{b}.entry'::regclass, 'r', NULL"
            "  FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE subname = 'theirs' AND datname = current_database()",
        ),
    ),
    "an event trigger": Case(
        "source: event trigger watch: runs at DDL (ddl_command_end)",
        WARNS,
        source=(
            "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$",
            "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()",
        ),
    ),
    "pg_partman on the bucket's tables": Case(
        "source: partition manager partman.part_config: looks after {b}.entry",
        WARNS,
        source=(  # as that extension, which not every build has, makes it
            "CREATE SCHEMA partman",
            "CREATE TABLE partman.part_config (parent_table text PRIMARY KEY)",
            "INSERT INTO partman.part_config VALUES ('{b}.entry'), ('elsewhere.entry')",
            f"GRANT USAGE ON SCHEMA partman TO {OPERATOR}",
            f"GRANT SELECT ON partman.part_config TO {OPERATOR}",
        ),
    ),
    "pg_cron": Case(
        "source: scheduler cron.job: runs jobs in this database (pg_cron)",
        WARNS,
        source=("CREATE SCHEMA cron", "CREATE TABLE cron.job (command text)"),
    ),
    # -- the databases -----------------------------------------------------------------------------------
    "a prepared transaction": Case(
        "source: prepared transaction theirs: would hold the fence for ever",
        source=("BEGIN", "CREATE TABLE public.held ()", "PREPARE TRANSACTION 'theirs'"),
    ),
    "another default collation": Case(
        "default collation: is c C C on source and c POSIX C on target",
        WARNS,
        target=("UPDATE pg_database SET datcollate = 'POSIX' WHERE datname = current_database()",),
    ),
    "another encoding": Case(
        "encoding: is UTF8 on source and LATIN1 on target",
        target=(  # what an administrator may not, a test may
            "UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1') WHERE datname = current_database()",
        ),
    ),
    # -- what the target's server is, and what its operator may: see `ODD_SETTINGS` ------------------------
    "wal_level below logical": Case("target: wal_level: is replica"),
    "too few replication slots": Case("target: max_replication_slots: leaves 3 free of 6"),
    "too few WAL senders": Case("target: max_wal_senders: leaves 3 free of 6"),
    "too few replication workers": Case("target: max_logical_replication_workers: leaves 1 free of 2"),
    "too few background workers": Case("target: max_worker_processes: leaves 1 free of 2"),
    "no worker to copy tables": Case("target: max_sync_workers_per_subscription: is 0"),
    "less WAL kept for slots than the migration may need": Case(
        "target: max_slot_wal_keep_size: is 67 MB, less than the migration's WAL budget", WARNS
    ),
    "a default of read-only transactions": Case(
        "target: default_transaction_read_only: is on",
        target=(f"ALTER ROLE {OPERATOR} SET default_transaction_read_only = on",),
    ),
    "a role without REPLICATION": Case(
        "target: role: lacks the attribute REPLICATION", target=(f"ALTER ROLE {OPERATOR} NOREPLICATION",)
    ),
    "a role that may not subscribe": Case(
        "target: role: lacks pg_create_subscription",
        target=(f"REVOKE pg_create_subscription FROM {OPERATOR}",),
    ),
    "a role that may create nothing in the database": Case(
        "target: role: lacks CREATE on the database",
        target=(
            "DO $$BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM "
            f"{OPERATOR}, {OWNER}', current_database()); END$$",
        ),
    ),
    "a role that cannot keep secrets out of the log": Case(
        "target: role: lacks the right to keep CREATE SUBSCRIPTION out of the log",
        target=(f"REVOKE SET ON PARAMETER log_min_error_statement FROM {OPERATOR}",),
    ),
}

ODD_SETTINGS = {
    "wal_level": "replica",
    "max_replication_slots": "3",
    "max_wal_senders": "3",
    "max_logical_replication_workers": "1",
    "max_worker_processes": "2",
    "max_sync_workers_per_subscription": "0",
    "max_slot_wal_keep_size": "64MB",
}
