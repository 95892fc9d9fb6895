-- Every shard that is in the fleet: its capacities, how many buckets lie on it, and what ended migrations left there.
SELECT s.name, s.capacity,
       (SELECT count(*) FROM buckets AS b WHERE b.shard = s.name) AS buckets,
       (SELECT count(*) FROM resources AS r JOIN migrations AS m ON m.id = r.migration_id
        WHERE r.shard = s.name AND r.removed_at IS NULL AND m.finished_at IS NOT NULL) AS leftovers
FROM shards AS s
WHERE s.state <> 'removed'
ORDER BY s.name
