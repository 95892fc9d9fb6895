-- Values that `collect` took: from the hours, and where an hour is not rolled up yet from what is below it.
WITH windows AS MATERIALIZED (SELECT DISTINCT start FROM load_marks WHERE step = 'five_minutes'),
hours AS MATERIALIZED (
    SELECT start FROM load_marks WHERE step = 'hours'
    UNION SELECT date_trunc('hour', start, 'UTC') FROM windows
)
SELECT ((SELECT coalesce(sum(live), 0) FROM load_hours
         WHERE ts >= %(since)s AND ts < %(until)s AND ts NOT IN (SELECT start FROM hours))
      + (SELECT coalesce(sum(found.live), 0) FROM hours AS h CROSS JOIN load_metrics AS m
         CROSS JOIN LATERAL (
             SELECT sum(live) AS live FROM load_five_minutes AS l
             WHERE l.metric = m.id AND l.ts >= h.start AND l.ts < h.start + interval '1 hour'
               AND l.ts >= %(since)s AND l.ts < %(until)s AND l.ts NOT IN (SELECT start FROM windows)
         ) AS found)
      + (SELECT coalesce(sum(found.live), 0) FROM windows AS w CROSS JOIN load_metrics AS m
         CROSS JOIN LATERAL (
             SELECT sum(live) AS live FROM load_raw AS l
             -- A sample bears the end of what it tells of.
             WHERE l.metric = m.id AND l.ts > w.start AND l.ts <= w.start + interval '5 minutes'
               AND l.ts > %(since)s AND l.ts <= %(until)s
         ) AS found))::bigint
