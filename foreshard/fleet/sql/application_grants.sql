-- Foreshard: what the owner of the control database (or a superuser) runs there, once its tables are there: whatever
-- `foreshard` does first makes them. To be run again after an upgrade. For routers that log in as the application.
-- The roles are there already or are made by a superuser: CREATE ROLE ... LOGIN.
DO $grants$
BEGIN
    IF current_database() <> {database_name} THEN
        RAISE EXCEPTION 'connect to the database % first (this is %)', {database_name}, current_database();
    END IF;
    IF to_regclass('public.control_plane') IS NULL THEN
        RAISE EXCEPTION 'the tables of Foreshard are not there yet'
            USING HINT = 'Start `foreshard serve` once, as the owner of this database.';
    END IF;
END
$grants$;

GRANT CONNECT ON DATABASE {database} TO {applications};

-- The routing map: buckets, where they are, which are moving; and how shards are reached (no password is in there).
GRANT SELECT ON public.control_plane, public.shards, public.buckets, public.migrations, public.migration_buckets
    TO {applications};

-- Results of shadow reads, as evidence for the gate: routers add rows and read none.
GRANT INSERT ON public.shadow_reads TO {applications};
GRANT SELECT (id, at) ON public.shadow_reads TO {applications};
GRANT USAGE ON SEQUENCE public.shadow_reads_id_seq TO {applications};

-- A router keeps a row of its own: which map it has in use, and until when it may believe it. Migrations wait for it.
-- The times are the database's: columns with a default that no router sets.
GRANT INSERT (id, application, host, pid, lease_s, epoch), SELECT (id), UPDATE (epoch, heartbeat_at), DELETE
    ON public.routers TO {applications};
