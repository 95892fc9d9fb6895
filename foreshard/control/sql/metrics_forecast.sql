-- The newest forecast of all metrics at this step and at least that far ahead: what a decision is made on.
SELECT id, created_at, seconds, horizon_hours, step_minutes, counts, cardinality(notes)
FROM forecast_runs
WHERE metrics IS NULL AND step_minutes = %(step)s AND horizon_hours >= %(hours)s
ORDER BY id DESC LIMIT 1
