-- What shadow reads need to tell lag from a mismatch, on every shard, after shard.sql. Idempotent.
-- SECURITY DEFINER: who repeats reads may write nothing. EXECUTE is given to the fleet's shadow role alone.

-- Place a marker of the migration that moves this bucket: what is committed here now was applied on the other side
-- when it is there. NULL: that migration does not move the bucket here (any more). It never opens a flip.
CREATE OR REPLACE FUNCTION foreshard.place_marker(in_bucket text, in_migration int)
RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    marker    uuid := gen_random_uuid();
    migration text;
BEGIN
    SELECT s.migration INTO migration FROM foreshard.moving m JOIN foreshard.sides s USING (migration)
     WHERE m.bucket = in_bucket AND s.migration_no = in_migration;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('INSERT INTO %I.marker (id) VALUES ($1)', migration) USING marker;
    -- Nobody waits for a marker for minutes; the deletion goes over the stream too. SKIP LOCKED: the worker that
    -- applies the other side's deletion must never wait for us in a circle.
    IF random() < 0.01 THEN
        EXECUTE format('DELETE FROM %1$I.marker WHERE id IN (SELECT id FROM %1$I.marker WHERE opens_flip IS NULL'
                       ' AND sent_at < clock_timestamp() - interval ''10 min'' LIMIT 5000 FOR UPDATE SKIP LOCKED)',
                       migration);
    END IF;
    RETURN marker;
END $$;
REVOKE ALL ON FUNCTION foreshard.place_marker FROM PUBLIC;

-- Whether a marker of the other side was applied here. NULL: that migration does not move the bucket here (any more).
CREATE OR REPLACE FUNCTION foreshard.has_marker(in_bucket text, in_migration int, marker uuid)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    migration text;
    applied   boolean;
BEGIN
    SELECT s.migration INTO migration FROM foreshard.moving m JOIN foreshard.sides s USING (migration)
     WHERE m.bucket = in_bucket AND s.migration_no = in_migration;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.marker WHERE id = $1)', migration) INTO applied USING marker;
    RETURN applied;
END $$;
REVOKE ALL ON FUNCTION foreshard.has_marker FROM PUBLIC;
