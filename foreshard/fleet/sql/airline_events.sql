-- What passengers of the flights of one bucket did: {events} events a flight, the same on every machine.
INSERT INTO {bucket}.passenger_events (tailnum, flight_id, kind, passenger, at, detail)
SELECT f.tailnum,
       f.flight_id,
       (ARRAY['booked', 'checked in', 'bag dropped', 'boarded', 'landed'])[1 + n % 5],
       'P' || lpad(((f.flight_id * 7919 + n * 104729) % 10000000)::text, 7, '0'),
       f.sched_dep + make_interval(mins => (400 * n - 1440)::int),
       format('%s%s %s-%s row %s seat %s', f.carrier, f.flight_no, f.origin, f.dest,
              1 + (f.flight_id + 11 * n) % 38, substr('ABCDEF', (1 + (f.flight_id + n) % 6)::int, 1))
FROM {bucket}.flights AS f
CROSS JOIN generate_series(0, {events} - 1) AS n
ORDER BY f.flight_id, n;
