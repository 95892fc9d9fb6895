-- Every migration that has not ended: where it stands, what it waits for, and what was found on its way.
SELECT m.id, m.plan_id, m.source, m.target, m.stage, m.bound, m.waiting_for, m.failure, m.attempts, m.flow_run_id,
       m.created_at, m.lease_expires_at,
       (p.document #>> '{timeline,start_by}')::timestamptz AS start_by,
       progress.step, progress.document AS progress, progress.updated_at AS progress_at,
       begun.at AS step_began_at,
       asked.id AS approval, asked.state AS approval_state, asked.requested_at, asked.expires_at,
       gate.id AS gate, gate.checkpoint, gate.passed AS gate_passed, gate.made_at AS gate_at,
       flips.pause_ms,
       wrong.id AS wrong, jsonb_array_length(wrong.findings) AS wrong_findings,
       shadow.counts AS shadow
FROM migrations AS m
JOIN plans AS p ON p.id = m.plan_id
LEFT JOIN LATERAL (
    SELECT step, document, updated_at FROM step_progress AS s WHERE s.migration_id = m.id
    ORDER BY updated_at DESC, step DESC LIMIT 1
) AS progress ON true
LEFT JOIN LATERAL (
    SELECT max(started_at) AS at FROM stage_runs AS r WHERE r.migration_id = m.id
) AS begun ON true
LEFT JOIN LATERAL (
    SELECT id, state, requested_at, expires_at
    FROM approvals AS a WHERE a.migration_id = m.id ORDER BY id DESC LIMIT 1
) AS asked ON true
LEFT JOIN LATERAL (
    SELECT id, checkpoint, passed, made_at FROM gate_runs AS g WHERE g.migration_id = m.id ORDER BY id DESC LIMIT 1
) AS gate ON true
LEFT JOIN LATERAL (
    SELECT max(f.pause_ms) AS pause_ms FROM flips AS f WHERE f.migration_id = m.id
) AS flips ON true
LEFT JOIN LATERAL (
    -- As `VerificationStore.failed`: a later one of the whole, or of the same bucket, speaks in its place.
    SELECT v.id, v.findings FROM verifications AS v
    WHERE v.migration_id = m.id AND v.passed = false AND NOT EXISTS (
        SELECT FROM verifications AS n
        WHERE n.migration_id = m.id AND n.id > v.id AND n.finished_at IS NOT NULL
          AND (n.bucket IS NULL OR n.bucket = v.bucket))
    ORDER BY v.id DESC LIMIT 1
) AS wrong ON true
LEFT JOIN LATERAL (
    SELECT jsonb_build_object('matched', sum(matches), 'lagged', sum(lags), 'mismatched', sum(mismatches),
                              'unsettled', sum(unsettled), 'failed', sum(failures), 'dropped', sum(dropped)) AS counts
    FROM shadow_reads AS r WHERE r.migration_id = m.id
    HAVING count(*) > 0
) AS shadow ON true
WHERE m.finished_at IS NULL
ORDER BY m.id
