-- In the schema that hostile.schema names: a namesake of the same signature of every function,
-- view and type of pg_catalog that is among hostile.names, and of every operator. Each of them
-- says in the server's log that it was called or read. Types that no catalog has a column of are
-- left out of the operators.
DO $hostile$
DECLARE
  place text := quote_ident(current_setting('hostile.schema'));
  names text[] := string_to_array(current_setting('hostile.names'), ' ');
  one record;
  types oid[] := (SELECT array_agg(DISTINCT atttypid) || '{0,text,anyarray,numeric,json,jsonb}'::regtype[]::oid[]
    FROM pg_attribute WHERE attrelid < 16384 AND attnum > 0);
  body text := 'BEGIN RAISE WARNING %L; %s END';
BEGIN
  SET LOCAL search_path = pg_catalog;
  SET LOCAL check_function_bodies = off;
  FOR one IN
    SELECT DISTINCT p.proname, p.proretset,
      coalesce((SELECT string_agg(t::regtype::text, ', ' ORDER BY n)
        FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)), '') AS inputs,
      p.prorettype::regtype::text AS result
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
      AND (p.proname = ANY (names) OR p.oid IN (SELECT oprcode FROM pg_operator
        WHERE types @> ARRAY[oprleft, oprright]))
      AND NOT ('internal'::regtype = ANY (p.proargtypes) OR 'cstring'::regtype = ANY (p.proargtypes))
      AND NOT p.prorettype::regtype::text = ANY ('{internal,cstring,trigger,event_trigger}')
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L',
        place, one.proname, replace(one.inputs, '"any"', 'anyelement'),
        CASE WHEN one.proretset THEN 'SETOF' ELSE '' END, replace(one.result, '"any"', 'text'),
        format(body, 'hostile function ' || one.proname,
          CASE WHEN one.proretset THEN 'RETURN;' WHEN one.result = 'boolean' THEN 'RETURN true;'
            WHEN one.result = 'void' THEN '' ELSE 'RETURN NULL;' END));
    EXCEPTION WHEN OTHERS THEN NULL;  -- a pseudo-type that only C may use
    END;
  END LOOP;
  FOR one IN
    SELECT o.oprname, p.proname, NULLIF(o.oprleft, 0)::regtype AS l, o.oprright::regtype AS r
    FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
    WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND types @> ARRAY[o.oprleft, o.oprright]
  LOOP
    BEGIN
      EXECUTE format('CREATE OPERATOR %s.%s (%s RIGHTARG = %s, FUNCTION = %s.%I)', place,
        one.oprname, 'LEFTARG = ' || one.l || ',', one.r, place, one.proname);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  EXECUTE format('CREATE FUNCTION %s.hostile_read(text) RETURNS boolean LANGUAGE plpgsql AS %L',
    place, 'BEGIN RAISE WARNING ''hostile relation or type %'', $1; RETURN true; END');
  FOR one IN
    SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
      AND relkind IN ('r', 'v') AND relname = ANY (names)
  LOOP
    BEGIN
      EXECUTE format('CREATE VIEW %s.%I AS SELECT * FROM pg_catalog.%2$I WHERE %s.hostile_read(%L)',
        place, one.relname, place, one.relname);
    EXCEPTION WHEN OTHERS THEN NULL;  -- a column of anyarray
    END;
  END LOOP;
  FOR one IN
    SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
      AND typtype = 'b' AND typelem = 0 AND typname = ANY (names)
  LOOP
    BEGIN
      EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%2$I CHECK (%s.hostile_read(%L))',
        place, one.typname, place, one.typname);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END
$hostile$;
