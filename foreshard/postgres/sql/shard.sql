-- The permanent part on every shard, installed as the operator role into its schema `foreshard`.
-- Idempotent: every statement may run again, also while migrations are under way.

-- One row per migration that touches this shard.
CREATE TABLE IF NOT EXISTS foreshard.sides (
    migration      text PRIMARY KEY,              -- the migration's schema name on both shards
    migration_no   int NOT NULL,                  -- its number; second half of the fence lock too
    side           text NOT NULL CHECK (side IN ('source', 'target')),
    peer           text NOT NULL,                 -- name of the other shard, told to whom we refuse
    bound_sequence oid NOT NULL,                  -- its value is opened_flip * 2048 + bound; not MVCC
    flip_no        bigint NOT NULL DEFAULT 0,     -- the last flip this side took part in or refuses
    opened_flip    bigint NOT NULL DEFAULT 0,     -- the last flip that opened keys here; MVCC on purpose
    system_id      bigint NOT NULL,               -- the cluster and the timeline on which the bound is true:
    timeline       text NOT NULL                  -- another one means a failover or a restore, and nobody owns keys
);

-- The timeline that this server writes. 0.4 us; it changes with a promotion or a restore, not with a restart.
CREATE OR REPLACE FUNCTION foreshard.timeline() RETURNS text LANGUAGE sql VOLATILE
RETURN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);

-- The buckets that are in migration on this shard.
CREATE TABLE IF NOT EXISTS foreshard.moving (
    bucket    text PRIMARY KEY,
    migration text NOT NULL REFERENCES foreshard.sides
);

-- Buckets that moved away from here and were dropped, and how to refuse them: a client whose map is old learns where
-- they went, also while the control database is away.
CREATE TABLE IF NOT EXISTS foreshard.departed (
    bucket       text PRIMARY KEY,
    migration_no int NOT NULL,
    side         text NOT NULL CHECK (side IN ('source', 'target')),
    peer         text NOT NULL,
    bound        int NOT NULL,
    flip_no      bigint NOT NULL,
    departed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- As require_owner refuses a key that the other side owns. A bucket that was never here is nobody's to refuse.
CREATE OR REPLACE FUNCTION foreshard.refuse_departed(in_bucket text, slot int)
RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    gone record;
BEGIN
    SELECT * INTO gone FROM foreshard.departed d WHERE d.bucket = in_bucket;
    IF FOUND THEN
        RAISE EXCEPTION 'bucket % has moved to %', in_bucket, gone.peer
            USING ERRCODE = 'FS001',
                  DETAIL = json_build_object('migration', gone.migration_no, 'bucket', in_bucket, 'slot', slot,
                                             'bound', gone.bound, 'flip', gone.flip_no, 'side', gone.side,
                                             'peer', gone.peer)::text,
                  HINT = 'Ask the routing map again.';
    END IF;
END $$;
REVOKE ALL ON FUNCTION foreshard.refuse_departed FROM PUBLIC;

-- Refuse unless this shard owns both slots (an INSERT or DELETE passes its one slot twice).
-- `must_move`: the caller knows that the bucket is in migration (a guard fired), so no row means that the
-- snapshot is older than the migration.
--
-- Order matters: first the shared fence lock (waits for a flip that is closing), then the sequence (not MVCC:
-- the newest bound even under an old REPEATABLE READ snapshot), then the mirror row as the caller's snapshot
-- sees it. STABLE on purpose: a VOLATILE function would take a new snapshot and hide that the caller's is old.
-- Rights and search_path are its callers': guards and assert_owner are SECURITY DEFINER with a pinned search_path.
-- pg_temp stands last in it: not named it would come first, and the application's own type there would be ours.
CREATE OR REPLACE FUNCTION foreshard.require_owner(in_bucket text, slot int, other_slot int, must_move boolean)
RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    here       record;
    state      bigint;
    bound      int;
    owns       boolean;
    owns_other boolean;
BEGIN
    SELECT s.* INTO here FROM foreshard.moving m JOIN foreshard.sides s USING (migration)
     WHERE m.bucket = in_bucket;
    IF NOT FOUND THEN
        IF must_move THEN
            RAISE EXCEPTION 'this snapshot is older than the migration of bucket %', in_bucket
                USING ERRCODE = '40001', HINT = 'Start the transaction again.';
        END IF;
        IF to_regnamespace(quote_ident(in_bucket)) IS NULL THEN
            PERFORM foreshard.refuse_departed(in_bucket, slot);
        END IF;
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1179862852, here.migration_no);
    -- A standby that was promoted may lack the last close: what it says of ownership counts again after
    -- foreshard.adopt_timeline.
    IF here.timeline IS DISTINCT FROM foreshard.timeline() THEN
        RAISE EXCEPTION 'this server was failed over or restored while bucket % moves', in_bucket
            USING ERRCODE = 'FS005',
                  DETAIL = json_build_object('migration', here.migration_no, 'bucket', in_bucket,
                                             'timeline', here.timeline)::text,
                  HINT = 'Foreshard closes again here before it serves; try again.';
    END IF;
    state := pg_sequence_last_value(here.bound_sequence::regclass);
    bound := state % 2048;
    IF here.side = 'source' THEN
        owns := slot >= bound;
        owns_other := other_slot >= bound;
    ELSE
        owns := slot < bound;
        owns_other := other_slot < bound;
    END IF;
    -- IS NOT TRUE, not NOT: whatever is NULL here (a NULL key, an unreadable sequence) is refused.
    IF (owns AND owns_other) IS NOT TRUE THEN
        RAISE EXCEPTION '%', CASE WHEN (owns OR owns_other) IS TRUE
                THEN format('the statement spans two owners of bucket %s', in_bucket)
                ELSE format('bucket %s slot %s is not owned here', in_bucket, slot) END
            USING ERRCODE = CASE WHEN (owns OR owns_other) IS TRUE THEN 'FS002' ELSE 'FS001' END,
                  DETAIL = json_build_object('migration', here.migration_no, 'bucket', in_bucket, 'slot', slot,
                                             'bound', bound, 'flip', here.flip_no, 'side', here.side,
                                             'peer', here.peer)::text,
                  HINT = 'Foreshard is moving this bucket: ask the routing map again.';
    END IF;
    IF (here.opened_flip = state / 2048) IS NOT TRUE THEN
        RAISE EXCEPTION 'this snapshot is older than the flip that opened bucket % here', in_bucket
            USING ERRCODE = '40001', HINT = 'Start the transaction again.';
    END IF;
