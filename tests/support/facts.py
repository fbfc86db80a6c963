"""A small database with awkward things in it, and what one holds, as SQL of this file sees it."""

from __future__ import annotations

from servers import Cluster

Facts = dict[str, str]

CONTENT = """
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN word AS text CHECK (VALUE <> '');
CREATE TYPE spot AS (x int, "y z" text);
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood);
CREATE TABLE "odd schema"."it's 🐘" (n int REFERENCES people, "t" word);
CREATE TABLE pets (id int PRIMARY KEY, kind varchar(9) CHECK (kind IN ('cat', 'dog')));
CREATE INDEX ON pets (kind) WHERE kind IN ('cat', 'dog');
ALTER TABLE pets ADD CONSTRAINT later CHECK (id < 1000000) NOT VALID;
CREATE TABLE young (born date DEFAULT '2024-02-29') INHERITS (pets);
CREATE TABLE odd_values (id int GENERATED ALWAYS AS IDENTITY, at timestamptz, span int4range,
  place spot, note text COLLATE "C", twice int GENERATED ALWAYS AS (length(note) * 2) STORED,
  raw bytea, doc jsonb, tags text[][], price money, words tsvector, gap interval);
CREATE TABLE visits (id int, day date NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE visits_2024 PARTITION OF visits FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE visits_rest PARTITION OF visits DEFAULT;
CREATE INDEX ON visits (day);
CREATE UNLOGGED TABLE fleeting (id int);
CREATE TABLE nothing ();
CREATE TABLE "63 bytes with ""quotes"", a % and a \\ in it: a 🐘 never forgets" (id int);
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'ok';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM happy;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER still BEFORE DELETE ON people FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE people DISABLE TRIGGER still;
CREATE RULE quiet AS ON INSERT TO happy DO INSTEAD NOTHING;
CREATE STATISTICS pairs (dependencies) ON id, kind FROM pets;
ALTER TABLE pets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON pets USING (id > 0);
INSERT INTO people (name, mood) SELECT '{version} ' || i, 'ok' FROM generate_series(1, 300) i;
INSERT INTO "odd schema"."it's 🐘" SELECT i, md5(i || '{version}') FROM generate_series(1, 300) i;
INSERT INTO pets SELECT i, (ARRAY['cat', 'dog'])[1 + i % 2] FROM generate_series(1, 1000) i;
INSERT INTO young VALUES (2000, 'cat');
INSERT INTO visits SELECT i, date '2024-12-20' + i FROM generate_series(1, 30) i;
INSERT INTO odd_values (at, span, place, note, raw, doc, tags, price, words, gap) VALUES
  ('-infinity', '[1,9)', '(1,"a ""b"", c")', E'tab\\t\\\\ \\n 🐘 {version}', '\\x00ff',
   '{"b": [null]}', '{{1,NULL},{"a,b",""}}', 12.34, 'fat:2 cat:3A', '1 year -2 days 03:04:05.6');
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO fleeting SELECT generate_series(1, 5);
SELECT lo_from_bytea(4711, convert_to('a large object {version}', 'UTF8'));
REFRESH MATERIALIZED VIEW counted;
COMMENT ON TABLE pets IS '{version}';
"""

_FACTS = """
SELECT 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index
 WHERE indrelid >= 16384 AND indexrelid::regclass::text NOT LIKE 'pg_toast.%'
UNION ALL SELECT 'constraint ' || coalesce(nullif(conrelid, 0)::regclass::text,
 contypid::regtype::text) || ' ' || conname, pg_get_constraintdef(oid)
 FROM pg_constraint WHERE greatest(conrelid, contypid) >= 16384 AND contype <> 'n'
UNION ALL SELECT 'trigger ' || tgname, tgenabled::text || pg_get_triggerdef(oid)
 FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function ' || oid::regprocedure, prosrc FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'sequence ' || sequencename, last_value::text FROM pg_sequences
UNION ALL SELECT 'policy ' || polname, concat(polcmd, pg_get_expr(polqual, polrelid))
 FROM pg_policy
UNION ALL SELECT 'rule ' || rulename, pg_get_ruledef(oid) FROM pg_rewrite
 WHERE oid >= 16384 AND rulename <> '_RETURN'
UNION ALL SELECT 'statistics ' || stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
UNION ALL SELECT 'labels of ' || enumtypid::regtype,
 string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum GROUP BY enumtypid
UNION ALL SELECT 'large object ' || oid, md5(lo_get(oid)) || pg_get_userbyid(lomowner)
 FROM pg_largeobject_metadata
UNION ALL SELECT 'columns of ' || attrelid::regclass, string_agg(concat_ws(' ', attname,
 format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attcollation,
 pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum)
 FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
 WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
 AND attrelid::regclass::text NOT LIKE 'pg_toast.%' GROUP BY attrelid
UNION ALL SELECT 'relation ' || oid::regclass, concat_ws(' ', relkind, relpersistence,
 relrowsecurity, pg_get_userbyid(relowner), pg_get_viewdef(oid), obj_description(oid, 'pg_class'),
 pg_get_expr(relpartbound, oid), (SELECT string_agg(inhparent::regclass::text, ',')
 FROM pg_inherits WHERE inhrelid = pg_class.oid))
 FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S')
 AND relnamespace <> 'pg_toast'::regnamespace
"""
_ROWS = """
SELECT string_agg(format($$SELECT 'rows ' || %L, count(*) || ' ' || md5(coalesce(string_agg(
 r::text, chr(10) ORDER BY r::text COLLATE "C"), '')) FROM ONLY %s r$$, name, name), ' UNION ALL ')
 FROM (SELECT oid::regclass AS name FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm')
 AND relnamespace <> 'pg_toast'::regnamespace) AS tables
"""
_NONE = "SELECT WHERE false"

PEOPLE = ("rows people", "sequence people_id_seq")  # what is restored with that table


def facts(cluster: Cluster, database: str) -> Facts:
    """Return what a database holds: digests of rows, definitions, owners, by name."""
    conn = cluster.connect(database)
    try:
        with conn.cursor() as cursor:
            cursor.execute(_FACTS)
            found: Facts = dict(cursor.fetchall())
            cursor.execute(_ROWS)
            cursor.execute(cursor.fetchone()[0] or _NONE)
            return {**found, **dict(cursor.fetchall())}
    finally:
        conn.close()
