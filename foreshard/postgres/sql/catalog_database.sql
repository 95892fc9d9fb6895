-- How this database orders text where a column names no collation: provider, collation, character type, locale, version.
-- The locale's column differs between versions of PostgreSQL.
SELECT datlocprovider::text, datcollate, datctype,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
       coalesce(pg_database_collation_actual_version(oid), '')
  FROM pg_database AS d
 WHERE datname = current_database()
