-- The server-side steps that move ownership, and the one that drops a copy. Installed with shard.sql.
-- A flip has a number, handed out by the control database, that only grows. Each side keeps the last one it
-- saw, so a delayed runner, or one with an old journal, is refused (FS004) instead of giving a key two owners.
-- Sequences are set inside transactions but do not roll back; each function is therefore safe to run again
-- with the same arguments after an error whose outcome is unknown.

-- Nobody opens or closes on a server that was failed over and not closed again since.
CREATE OR REPLACE FUNCTION foreshard.require_timeline(in_migration text, known text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF known IS DISTINCT FROM foreshard.timeline() THEN
        RAISE EXCEPTION 'this server was failed over or restored: % is to be settled first', in_migration
            USING ERRCODE = 'FS005';
    END IF;
END $$;

-- Close: this side gives up ownership; waits for every writer that holds the fence lock. The caller's session has
-- synchronous_commit on (a function's own SET ends before the COMMIT).
-- The marker is written under the lock: whoever sees it applied has every write this side ever accepted.
-- opens: the other side opens as soon as it applies the marker (foreshard.marker_applied).
CREATE OR REPLACE FUNCTION foreshard.close(in_migration text, flip bigint, new_bound int, marker uuid, opens boolean)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here  foreshard.sides;
    state bigint;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    IF flip < here.flip_no THEN
        RAISE EXCEPTION 'flip % of % is stale: this side has seen flip %', flip, in_migration, here.flip_no
            USING ERRCODE = 'FS004';
    END IF;
    PERFORM foreshard.require_timeline(in_migration, here.timeline);
    PERFORM pg_advisory_xact_lock(1179862852, here.migration_no);
    state := pg_sequence_last_value(here.bound_sequence::regclass);
    -- A close moves the bound with its number; the number alone is the promise never to close this flip (cancel).
    IF flip = here.flip_no AND new_bound <> state % 2048 THEN
        RAISE EXCEPTION 'flip % of % was cancelled here', flip, in_migration USING ERRCODE = 'FS004';
    END IF;
    IF NOT (CASE here.side WHEN 'source' THEN new_bound >= state % 2048 ELSE new_bound <= state % 2048 END) THEN
        RAISE EXCEPTION 'closing % on the % to % would take ownership, not give it', in_migration, here.side,
            new_bound USING ERRCODE = 'FS004';
    END IF;
    PERFORM setval(here.bound_sequence::regclass, state - state % 2048 + new_bound);
    UPDATE foreshard.sides s SET flip_no = flip WHERE s.migration = in_migration;
    EXECUTE format('INSERT INTO %I.marker (id, opens_flip, bound) VALUES ($1, $2, $3)', in_migration)
        USING marker, CASE WHEN opens THEN flip END, new_bound;
END $$;

-- All that a close does, for the bound that stands, undone again: the first call of a session parses, plans and fills
-- caches. A sequence is not undone, but it is set to the value that it has, under the fence lock.
CREATE OR REPLACE FUNCTION foreshard.rehearse_close(in_migration text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here foreshard.sides;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    PERFORM foreshard.close(in_migration, here.flip_no,
        (pg_sequence_last_value(here.bound_sequence::regclass) % 2048)::int, gen_random_uuid(), false);
    RAISE EXCEPTION 'rehearsed' USING ERRCODE = 'FS006';
EXCEPTION WHEN SQLSTATE 'FS006' THEN
    NULL;
END $$;

-- Open: this side takes ownership. To be called only after the closing side's marker was applied here.
-- The mirror row changes before the sequence: in between, writers are refused (40001), never let through.
CREATE OR REPLACE FUNCTION foreshard.open(in_migration text, flip bigint, new_bound int)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here  foreshard.sides;
    state bigint;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    IF flip < here.flip_no OR (flip = here.flip_no AND here.opened_flip <> flip) THEN
        RAISE EXCEPTION 'flip % of % is stale or was cancelled here (last: %)', flip, in_migration, here.flip_no
            USING ERRCODE = 'FS004';
    END IF;
    PERFORM foreshard.require_timeline(in_migration, here.timeline);
    state := pg_sequence_last_value(here.bound_sequence::regclass);
    IF NOT (CASE here.side WHEN 'source' THEN new_bound <= state % 2048 ELSE new_bound >= state % 2048 END) THEN
        RAISE EXCEPTION 'opening % on the % to % would give ownership, not take it', in_migration, here.side,
            new_bound USING ERRCODE = 'FS004';
    END IF;
    UPDATE foreshard.sides s SET flip_no = flip, opened_flip = flip WHERE s.migration = in_migration;
    PERFORM setval(here.bound_sequence::regclass, flip * 2048 + new_bound);
END $$;

-- Cancel: this side promises never to open this flip, nor to close for it unless it has. False: it has opened
-- already, go on with it.
CREATE OR REPLACE FUNCTION foreshard.cancel(in_migration text, flip bigint)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here foreshard.sides;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    -- The sequence decides: an open whose transaction rolled back has opened all the same.
    IF pg_sequence_last_value(here.bound_sequence::regclass) / 2048 >= flip THEN
        RETURN false;
    END IF;
    UPDATE foreshard.sides s SET flip_no = greatest(flip_no, flip) WHERE s.migration = in_migration;
    RETURN true;
END $$;

-- Close again after a failover or restore: this server may have forgotten a close. The bound moves to the other
-- side's, so that no key has two owners, and counts from now on. To be called after `cancel` on the other side, so
-- that no late open changes other_bound meanwhile. seen: the timeline of the server that the caller looked at; a late
-- caller may have reached the next one, which has forgotten something else. Returns the bound.
CREATE OR REPLACE FUNCTION foreshard.adopt_timeline(in_migration text, other_bound int, seen text)
RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here   foreshard.sides;
    state  bigint;
    closed int;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    PERFORM pg_advisory_xact_lock(1179862852, here.migration_no);
    state := pg_sequence_last_value(here.bound_sequence::regclass);
    IF seen IS DISTINCT FROM foreshard.timeline() THEN
        RAISE EXCEPTION 'this server was failed over once more' USING ERRCODE = 'FS005';
    END IF;
    IF here.timeline = seen THEN
        RETURN state % 2048;  -- done by another runner; other_bound may be from before its flips
    END IF;
    closed := CASE here.side WHEN 'source' THEN greatest(state % 2048, other_bound)
                             ELSE least(state % 2048, other_bound) END;
    PERFORM setval(here.bound_sequence::regclass, state - state % 2048 + closed);
    UPDATE foreshard.sides s SET timeline = seen WHERE s.migration = in_migration;
    RETURN closed;
END $$;

-- Drop this side's copy of all buckets of the migration, if the bound says that this side owns nothing.
CREATE OR REPLACE FUNCTION foreshard.drop_copy(in_migration text, expected_bound int)
RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    here    foreshard.sides;
    bound   int;
    bucket  text;
    dropped int := 0;
BEGIN
    SELECT * INTO STRICT here FROM foreshard.sides s WHERE s.migration = in_migration FOR UPDATE;
    PERFORM pg_advisory_xact_lock(1179862852, here.migration_no);
    bound := pg_sequence_last_value(here.bound_sequence::regclass) % 2048;
    IF bound <> expected_bound OR bound <> (CASE here.side WHEN 'source' THEN 1024 ELSE 0 END) THEN
        RAISE EXCEPTION 'the % still owns keys of % (bound %, expected %): its copy is not dropped', here.side,
            in_migration, bound, expected_bound USING ERRCODE = 'FS004';
    END IF;
    -- By constraint: the column's name is a variable's here.
    INSERT INTO foreshard.departed (bucket, migration_no, side, peer, bound, flip_no)
    SELECT m.bucket, here.migration_no, here.side, here.peer, drop_copy.expected_bound, here.flip_no
      FROM foreshard.moving m WHERE m.migration = in_migration
        ON CONFLICT ON CONSTRAINT departed_pkey DO UPDATE
       SET migration_no = excluded.migration_no, side = excluded.side, peer = excluded.peer, bound = excluded.bound,
           flip_no = excluded.flip_no, departed_at = excluded.departed_at;
    FOR bucket IN SELECT m.bucket FROM foreshard.moving m WHERE m.migration = in_migration ORDER BY 1 LOOP
        EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', bucket);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Guards, marker and rows of the migration on this shard. The bound stays: a statement whose snapshot still shows
-- the rows may be waiting for the fence lock, and reads the bound as soon as it has it.
CREATE OR REPLACE FUNCTION foreshard.retire(in_migration text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    guard regprocedure;
BEGIN
    PERFORM pg_advisory_xact_lock(1179862852, s.migration_no) FROM foreshard.sides s WHERE s.migration = in_migration;
    FOR guard IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                  WHERE n.nspname = in_migration LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', guard);
    END LOOP;
    EXECUTE format('DROP TABLE IF EXISTS %I.marker', in_migration);
    DELETE FROM foreshard.moving m WHERE m.migration = in_migration;
    DELETE FROM foreshard.sides s WHERE s.migration = in_migration;
END $$;

REVOKE ALL ON FUNCTION foreshard.require_timeline, foreshard.rehearse_close, foreshard.close, foreshard.open,
    foreshard.cancel, foreshard.adopt_timeline, foreshard.drop_copy, foreshard.retire FROM PUBLIC;
