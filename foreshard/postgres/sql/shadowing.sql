-- Tables that the application's search path also leads to, under the name of a bucket's table: (schema, table).
-- The path that its role or the database sets, else PostgreSQL's default. Where none of the role's own is set, another
-- default in postgresql.conf cannot be told from ours.
WITH path AS (
    SELECT btrim(part, ' "') AS part
      FROM (SELECT coalesce((SELECT substr(setting, length('search_path=') + 1)
                               FROM pg_db_role_setting s
                              CROSS JOIN LATERAL unnest(s.setconfig) AS setting
                               LEFT JOIN pg_roles r ON r.oid = s.setrole
                              WHERE setting LIKE 'search\_path=%%'
                                AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                                AND (s.setrole = 0 OR r.rolname = %(application)s)
                              ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
                              LIMIT 1), '"$user", public')) AS own (path)
     CROSS JOIN LATERAL string_to_table(own.path, ',') AS part
)
SELECT DISTINCT n.nspname, c.relname
  FROM path p
  JOIN pg_namespace n ON n.nspname = CASE p.part WHEN '$user' THEN %(application)s ELSE p.part END
  JOIN pg_class c ON c.relnamespace = n.oid
 WHERE c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND n.nspname <> ALL (%(buckets)s)
 ORDER BY 1, 2
