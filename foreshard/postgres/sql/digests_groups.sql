-- Rows of a table without a key, those that print alike as one: the digest of their text names them, and how many
-- they are stands where rows with a key have a digest. The version is one of all their versions (a sum: it does not
-- depend on their order), then the place of one of them.
SELECT ARRAY[r.contents::text] AS key,
       min(r.slot) AS slot,
       concat_ws(' ', sum(r.version), min(r.ctid)) AS version,
       count(*) AS digest,
       min(r.chunk) AS chunk
  FROM (SELECT hashtextextended({text} COLLATE "C", 0) AS contents,
               {slot} AS slot,
               {chunk} AS chunk,
               hashtextextended(concat_ws(' ', t.tableoid, t.xmin, t.ctid) COLLATE "C", 0) AS version,
               t.ctid
          FROM {table} AS t{among}) AS r
 GROUP BY r.contents