END $$;
REVOKE ALL ON FUNCTION foreshard.require_owner FROM PUBLIC;

-- First statement of every write transaction. The row guard alone is not enough: a transaction may read on a
-- side that does not own the key yet, and act on what it read. PL/pgSQL keeps its plans, an SQL function does not.
-- Of a bucket at rest nothing is hashed and nothing more is asked; the snapshot is that of require_owner.
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key text)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (hashtextextended(key, {seed}) & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key smallint)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (hashint2extended(key, {seed}) & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key int)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (hashint4extended(key, {seed}) & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key bigint)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (hashint8extended(key, {seed}) & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key uuid)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (uuid_hash_extended(key, {seed}) & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION foreshard.assert_owner(bucket text, key bytea)
RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot int;
BEGIN
    IF EXISTS (SELECT FROM foreshard.moving m WHERE m.bucket = assert_owner.bucket)
       OR to_regnamespace(quote_ident(bucket)) IS NULL THEN
        slot := (CASE WHEN key IS NOT NULL THEN hash_record_extended(ROW(key), {seed}) END & 1023)::int;
        PERFORM foreshard.require_owner(bucket, slot, slot, false);
    END IF;
END $$;

-- ENABLE REPLICA trigger on a migration's marker table: everything before the marker is applied here, so a
-- marker that says so opens its flip; a runner that died after the close leaves no key without an owner.
CREATE OR REPLACE FUNCTION foreshard.marker_applied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.opens_flip IS NOT NULL THEN
        BEGIN
            PERFORM foreshard.open(TG_TABLE_SCHEMA, NEW.opens_flip, NEW.bound);
        EXCEPTION WHEN SQLSTATE 'FS004' OR SQLSTATE 'FS005' THEN
            NULL;  -- cancelled or failed over here: the runner sees it and gives the keys back. Applying must go on.
        END;
    END IF;
    PERFORM pg_notify(TG_TABLE_SCHEMA, NEW.id::text);
    RETURN NULL;
END $$;
