-- The same for the rows of some keys, which come as one text array for each key column.
SELECT ARRAY[{key}] AS key,
       {slot} AS slot,
       concat_ws(' ', t.tableoid, t.xmin, t.ctid) AS version,
       hashtextextended({text} COLLATE "C", 0) AS digest,
       {chunk} AS chunk
  FROM {wanted}
  JOIN {table} AS t ON {same_key}
