-- Plans that no run has been started for, with their deadlines (fleet clock).
SELECT id, source, target, (document #>> '{timeline,start_by}')::timestamptz
FROM plans
WHERE state = 'proposed'
ORDER BY id
