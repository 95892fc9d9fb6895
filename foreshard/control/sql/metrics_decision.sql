-- When the newest decision was made, and how many plans there are of each state.
SELECT (SELECT created_at FROM decisions ORDER BY id DESC LIMIT 1),
       (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM plans GROUP BY state) AS p)
