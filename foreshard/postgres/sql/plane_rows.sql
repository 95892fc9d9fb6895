-- Rows of one control plane's migrations in Foreshard's own tables: (migration, kind, name).
SELECT migration_no::bigint, 'side' AS kind, migration AS name FROM foreshard.sides
 WHERE starts_with(migration, 'foreshard_' || %(plane)s || '_')
UNION ALL
SELECT s.migration_no::bigint, 'moving', m.bucket FROM foreshard.moving m JOIN foreshard.sides s USING (migration)
 WHERE starts_with(m.migration, 'foreshard_' || %(plane)s || '_')
