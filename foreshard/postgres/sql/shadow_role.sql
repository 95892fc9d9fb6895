-- The role that repeats reads: (is there, may log in, may read what the application reads).
SELECT r.oid IS NOT NULL, coalesce(r.rolcanlogin, false),
       coalesce(a.oid IS NULL OR pg_has_role(r.oid, a.oid, 'USAGE'), false)
  FROM (SELECT %(role)s::name AS role, %(application)s::name AS application) AS named
  LEFT JOIN pg_roles r ON r.rolname = named.role
  LEFT JOIN pg_roles a ON a.rolname = named.application
