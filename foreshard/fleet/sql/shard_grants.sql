-- Foreshard: what a superuser runs once on each shard, connected to its database. It may be run again.
-- Passwords are set apart from this (psql: \password), so that this file can be kept and reviewed.
DO $grants$
DECLARE
    wanted name;
BEGIN
    IF current_database() <> {database_name} THEN
        RAISE EXCEPTION 'connect to the database % first (this is %)', {database_name}, current_database();
    END IF;
    FOREACH wanted IN ARRAY ARRAY[{operator_name}, {owner_name}, {application_name}]::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
    END LOOP;
END
$grants$;

-- The operator migrates buckets. REPLICATION: for the slots behind its subscriptions.
ALTER ROLE {operator} WITH LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- The application reads and writes rows, through the router.
ALTER ROLE {application} WITH LOGIN;

-- INHERIT: guards and publications are made on the owner's tables. SET: replicated rows are applied as the owner.
GRANT {owner} TO {operator} WITH INHERIT TRUE, SET TRUE;
GRANT pg_create_subscription, pg_monitor TO {operator};

-- CREATE: subscriptions, publications and the schemas of buckets are made in this database.
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {operator};
GRANT CONNECT, CREATE ON DATABASE {database} TO {owner};
GRANT CONNECT ON DATABASE {database} TO {application};

-- Foreshard's own objects (guards, markers) stand in a schema of their own, never in a bucket.
CREATE SCHEMA IF NOT EXISTS foreshard AUTHORIZATION {operator};
ALTER SCHEMA foreshard OWNER TO {operator};
GRANT USAGE ON SCHEMA foreshard TO {application};

-- CREATE SUBSCRIPTION must hold a password: these let the operator keep that statement out of the server's log.
GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement TO {operator};
