-- Foreshard: what a superuser runs once on each shard, connected to its database. It may be run again.
-- PostgreSQL 16, 17 and 18 alike. It takes no right from anybody and changes no role that is as it should be.
-- Passwords are set apart from this (psql: \password), so that this file can be kept and reviewed.
DO $grants$
DECLARE
    operator     CONSTANT name   := {operator_name};
    owners       CONSTANT name[] := ARRAY[{owners_names}];
    applications CONSTANT name[] := ARRAY[{applications_names}];
    shadows      CONSTANT name[] := ARRAY[{shadows_names}]::name[];
    wanted       name;
BEGIN
    IF current_database() <> {database_name} THEN
        RAISE EXCEPTION 'connect to the database % first (this is %)', {database_name}, current_database();
    END IF;
    -- Every role must be on every shard: a bucket's copy has the owner and the grants of the original.
    FOREACH wanted IN ARRAY operator || owners || applications || shadows LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I %s', wanted,
                           CASE WHEN wanted = ANY (owners) AND NOT wanted = ANY (applications) THEN 'NOLOGIN'
                                ELSE 'LOGIN' END);
        END IF;
    END LOOP;
    -- LOGIN: it works by connections. REPLICATION: for the slots behind its subscriptions, and canary samples.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = operator AND rolcanlogin AND rolreplication
                      AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)) THEN
        EXECUTE format('ALTER ROLE %I LOGIN REPLICATION NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS', operator);
    END IF;
    FOREACH wanted IN ARRAY owners LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = wanted AND rolsuper) THEN
            RAISE EXCEPTION 'role % is a superuser: who may act as it needs no other right', wanted
                USING HINT = 'Give the buckets and their tables to an owner that is none (ALTER ... OWNER TO).';
        END IF;
        IF wanted = ANY (applications) THEN
            RAISE WARNING 'role % owns the tables that it writes: guards bind it only as long as it leaves them on',
                wanted;
        END IF;
    END LOOP;
END
$grants$;

-- INHERIT: only an owner puts guards on tables, publishes them, drops a copy that is done with.
-- SET: replicated rows are applied as the owner of their table, and a copy is given to the owner of the original.
GRANT {owners} TO {operator} WITH INHERIT TRUE, SET TRUE;

-- CREATE SUBSCRIPTION, without being a superuser.
GRANT pg_create_subscription TO {operator};

-- pg_read_all_stats: who still runs a statement or holds the fence; standbys and how far they are; sizes.
-- pg_read_all_settings: where the data directory is, whose disk must not run full.
-- pg_ls_waldir: the same where that disk cannot be seen from Foreshard's machine.
GRANT pg_read_all_stats, pg_read_all_settings TO {operator};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO {operator};

-- CREATE: subscriptions, publications, the schemas of migrations and of copied buckets are made in this database.
-- CONNECT: where it was taken from PUBLIC.
GRANT CONNECT, CREATE ON DATABASE {database} TO {operator};
GRANT CONNECT ON DATABASE {database} TO {applications};

-- Foreshard's own objects (guards, markers) stand in a schema of their own, never in a bucket.
CREATE SCHEMA IF NOT EXISTS foreshard AUTHORIZATION {operator};
ALTER SCHEMA foreshard OWNER TO {operator};

-- USAGE: every write transaction begins with foreshard.assert_owner. Nothing in there can be read or changed by it.
GRANT USAGE ON SCHEMA foreshard TO {applications};

{shadow_grants}-- CREATE SUBSCRIPTION must hold a password. With these the operator keeps that statement out of the server's log, of
-- pg_stat_activity, and of pg_stat_statements and pgaudit, should they be loaded.
GRANT SET ON PARAMETER {quiet} TO {operator};

-- `foreshard check repair` writes rows of a copy as replication does: not sent back (origin), past guards and triggers.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text),
    pg_catalog.pg_replication_origin_drop(text),
    pg_catalog.pg_replication_origin_session_setup(text),
    pg_catalog.pg_replication_origin_session_reset() TO {operator};
GRANT SET ON PARAMETER session_replication_role TO {operator};
