-- Flips that were opened, by what they did, with their write pauses by bucket of a histogram.
SELECT CASE WHEN to_bound < from_bound THEN 'back' WHEN to_bound = %(all)s THEN 'cutover' ELSE 'canary' END AS kind,
       width_bucket(coalesce(pause_ms, 0) / 1000, %(bounds)s::float8[]) AS bucket,
       count(*), sum(coalesce(pause_ms, 0) / 1000)
FROM flips
WHERE state = 'opened'
GROUP BY 1, 2
