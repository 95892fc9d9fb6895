-- Foreshard: what a superuser runs once on the control server. It may be run again.
-- Passwords are set apart from this (psql: \password).
DO $grants$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[{operator_name}, {scheduler_name}]::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
    END LOOP;
END
$grants$;

ALTER ROLE {operator} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
ALTER ROLE {scheduler} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- Each owns its database and nothing else; neither can look into the other's.
ALTER DATABASE {control_database} OWNER TO {operator};
ALTER DATABASE {scheduler_database} OWNER TO {scheduler};
REVOKE CONNECT ON DATABASE {control_database}, {scheduler_database} FROM PUBLIC;
