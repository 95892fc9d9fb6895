{inside}
-- Roles that the buckets need: (role, whether as owner, an object that names it).
SELECT r.rolname, bool_or(u.deptype = 'o'), min(pg_describe_object(u.classid, u.objid, 0))
  FROM (
    SELECT s.refobjid AS role, s.deptype::text, s.classid, s.objid
      FROM pg_shdepend s JOIN inside i ON i.classid = s.classid AND i.objid = s.objid
     WHERE s.refclassid = 'pg_authid'::regclass
       AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL  -- the superuser that initdb made is in no dependency
    SELECT relowner, 'o', 'pg_class'::regclass, c.oid FROM pg_class c JOIN relations USING (oid) WHERE c.relkind IN ('r', 'p', 'v', 'S')
    UNION ALL
    SELECT nspowner, 'o', 'pg_namespace'::regclass, n.oid FROM pg_namespace n JOIN named USING (oid)
  ) AS u
  JOIN pg_roles r ON r.oid = u.role
 GROUP BY r.rolname
 ORDER BY 1
