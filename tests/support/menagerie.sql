-- What zoo.sql lacks of all that pg_dump saves, to be loaded after it: rare kinds of objects.
SET search_path = zoo;
-- a name that restores find on every server, to own and to be granted
ALTER TABLE empty OWNER TO pg_monitor;
CREATE TABLE plain (id int PRIMARY KEY, a text, b int, c int[]);
INSERT INTO plain VALUES (1, 'x', 2, '{3}');
CREATE INDEX plain_up ON plain (upper(a), b);
ALTER INDEX plain_up ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE plain ALTER b SET STATISTICS 99;
CREATE INDEX plain_gin ON plain USING gin (c) WITH (fastupdate = off);
ALTER TABLE plain CLUSTER ON plain_pkey;
ALTER TABLE plain SET (toast.autovacuum_enabled = false);
CREATE TYPE pair AS (l int, r text);
COMMENT ON COLUMN pair.l IS 'left';
CREATE TABLE typed OF pair (l WITH OPTIONS DEFAULT 5);
CREATE TABLE heapish (id int);
CREATE SCHEMA shelf;
GRANT CREATE ON SCHEMA shelf TO pg_monitor;
-- a type of its own
CREATE TYPE int42;
CREATE FUNCTION int42_in(cstring) RETURNS int42 AS 'int4in' LANGUAGE internal STRICT IMMUTABLE;
CREATE FUNCTION int42_out(int42) RETURNS cstring AS 'int4out' LANGUAGE internal STRICT IMMUTABLE;
CREATE TYPE int42 (internallength = 4, input = int42_in, output = int42_out, alignment = int4,
  default = 42, passedbyvalue);
CREATE FUNCTION gap(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';
CREATE TYPE stretch AS RANGE (subtype = float8, subtype_diff = gap, multirange_type_name = stretches);
CREATE DOMAIN short AS text CONSTRAINT brief CHECK (length(VALUE) < 9);
COMMENT ON CONSTRAINT brief ON DOMAIN short IS 'not long';
-- operators and what is made of them
CREATE FUNCTION less(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = int, FUNCTION = less, RESTRICT = scalarltsel,
  JOIN = scalarltjoinsel);
CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = same, HASHES, MERGES,
  COMMUTATOR = ====, RESTRICT = eqsel);
CREATE OPERATOR FAMILY odd USING btree;
CREATE OPERATOR CLASS backwards FOR TYPE int USING btree FAMILY odd AS
  OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
