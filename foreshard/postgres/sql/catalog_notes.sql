{inside}
-- Comments and privileges in a bucket, as (section, object, definition), comparable between servers. What only one of
-- two versions knows is left out where `maintain` is false; Foreshard's own triggers are no part of the bucket.
, guards AS (
    SELECT oid FROM pg_trigger WHERE tgname LIKE 'zz\_foreshard%%'
),
-- Who may do what: an empty list of privileges is the default one, which leaves PUBLIC what it may anyway.
lists (object, acl, owner) AS (
    SELECT format('schema %%s', n.nspname), coalesce(n.nspacl, acldefault('n', n.nspowner)), n.nspowner
      FROM pg_namespace AS n JOIN named USING (oid)
    UNION ALL
    SELECT c.relname, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)),
           c.relowner
      FROM pg_class AS c JOIN relations USING (oid) WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT format('%%s.%%s', c.relname, a.attname), a.attacl, c.relowner
      FROM pg_class AS c JOIN relations USING (oid)
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT format('%%s(%%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
           coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner
      FROM pg_proc AS p JOIN inside AS i ON i.classid = 'pg_proc'::regclass AND i.objid = p.oid
    UNION ALL
    SELECT format('type %%s', t.typname), coalesce(t.typacl, acldefault('T', t.typowner)), t.typowner
      FROM pg_type AS t JOIN inside AS i ON i.classid = 'pg_type'::regclass AND i.objid = t.oid
      LEFT JOIN pg_class AS c ON c.oid = t.typrelid
     WHERE t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c'
    UNION ALL
    SELECT format('default privileges of %%s on %%s', pg_get_userbyid(d.defaclrole), d.defaclobjtype), d.defaclacl,
           d.defaclrole
      FROM pg_default_acl AS d JOIN inside AS i ON i.classid = 'pg_default_acl'::regclass AND i.objid = d.oid
), granted AS (
    SELECT l.object, coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC') AS grantee,
           string_agg(DISTINCT a.privilege_type || CASE WHEN a.is_grantable AND a.grantee <> l.owner THEN '*' ELSE '' END,
                      ',') AS privileges
      FROM lists AS l CROSS JOIN LATERAL aclexplode(l.acl) AS a
     -- A shard that does not serve a bucket yet, or any more, withholds USAGE of its schema on purpose.
     WHERE NOT (l.object LIKE 'schema %%' AND a.privilege_type = 'USAGE')
       AND (%(maintain)s OR a.privilege_type <> 'MAINTAIN')
     GROUP BY 1, 2
)
SELECT 'privileges' AS section, object, string_agg(grantee || '=' || privileges, ' ' ORDER BY grantee COLLATE "C") AS definition
  FROM granted
 GROUP BY object
UNION ALL
SELECT 'comments', format('%%s %%s', o.type, o.identity), d.description
  FROM inside AS i
  JOIN pg_description AS d ON d.classoid = i.classid AND d.objoid = i.objid
 CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
 WHERE NOT (i.classid = 'pg_trigger'::regclass AND i.objid IN (SELECT oid FROM guards))
 ORDER BY 1, 2
