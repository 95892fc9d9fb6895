-- Foreshard: what a superuser runs once on the server of the control database. It may be run again.
-- PostgreSQL 16, 17 and 18 alike. Passwords are set apart from this (psql: \password).
DO $grants$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[{roles_names}]::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
        -- LOGIN and nothing else.
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted AND rolcanlogin
                          AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)) THEN
            EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS', wanted);
        END IF;
    END LOOP;
END
$grants$;

-- Each owns its database and nothing else: it makes and alters its own tables there when a new version starts.
{ownership}

-- Nobody else looks into them. (`foreshard grants --for application` lets routers in, to read the routing map.)
REVOKE CONNECT, TEMPORARY ON DATABASE {databases} FROM PUBLIC;
