-- Rows of some keys, which come as one text array for each key column: who owns them, and what is in each column.
-- A row without a distribution key belongs to nobody; preflight refuses such tables. Here the source answers for it.
SELECT ARRAY[{key}] AS key,
       coalesce({hash} & {mask}, {slots})::int AS slot,
       ARRAY[{digests}]::int8[] AS digests,
       {values} AS values
  FROM {table} AS t
  JOIN {wanted}
