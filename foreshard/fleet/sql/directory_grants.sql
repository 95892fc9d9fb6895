-- Foreshard: what the owner of the directory (key -> bucket) or a superuser runs, connected to its database. It may be
-- run again. Routers look keys up there, as the role in the fleet's description; nobody at Foreshard writes to it.
DO $grants$
DECLARE
    directory CONSTANT regclass := {table_name};  -- as one writes it in SQL
    home      CONSTANT name     := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = directory);
    wanted    name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[{applications_names}]::name[] LOOP
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted);
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', home, wanted);
        -- The two columns that are read, and none of what else a tenant's row may hold.
        EXECUTE format('GRANT SELECT (%I, %I) ON %s TO %I', {key_column_name}, {bucket_column_name}, directory, wanted);
    END LOOP;
END
$grants$;
