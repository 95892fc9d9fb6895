-- What is counted over all migrations, ended ones too: (what, one label or two, how many).
SELECT 'migrations' AS what, stage AS one, '' AS other, count(*) FROM migrations GROUP BY stage
UNION ALL
SELECT 'gates', checkpoint, CASE WHEN passed THEN 'go' ELSE 'no' END, count(*) FROM gate_runs GROUP BY 2, 3
UNION ALL
SELECT 'verifications', CASE WHEN passed THEN 'passed' WHEN passed = false THEN 'failed' ELSE 'not_made' END, '', count(*)
FROM verifications WHERE passed IS NOT NULL OR problem IS NOT NULL GROUP BY 2
UNION ALL
SELECT 'approvals', state, '', count(*) FROM approvals GROUP BY state
UNION ALL
SELECT 'routers', application,
       CASE WHEN heartbeat_at + make_interval(secs => lease_s) > clock_timestamp() THEN 'live' ELSE 'silent' END, count(*)
FROM routers GROUP BY 2, 3
UNION ALL
SELECT 'alerts', kind, '', count(*) FROM alerts WHERE ended_at IS NULL GROUP BY kind
