-- The clock of hospitals, and that no table is left out.

INSERT INTO public.hospitals (code, name, license_no, email)
VALUES ('TEST', 'One', 'TEST', 'a@example.org');

-- an INSERT gets the time of its transaction
SELECT created_at = now() AND updated_at = now() FROM public.hospitals WHERE code = 'TEST';

UPDATE public.hospitals SET created_at = '2001-01-01', updated_at = '2001-01-01' WHERE code = 'TEST';

-- an UPDATE keeps created_at and moves updated_at, whatever is sent
SELECT created_at = now() AND updated_at > now() FROM public.hospitals WHERE code = 'TEST';

INSERT INTO public.hospitals (code, name, license_no, email, created_at, updated_at)
VALUES ('PAST', 'Two', 'PAST', 'b@example.org', '2001-01-01Z', NULL);

-- history that is given stays
-- expect: row true | true
SELECT created_at = '2001-01-01Z', updated_at = created_at FROM public.hospitals WHERE code = 'PAST';

-- every table with both columns has the trigger
-- expect: rows 0
SELECT c.relname
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
    AND 2 = (SELECT count(*) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attname IN ('created_at', 'updated_at'))
    AND NOT EXISTS (SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgfoid = 'public.set_timestamps()'::regprocedure);
