-- Rows of some keys, which come as one text array for each key column: who owns them, and what is in each column.
SELECT ARRAY[{key}] AS key,
       {slot} AS slot,
       ARRAY[{digests}]::int8[] AS digests,
       {values} AS values
  FROM {table} AS t
  JOIN {wanted} ON {same_key}
