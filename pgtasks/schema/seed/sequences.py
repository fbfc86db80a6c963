"""Set sequences behind the rows that a seed set has inserted with keys of its own."""

# In the transaction of the rows: sequences of serial and identity columns, of the tables that it
# has written; of all tables if the server does not count. Of integers only: the type of another
# role's column would run its code, and other columns have no next number.
REALIGN = """
DO $pgtasks$
DECLARE
  owned record;
  highest bigint;
  last bigint;
BEGIN
  SET LOCAL search_path = pg_catalog, pg_temp;
  FOR owned IN
    SELECT a.attrelid::regclass AS relation, a.attname AS name, s.oid::regclass AS sequence,
      q.seqmax AS most
    FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_sequence q ON q.seqrelid = s.oid
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.deptype IN ('a', 'i') AND q.seqincrement > 0
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
    AND has_table_privilege(s.oid, 'UPDATE') AND has_table_privilege(s.oid, 'SELECT')
    AND (current_setting('track_counts') = 'off' OR EXISTS (
      SELECT FROM pg_stat_xact_user_tables t
      WHERE t.n_tup_ins > 0 AND coalesce(pg_partition_root(t.relid), t.relid) = a.attrelid))
  LOOP
    EXECUTE format('SELECT max(%I) FROM %s', owned.name, owned.relation) INTO highest;
    EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s',
      owned.sequence) INTO last;
    IF highest > last AND highest <= owned.most THEN
      PERFORM setval(owned.sequence, highest);
    END IF;
  END LOOP;
END $pgtasks$;
"""
