-- Every row of some chunks: what names it, who owns it, which version it is, what is in it.
SELECT ARRAY[{key}] AS key,
       {slot} AS slot,
       concat_ws(' ', t.tableoid, t.xmin, t.ctid) AS version,
       hashtextextended({text} COLLATE "C", 0) AS digest,
       {chunk} AS chunk
  FROM {table} AS t{among}