COMMENT ON OPERATOR CLASS backwards USING btree IS 'the other way round';
CREATE FUNCTION adding(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION taking(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';
CREATE AGGREGATE moving (int) (SFUNC = adding, STYPE = int, INITCOND = '0', SSPACE = 8,
  MSFUNC = adding, MINVFUNC = taking, MSTYPE = int, MINITCOND = '0');
CREATE CAST (int42 AS int) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION helped(int) RETURNS int LANGUAGE sql COST 11 PARALLEL SAFE LEAKPROOF AS 'SELECT 1';
CREATE FUNCTION overloaded(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION overloaded(text) RETURNS int LANGUAGE sql AS 'SELECT 2';
CREATE PROCEDURE doing(INOUT x int) LANGUAGE plpgsql AS 'BEGIN x := 1; END';
COMMENT ON PROCEDURE doing IS 'doing';
CREATE FUNCTION texted(internal) RETURNS internal LANGUAGE internal AS 'prsd_lextype';
CREATE FUNCTION handling() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION inlining(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION validating(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE other HANDLER handling INLINE inlining VALIDATOR validating;
COMMENT ON LANGUAGE other IS 'another';
CREATE ACCESS METHOD gist2 TYPE INDEX HANDLER gisthandler;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE in_heap2 (id int) USING heap2;
CREATE CONVERSION halfway FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
-- text search
CREATE TEXT SEARCH PARSER words (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
  LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE easy (LEXIZE = dsimple_lexize, INIT = dsimple_init);
CREATE TEXT SEARCH DICTIONARY stops (TEMPLATE = easy, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION speech (PARSER = words);
ALTER TEXT SEARCH CONFIGURATION speech ADD MAPPING FOR asciiword, word WITH stops, simple;
COMMENT ON TEXT SEARCH DICTIONARY stops IS 'stops';
-- elsewhere
CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (u 'x');
CREATE USER MAPPING FOR pg_monitor SERVER away;
GRANT USAGE ON FOREIGN DATA WRAPPER far TO pg_monitor;
GRANT USAGE ON FOREIGN SERVER away TO pg_monitor;
COMMENT ON SERVER away IS 'away';
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION shelved FOR TABLES IN SCHEMA shelf;
CREATE TABLE spread_out (id int, a text);
CREATE PUBLICATION partly FOR TABLE spread_out (id, a) WHERE (id > 5);
COMMENT ON PUBLICATION partly IS 'partly';
-- who may
GRANT SELECT (a), UPDATE (b) ON plain TO pg_monitor;
GRANT USAGE ON TYPE mood TO pg_monitor;
REVOKE USAGE ON TYPE place FROM PUBLIC;
GRANT USAGE ON LANGUAGE other TO pg_monitor;
GRANT USAGE ON SEQUENCE untouched TO pg_monitor;
GRANT EXECUTE ON PROCEDURE doing TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO pg_monitor;
GRANT SELECT ON LARGE OBJECT 4711 TO pg_monitor;
GRANT SELECT ON summed TO pg_monitor;
ALTER DEFAULT PRIVILEGES FOR ROLE pg_monitor IN SCHEMA shelf GRANT INSERT ON TABLES TO PUBLIC;
COMMENT ON MATERIALIZED VIEW summed IS 'summed';
COMMENT ON FOREIGN TABLE elsewhere IS 'elsewhere';
COMMENT ON VIEW seen IS 'seen';
COMMENT ON TRIGGER touched ON checked IS 'touched';
COMMENT ON POLICY own ON guarded IS 'own';
COMMENT ON RULE quiet ON seen IS 'quiet';
COMMENT ON EVENT TRIGGER heard IS 'heard';
COMMENT ON STATISTICS pairs IS 'pairs';
COMMENT ON CAST (int42 AS int) IS 'cast';
COMMENT ON COLLATION bytes IS 'bytes';
COMMENT ON CONVERSION halfway IS 'halfway';
COMMENT ON AGGREGATE moving (int) IS 'moving';
COMMENT ON OPERATOR <<< (int, int) IS 'less';
COMMENT ON FOREIGN DATA WRAPPER far IS 'far';
COMMENT ON SCHEMA public IS 'public';
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE VIEW checked_view WITH (security_barrier) AS SELECT id FROM plain WHERE id > 0
  WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
CREATE CONSTRAINT TRIGGER after_all AFTER INSERT ON plain DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE event_rest DISABLE TRIGGER quiet;
CREATE STATISTICS sized (mcv) ON a, b FROM plain;
ALTER STATISTICS sized SET STATISTICS 321;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),
  TO SQL WITH FUNCTION int4recv(internal));
-- triggers, rules and indexes with states of their own
CREATE TRIGGER on_replicas AFTER DELETE ON plain FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE plain ENABLE REPLICA TRIGGER on_replicas;
CREATE TRIGGER on_all AFTER DELETE ON plain REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
  EXECUTE FUNCTION stamp();
ALTER TABLE plain ENABLE ALWAYS TRIGGER on_all;
CREATE RULE on_replicas AS ON DELETE TO heapish DO INSTEAD NOTHING;
ALTER TABLE heapish ENABLE REPLICA RULE on_replicas;
CREATE EVENT TRIGGER heard_always ON sql_drop EXECUTE FUNCTION heard();
ALTER EVENT TRIGGER heard_always ENABLE REPLICA;
CREATE INDEX event_2024_own ON event_2024 (id DESC);
CREATE MATERIALIZED VIEW over_view AS SELECT * FROM seen;
-- names as long as they can be, moments without end, and what tells rows apart
CREATE TABLE "63 bytes with ""quotes"", a % and a \ in it: a 🐘 never forgets" (
  id int NOT NULL, "63 bytes: ä column, its name as long as a name here can be ..." date,
  CONSTRAINT "63 bytes: ä constraint with a name that can be no longer äll." UNIQUE (id));
ALTER TABLE "63 bytes with ""quotes"", a % and a \ in it: a 🐘 never forgets"
  REPLICA IDENTITY USING INDEX "63 bytes: ä constraint with a name that can be no longer äll.";
INSERT INTO "63 bytes with ""quotes"", a % and a \ in it: a 🐘 never forgets"
  VALUES (1, 'infinity'), (2, '-infinity'), (3, '5874897-12-31'), (4, NULL);
ALTER TABLE heapish REPLICA IDENTITY NOTHING;
